"""Benchmarks: each module but `figures` has a `run` that returns figures beside their bars."""

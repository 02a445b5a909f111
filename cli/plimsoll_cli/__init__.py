"""Plimsoll: the command line, the sandbox cluster and the load generator."""

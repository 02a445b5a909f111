"""Plimsoll: how its processes talk to the Kubernetes API server; the only importer of the `kubernetes` package there."""

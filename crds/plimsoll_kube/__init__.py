"""Plimsoll: how its processes talk to the API server. The only importer of the `kubernetes` package."""

"""A real control plane on this machine, without containers and without root: to try and to test, not for production."""

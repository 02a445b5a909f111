"""How long a step takes, and what that makes of requests."""

"""Tasks: kinds of requests found by their lengths, each with its own max_tokens and the KV cache it reserves."""

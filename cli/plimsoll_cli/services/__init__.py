"""LLMServices of a cluster as a person wants to see them: `status`, `explain` and `top`."""

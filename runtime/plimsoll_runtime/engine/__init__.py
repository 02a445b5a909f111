"""The simulated engine: vLLM's HTTP API and metrics over a scheduler and a step-time model, without a GPU."""

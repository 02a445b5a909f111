"""The Plimsoll API: pydantic models that are the only source of the `LLMService` custom resource."""

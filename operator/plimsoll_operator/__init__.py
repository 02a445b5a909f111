"""Plimsoll: the operator process that turns an LLMService into children and status."""

"""Plimsoll: what runs in a serving pod, and the simulated engine that stands in for it."""

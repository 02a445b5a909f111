"""Plimsoll: discrete-event model of a fleet of engines."""

"""Plimsoll: the recommender, a pure library from model facts to an engine configuration."""

"""What the recommender refuses, each in one line that names the field, the numbers and the fix."""

from __future__ import annotations


class RecommenderError(ValueError):
    """Input that cannot be worked with. Its text is one line a person can act on."""


class UnknownModelError(RecommenderError):
    """A model that is not in the catalogue and not a readable config.json, or whose architecture is not understood."""


class UnknownAcceleratorError(RecommenderError):
    """A GPU name that the catalogue does not hold."""


class InfeasibleError(RecommenderError):
    """No configuration satisfies the limits: the model does not fit, or the objectives cannot be met."""

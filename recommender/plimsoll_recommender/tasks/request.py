"""A request as it was observed."""

from __future__ import annotations

from dataclasses import dataclass

from plimsoll_recommender.errors import RecommenderError


@dataclass(frozen=True, slots=True)
class ObservedRequest:
    """Lengths of one finished request, in tokens.

    Args:
        input_tokens: prompt.
        output_tokens: generated; zero for a request that ended before its first token.

    Raises:
        RecommenderError: a length that is negative or not a whole number.
    """

    input_tokens: int
    output_tokens: int

    def __post_init__(self) -> None:
        for name in ("input_tokens", "output_tokens"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise RecommenderError(f"{name} of a request must be a whole number of at least 0, got {value!r}")

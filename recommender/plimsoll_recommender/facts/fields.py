"""Reading fields of a config.json, with errors that name the field and the fix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from plimsoll_recommender.errors import RecommenderError

_TEXT_SECTIONS: Final = ("text_config", "llm_config", "language_config", "thinker_config")
"""Where multimodal configurations keep the language model's settings."""

MOST_ELEMENTS: Final = 10_000_000_000
"""No single size in a config.json can be larger: it would be a typing error."""

MOST_SHOWN: Final = 60
"""Characters of a wrong value that an error repeats."""

MOST_LAYERS: Final = 4096
"""No model has more layers or drafters."""


def shown(value: object) -> str:
    """A value of a config.json in one short line."""
    text = repr(value).replace("\n", " ")
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def is_real(value: object) -> bool:
    """Whether a value is a finite number that a float can hold; a truth value is not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def positive(value: object, named: str, default: float) -> float:
    """A number above zero; the default when it is absent.

    Raises:
        RecommenderError: when it is not one.
    """
    if value is None:
        return default
    if not isinstance(value, int | float) or not is_real(value) or value <= 0:
        raise RecommenderError(f"{named} must be a number above zero, got {shown(value)}")
    return float(value)


class Fields:
    """The language model's settings of a config.json.

    Args:
        config: config.json as parsed.
        name: the model's name, for messages.

    Raises:
        RecommenderError: when it is not an object.
    """

    def __init__(self, config: Mapping[str, Any], name: str) -> None:
        if not isinstance(config, Mapping):
            raise RecommenderError(f"model {name}: config.json must be an object, got {type(config).__name__}")
        self.name = name
        self.outer = config
        self.inner = config
        for section in _TEXT_SECTIONS:
            found = self.inner.get(section)
            if isinstance(found, Mapping) and found:
                self.inner = found

    def get(self, *keys: str) -> Any:
        """The first of the keys that is present and not null, else None."""
        for place in (self.inner, self.outer):
            for key in keys:
                value = place.get(key)
                if value is not None:
                    return value
        return None

    def number(self, *keys: str, default: int | None = None, least: int = 1, most: int = MOST_ELEMENTS) -> int:
        """The first of the keys as a whole number.

        Raises:
            RecommenderError: when it is absent without a default, not a whole number, or too small or absurd.
        """
        value = self.get(*keys)
        if value is None:
            if default is None:
                raise RecommenderError(
                    f"model {self.name}: config.json has no {keys[0]}: add it, or use the config.json of the checkpoint"
                )
            return default
        if not is_real(value) or int(value) != value:
            raise RecommenderError(f"model {self.name}: {keys[0]} must be a whole number, got {shown(value)}")
        if not least <= value <= most:
            raise RecommenderError(
                f"model {self.name}: {keys[0]} is {shown(value)}, which no model has (least {least}, most {most:,}): "
                "correct config.json"
            )
        return int(value)

    def factor(self, key: str, default: float) -> float:
        """A key as a positive number.

        Raises:
            RecommenderError: when it is not one.
        """
        return positive(self.get(key), f"model {self.name}: {key}", default)

    def flag(self, key: str, default: bool = False) -> bool:
        """A key as a truth value."""
        value = self.get(key)
        return default if value is None else bool(value)

    def sequence(self, *keys: str) -> Sequence[Any] | None:
        """The first of the keys that is a list, else None."""
        value = self.get(*keys)
        return value if isinstance(value, Sequence) and not isinstance(value, str) else None

    def section(self, key: str) -> Mapping[str, Any] | None:
        """A nested object, or None."""
        value = self.get(key)
        return value if isinstance(value, Mapping) else None

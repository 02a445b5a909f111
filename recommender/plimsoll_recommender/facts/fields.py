"""Reading fields of a config.json, with errors that name the field and the fix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from plimsoll_recommender.errors import RecommenderError

_TEXT_SECTIONS: Final = ("text_config", "llm_config", "language_config", "thinker_config")
"""Where multimodal configurations keep the language model's settings."""

MOST_ELEMENTS: Final = 10_000_000_000
"""No single size in a config.json can be larger: it would be a typing error."""


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

    def number(self, *keys: str, default: int | None = None, least: int = 1) -> int:
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
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value or int(value) != value:
            raise RecommenderError(f"model {self.name}: {keys[0]} must be a whole number, got {value!r}")
        if not least <= value <= MOST_ELEMENTS:
            raise RecommenderError(
                f"model {self.name}: {keys[0]} is {value:g}, which no model has (least {least}): correct config.json"
            )
        return int(value)

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

"""Names of modules as checkpoints, ignore lists and targets write them, and sets of them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from plimsoll_recommender.errors import RecommenderError

_SYNONYMS: Final = (
    ("block_sparse_moe", "mlp"),
    ("feed_forward", "mlp"),
    ("ffn", "mlp"),
    ("shared_experts", "shared_expert"),
)


class Modules:
    """A set of module names, prefixes, globs and `re:` expressions, as ignore lists and targets are written.

    Names are compared without the wrappers that multimodal checkpoints put around the language model, and match at any
    depth: `gate` matches `layers.3.mlp.gate`, `layers.3.mlp` matches `layers.3.mlp.up_proj`.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._names: set[str] = set()
        self._expressions: list[re.Pattern[str]] = []
        for pattern in patterns:
            if pattern.startswith("re:"):
                self._expressions.append(_expression(pattern[3:]))
            elif "*" in pattern.rstrip("*"):
                self._expressions.append(re.compile(rf"(.*\.)?{fnmatch.translate(canonical_module(pattern))}"))
            elif pattern.endswith("*"):
                self._expressions.append(re.compile(rf"(.*\.)?{re.escape(canonical_module(pattern.rstrip('*')))}"))
            else:
                self._names.add(canonical_module(pattern))

    def __bool__(self) -> bool:
        return bool(self._names or self._expressions)

    def __contains__(self, module: str) -> bool:
        return any(part in self._names for part in runs_of(module)) or any(
            expression.match(canonical_module(module)) for expression in self._expressions
        )


def _expression(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(canonical_module(pattern.replace("model\\.", "").lstrip("^")))
    except re.error as error:
        raise RecommenderError(f"quantization_config: {pattern!r} is not a regular expression ({error})") from error


def canonical_module(name: str) -> str:
    """A module's name without the wrappers around a language model, in the words of `Weight.module`."""
    for prefix in ("language_model.", "model.", "language_model.", "model.", "backbone."):
        name = name.removeprefix(prefix)
    for written, canonical in _SYNONYMS:
        name = name.replace(written, canonical)
    return name


@lru_cache(maxsize=65_536)
def runs_of(module: str) -> tuple[str, ...]:
    """Every run of consecutive segments of a module's name, the longest first."""
    segments = canonical_module(module).split(".")
    count = len(segments)
    return tuple(
        ".".join(segments[start : start + size]) for size in range(count, 0, -1) for start in range(count - size + 1)
    )

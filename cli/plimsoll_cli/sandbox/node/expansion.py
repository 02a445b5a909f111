"""`$(VAR)` in command, args and env, as the API documents it (core/v1 Container.command)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

_REFERENCE: Final = re.compile(r"\$(?:\$|\(([^)]*)\))")
"""`$$`, or `$(NAME)`."""


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by the variable's value; `$$` is a literal `$`, an unknown name stays as it is written."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name is None:
            return "$"
        return variables.get(name, match.group(0))

    return _REFERENCE.sub(value, text)


def expand_all(words: Sequence[str], variables: Mapping[str, str]) -> tuple[str, ...]:
    """Expand every word of a command line; words are neither split nor joined."""
    return tuple(expand(word, variables) for word in words)

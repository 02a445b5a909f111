"""The command that asked a question, written out so that it can be asked again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any, Final

import click
from click.core import ParameterSource

PRESENTATION: Final = frozenset({"form", "file", "explain", "what_if", "manifest", "flags"})
"""Options that change how an answer is shown, not what it is."""


def command_of(context: click.Context) -> str:
    """The command line of an invocation: every option that was given and decides the answer, in long form."""
    words = [context.command_path]
    for option in context.command.params:
        if option.name in PRESENTATION or context.get_parameter_source(option.name or "") is ParameterSource.DEFAULT:
            continue
        words += _words(option, context.params[option.name or ""])
    return " ".join(words)


def _words(option: click.Parameter, value: Any) -> Iterator[str]:
    flag = next((name for name in option.opts if name.startswith("--")), option.opts[0])
    if isinstance(option, click.Option) and option.is_flag:
        if value:
            yield flag
        return
    for one in value if option.multiple else [value]:
        yield f"{flag} {shlex.quote(_text(one))}"


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        name, number = value
        shown = "" if number is None else f"{number:g}"
        return "=".join(part for part in (name, shown) if part)
    return f"{value:g}" if isinstance(value, float) else str(value)

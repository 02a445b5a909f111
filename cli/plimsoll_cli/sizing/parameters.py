"""Types of option values: durations, `NAME=VALUE` pairs."""

from __future__ import annotations

import re
from typing import Any, Final

import click

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_DURATION: Final = re.compile(rf"(?:{_PART.pattern})+")


class DurationType(click.ParamType[float]):
    """A duration such as `800ms` or `1m30s`, as seconds; a bare number is seconds.

    The API's own parser reads the same texts, but its import brings the API's models and takes longer than an answer.
    """

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, int | float):
            return float(value)
        text = value.strip()
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text)
        if not _DURATION.fullmatch(text):
            self.fail(f"{value!r} is not a duration: write 800ms, 2s or 1m30s", param, ctx)
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


class PairType(click.ParamType[tuple[str, float | None]]):
    """`NAME` or `NAME=NUMBER`, as (name, number).

    Args:
        meaning: what the number is, for error texts.
        example: a value to show.
        required: whether the number must be given.
        whole: whether it must be a whole number.
    """

    name = "name=number"

    def __init__(self, meaning: str, example: str, *, required: bool = False, whole: bool = False) -> None:
        self._meaning = meaning
        self._example = example
        self._required = required
        self._whole = whole

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float | None]:
        """(name, number)."""
        if isinstance(value, tuple):
            return value
        name, given, text = value.partition("=")
        if not name.strip() or (self._required and not given):
            self.fail(f"{value!r}: write {self._example}", param, ctx)
        if not given:
            return name.strip(), None
        try:
            number = int(text) if self._whole else float(text)
        except ValueError:
            self.fail(f"{text!r} is not {self._meaning}: write {self._example}", param, ctx)
        return name.strip(), number


class PerNodeType(PairType):
    """`NUMBER` for every accelerator, or `NAME=NUMBER` for one."""

    name = "[name=]number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float | None]:
        """(name or empty for all, number)."""
        if isinstance(value, str) and "=" not in value:
            _, number = super().convert(f"all={value}", param, ctx)
            return "", number
        return super().convert(value, param, ctx)


DURATION: Final = DurationType()
PRICED: Final = PairType("a price per GPU-hour", "H100=2.50")
COUNTED: Final = PairType("a number of GPUs", "H100=16", required=True, whole=True)
SHARED: Final = PairType("a share of the GPU's memory", "H100=0.87", required=True)
SEQUENCES: Final = PairType("a number of sequences", "H100=64", required=True, whole=True)
PER_NODE: Final = PerNodeType("a number of GPUs", "8 or H100=8", required=True, whole=True)

"""What a benchmark returns: figures beside the bars they are held against."""

from __future__ import annotations

import operator as op
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

Comparison = Literal["<=", ">=", "=="]
_COMPARE: Final = {"<=": op.le, ">=": op.ge, "==": op.eq}


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Args:
        name: what was measured, as the table prints it.
        value: the measurement.
        unit: its unit, such as `s`, `requests` or `%`.
        bar: the value it is held against, or None when there is none.
        comparison: how value and bar compare when the bar is met.
        detail: how it was measured: counts, seeds, spread.
    """

    name: str
    value: float
    unit: str
    bar: float | None = None
    comparison: Comparison = "<="
    detail: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None when there is no bar."""
        return None if self.bar is None else bool(_COMPARE[self.comparison](self.value, self.bar))

    def as_json(self) -> dict[str, Any]:
        """The figure with its verdict, ready for JSON."""
        return {**asdict(self), "met": self.met}


@dataclass(frozen=True)
class Context:
    """What a benchmark is given.

    Args:
        data: folder of calibration data, or None when absent (then say what is skipped).
        output: folder for the benchmark's own files.
        quick: run a short version (for checking that the benchmark itself works).
        seed: seed of everything random.
    """

    data: Path | None
    output: Path
    quick: bool = False
    seed: int = 7
    skipped: list[str] = field(default_factory=list)

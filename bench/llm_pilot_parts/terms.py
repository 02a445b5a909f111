"""Parts of the error that LLM-Pilot's LLMs have, by what a forecast rests on."""

from __future__ import annotations

from typing import Final, Literal

from bench.llm_pilot_parts.physics import CONSTANTS

from plimsoll_recommender.transfer.covariance import Factor, Linear, Same, Smooth, Term, Within

Knowledge = Literal["physics", "learned", "both"]
"""What predictions rest on: physics with its constants alone, labels and sizes alone, or both."""

OCTAVES: Final = 2.5
"""Octaves of users over which errors stay alike: the measured numbers of users span seven."""

_LOAD: Final = Smooth("users", OCTAVES)
_KERNELS: Final = Same("kernels", otherwise=0.5)
"""Other implementations of the same engine err half alike."""


def _this_llm(variance: float) -> tuple[Term, ...]:
    """What one LLM alone has: less where the engine's own layers serve it than where a library's do."""
    parts: tuple[tuple[str, tuple[Factor, ...]], ...] = (
        ("this LLM", ()),
        ("this LLM under load", (_LOAD,)),
        ("this LLM on this profile", (Same("profile"), Smooth("users", 1.5))),
    )
    return tuple(
        Term(f"{name}, {batch}", (Within(), Linear((batch,)), *factors), variance)
        for name, factors in parts
        for batch in ("flash", "padded")
    )


def _common(variance: float) -> tuple[Term, ...]:
    """What LLMs have in common that physics does not say; it says most, so that little is expected of each part."""
    return (
        Term("level", (), 2 * variance),
        Term("implementation", (_KERNELS, _LOAD), 2 * variance),
        Term("GPU", (Same("gpu"), _LOAD), variance),
        Term("GPU and implementation", (Same("gpu"), _KERNELS, _LOAD), variance),
        Term("profile and implementation", (Same("profile"), _KERNELS, _LOAD), variance),
        Term("splitting and implementation", (Same("split"), _KERNELS, _LOAD), variance),
        Term("size", (Smooth("size", 1.0), _LOAD), variance),
    )


_FULLNESS: Final = (Smooth("fullness", 1.0), Smooth("prompts", 1.0))
BY_CONSTANT: Final = tuple(constant.name for constant in CONSTANTS)
"""Features that hold the slopes of the law by its constants."""

TERMS: Final[dict[Knowledge, tuple[Term, ...]]] = {
    "physics": (Term("constants", (Linear(BY_CONSTANT),), 1.0), *_this_llm(0.005)),
    "learned": (*_common(0.1), *_this_llm(0.03)),
    "both": (
        Term("constants", (Linear(BY_CONSTANT),), 1.0),
        *_common(0.005),
        Term("memory and implementation", (_KERNELS, *_FULLNESS), 0.01),
        Term("memory and padding", (Same("padding"), *_FULLNESS), 0.01),
        *_this_llm(0.005),
    ),
}
"""Parts of the error by what predictions rest on. Only their variances are fitted, on training LLMs."""

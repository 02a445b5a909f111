"""Plimsoll's entry to LLM-Pilot's task: physics of the unseen LLM, corrected by what the other nine LLMs taught."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from bench.llm_pilot_parts.measurements import Curve, Point, Recorded, Table
from bench.llm_pilot_parts.physics import SHAPES, Expected, expect, gpus_of, weight_bytes
from bench.llm_pilot_parts.score import (
    ITL_LIMIT,
    NTTFT_LIMIT,
    Choice,
    cheapest,
    outcome,
    pods_for,
    users_within,
)
from numpy.typing import NDArray

from plimsoll_recommender.transfer.choice import choose
from plimsoll_recommender.transfer.covariance import Rows, Same, Smooth, Term, Within
from plimsoll_recommender.transfer.residual import Posterior, Residual, fit

Knowledge = Literal["physics", "learned", "both"]
"""What predictions rest on: physics with one factor for all, labels and sizes alone, or physics with its residuals."""

Target = Literal["itl", "nttft"]
TARGETS: Final[tuple[Target, Target]] = ("itl", "nttft")

CAUTIONS: Final = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
"""Standard deviations added to predictions, among which the training LLMs choose: 0 is the median, 1.5 nine in ten."""

DRAWS: Final = 4000
"""Scenarios drawn of what an unseen LLM may be."""

OCTAVES: Final = 2.5
"""Octaves of users over which errors stay alike: the measured numbers of users span seven."""

NEUTRAL: Final[dict[Target, float]] = {"itl": 30.0, "nttft": 5.0}
"""Milliseconds expected without physics: the middle of the task's range."""

_LOAD: Final = Smooth("users", OCTAVES)
_KERNELS: Final = Same("kernels", otherwise=0.5)
"""Other implementations of the same engine err half alike."""
_THIS_LLM: Final = (
    Term("this LLM", (Within(),), 0.05),
    Term("this LLM under load", (Within(), _LOAD), 0.03),
    Term("this LLM on this profile", (Within(), Same("profile"), Smooth("users", 1.5)), 0.02),
)
COMMON_TERMS: Final = (
    Term("level", (), 0.3),
    Term("implementation", (_KERNELS, _LOAD), 0.2),
    Term("GPU", (Same("gpu"), _LOAD), 0.05),
    Term("GPU and implementation", (Same("gpu"), _KERNELS, _LOAD), 0.05),
    Term("profile and implementation", (Same("profile"), _KERNELS, _LOAD), 0.05),
    Term("profile and flash attention", (Same("profile"), Same("flash"), _LOAD), 0.05),
    Term("splitting and implementation", (Same("split"), _KERNELS, _LOAD), 0.05),
    Term("size", (Smooth("size", 1.0), _LOAD), 0.05),
    *_THIS_LLM,
)
"""Parts of the error that need no physics. Only their variances are fitted, on training LLMs."""

TERMS: Final[dict[Knowledge, tuple[Term, ...]]] = {
    "physics": (Term("level", (), 0.5), *_THIS_LLM),
    "learned": COMMON_TERMS,
    "both": (
        *COMMON_TERMS,
        Term("memory and implementation", (_KERNELS, Smooth("fullness", 1.0), Smooth("prompts", 1.0)), 0.1),
        Term("memory and flash attention", (Same("flash"), Smooth("fullness", 1.0), Smooth("prompts", 1.0)), 0.1),
    ),
}
"""Parts of the error by what predictions rest on."""


@dataclass(frozen=True)
class Run:
    """A run as it is known beforehand."""

    llm: str
    profile: str
    users: int


@dataclass(frozen=True)
class Forecast:
    """What is expected of an LLM none of whose measurements were used.

    Args:
        runs: its profiles and numbers of users.
        logs: natural logarithms of the medians in milliseconds, by target.
    """

    runs: tuple[Run, ...]
    logs: dict[Target, Posterior]

    def curves(self, caution: float = 0.0) -> dict[str, Curve]:
        """Medians by profile, raised by a number of standard deviations."""
        bounds = {target: np.exp(found.bound(caution)) for target, found in self.logs.items()}
        curves: dict[str, list[Point]] = {}
        for index, run in enumerate(self.runs):
            point = Point(run.users, float(bounds["nttft"][index]), float(bounds["itl"][index]))
            curves.setdefault(run.profile, []).append(point)
        return {profile: tuple(points) for profile, points in curves.items()}

    def expected_choice(self, prices: dict[str, float], seed: int = 7) -> Choice | None:
        """The profile and pods of greatest expected value over scenarios drawn of what the LLM may be."""
        samples = {
            target: np.exp(found.draws(DRAWS, seed + index)) for index, (target, found) in enumerate(self.logs.items())
        }
        unbroken = (samples["itl"] <= ITL_LIMIT) & (samples["nttft"] <= NTTFT_LIMIT)
        options, carries = [], []
        for profile in dict.fromkeys(run.profile for run in self.runs):
            at = [index for index, run in enumerate(self.runs) if run.profile == profile]
            # A pod carries a number of users when the limits hold for them and for every smaller number.
            held = np.logical_and.accumulate(unbroken[:, at], axis=1)
            options += [Choice(profile, pods_for(self.runs[index].users)) for index in at]
            carries.append(held)
        costs = np.array([option.pods * prices[option.profile] for option in options])
        chosen = choose(costs, np.concatenate(carries, axis=1))
        return options[chosen.index] if chosen.success else None

    def choice(self, caution: float, prices: dict[str, float]) -> Choice | None:
        """The cheapest profile and pods by those medians."""
        return cheapest({profile: users_within(curve) for profile, curve in self.curves(caution).items()}, prices)


@dataclass(frozen=True)
class Teacher:
    """What the training LLMs teach. Nothing of any other LLM's measurements is in it.

    Args:
        recorded: the data set; only the training LLMs' measurements are read.
        training: LLMs that may be learned from.
        knowledge: what predictions rest on.
    """

    recorded: Recorded
    training: tuple[str, ...]
    knowledge: Knowledge = "both"

    @cached_property
    def lengths(self) -> tuple[float, float]:
        """Mean (prompt, output) tokens of the training LLMs' requests: the unseen LLM's are not known beforehand."""
        return (
            float(np.mean([self.recorded.input_tokens[llm] for llm in self.training])),
            float(np.mean([self.recorded.output_tokens[llm] for llm in self.training])),
        )

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Training runs."""
        return runs_of(self.training, self.recorded.measured)

    @cached_property
    def processes(self) -> dict[Target, Residual]:
        """The errors of what is expected, learned and calibrated, by target."""
        rows = self._rows(self.runs)
        found: dict[Target, Residual] = {}
        for target in TARGETS:
            measured = _logarithms(self.runs, self.recorded.measured, target)
            residuals = measured - self._expected(self.runs, target)
            found[target] = fit(rows, residuals, TERMS[self.knowledge]).calibrated()
        return found

    @cached_property
    def caution(self) -> float:
        """Standard deviations to add: those with which the training LLMs, each left out in turn, fare best.

        An LLM fares as well as the least cost is of what was spent, and nothing when its users are not carried. Among
        equals the least caution.
        """
        forecasts = {llm: self._left_out(llm) for llm in self.training}

        def fares(caution: float) -> float:
            outcomes = [
                outcome(found.choice(caution, self.recorded.prices), self.recorded.measured[llm], self.recorded.prices)
                for llm, found in forecasts.items()
            ]
            return sum(1 / (1 + one.overspend) for one in outcomes if one.success)

        return max(CAUTIONS, key=lambda caution: (round(fares(caution), 9), -caution))

    def forecast(self, llm: str) -> Forecast:
        """What to expect of an unseen LLM: of its measurements only the profiles and numbers of users are looked at.

        Which profiles can serve it at all is given by the task: profiles without measurements are not on offer.
        """
        runs = runs_of((llm,), self.recorded.measured)
        rows = self._rows(runs)
        return self._forecast(runs, {target: process.predict(rows) for target, process in self.processes.items()})

    def _left_out(self, llm: str) -> Forecast:
        """What the other training LLMs say of one of them."""
        runs = tuple(run for run in self.runs if run.llm == llm)
        return self._forecast(runs, {target: process.left_out(llm)[1] for target, process in self.processes.items()})

    def _forecast(self, runs: tuple[Run, ...], residuals: dict[Target, Posterior]) -> Forecast:
        return Forecast(
            runs,
            {
                target: Posterior(found.mean + self._expected(runs, target), found.covariance)
                for target, found in residuals.items()
            },
        )

    def _physics(self, runs: Sequence[Run]) -> list[Expected]:
        return [expect(run.llm, run.profile, run.users, *self.lengths) for run in runs]

    def _expected(self, runs: Sequence[Run], target: Target) -> NDArray[Any]:
        """Natural logarithms of what is expected before learning, milliseconds (nTTFT: per prompt token)."""
        if self.knowledge == "learned":
            return np.full(len(runs), math.log(NEUTRAL[target]))
        prompt = self.lengths[0]
        values = [one.itl if target == "itl" else one.ttft / prompt for one in self._physics(runs)]
        return np.log(1e3 * np.array(values))

    def _rows(self, runs: Sequence[Run]) -> Rows:
        """Features of runs; numbers in octaves."""
        physics = self._physics(runs)
        return Rows(
            groups=tuple(run.llm for run in runs),
            numbers={
                "users": np.log2([run.users for run in runs]),
                "size": np.log2([weight_bytes(run.llm) for run in runs]),
                # Ample memory is ample however ample, and one prompt in many steps is as good as none.
                "fullness": np.log2([1.0 + one.fullness for one in physics]),
                "prompts": np.log2([1.0 + one.prompts for one in physics]),
            },
            labels={
                "gpu": tuple(gpus_of(run.profile)[1] for run in runs),
                "profile": tuple(run.profile for run in runs),
                "split": tuple("several" if gpus_of(run.profile)[0] > 1 else "one" for run in runs),
                "kernels": tuple(SHAPES[run.llm].kernels for run in runs),
                "flash": tuple(str(SHAPES[run.llm].kernels == "flash") for run in runs),
            },
        )


@dataclass(frozen=True)
class Entry:
    """The entry for one LLM.

    Args:
        forecast: what is expected of it.
        choice: the recommendation: greatest expected value.
        caution: standard deviations that fare best on the training LLMs.
        cautious: the cheapest option with predictions raised by them, the other way to decide.
    """

    forecast: Forecast
    choice: Choice | None
    caution: float
    cautious: Choice | None


def entry_for(llm: str, recorded: Recorded, knowledge: Knowledge = "both") -> Entry:
    """The entry for one LLM, from all others."""
    teacher = Teacher(recorded, tuple(other for other in recorded.measured if other != llm), knowledge)
    forecast, prices = teacher.forecast(llm), recorded.prices
    return Entry(forecast, forecast.expected_choice(prices), teacher.caution, forecast.choice(teacher.caution, prices))


def runs_of(llms: Iterable[str], measured: Table) -> tuple[Run, ...]:
    """Runs of LLMs, without what was measured."""
    return tuple(
        Run(llm, profile, point.users) for llm in llms for profile, curve in measured[llm].items() for point in curve
    )


def _logarithms(runs: Sequence[Run], measured: Table, target: Target) -> NDArray[Any]:
    """Natural logarithms of the measured medians, milliseconds."""
    values = {
        (llm, profile, point.users): point.itl if target == "itl" else point.nttft
        for llm in {run.llm for run in runs}
        for profile, curve in measured[llm].items()
        for point in curve
    }
    logs: NDArray[Any] = np.log([values[run.llm, run.profile, run.users] for run in runs])
    return logs

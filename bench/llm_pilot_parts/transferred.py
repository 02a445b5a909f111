"""Plimsoll's entry to LLM-Pilot's task: physics with learned constants, and what it still errs by, from other LLMs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from bench.llm_pilot_parts.measurements import Curve, Point, Recorded, Table
from bench.llm_pilot_parts.physics import CONSTANTS, Closed, Expected, Run
from bench.llm_pilot_parts.score import ITL_LIMIT, NTTFT_LIMIT, Choice, cheapest, pods_for, score, users_within
from bench.llm_pilot_parts.shapes import SHAPES, gpus_of
from bench.llm_pilot_parts.terms import BY_CONSTANT, TERMS, Knowledge
from numpy.typing import NDArray

from plimsoll_recommender.transfer.choice import Worth, choose, less_overspend, price_of_overspend
from plimsoll_recommender.transfer.constants import apart, fit_constants, slopes
from plimsoll_recommender.transfer.covariance import Rows
from plimsoll_recommender.transfer.residual import Posterior, Residual, fit

Target = Literal["itl", "nttft"]
TARGETS: Final[tuple[Target, Target]] = ("itl", "nttft")

LIMITS: Final[dict[Target, float]] = {"itl": ITL_LIMIT, "nttft": NTTFT_LIMIT}

BEYOND: Final = 4.0
"""Times a limit above which measurements count as that much: they are past it, and some come of runs that failed."""

TOLERANCES: Final = {"itl": 0.15, "nttft": 0.25, "rate": 0.2}
"""Relative errors that the law is allowed, by what it expects: what its form leaves out."""

PRICE_ROUNDS: Final = 3
"""Times that the price of overspend is set by how the training LLMs fare at the one before."""

DRAWS: Final = 4000
"""Scenarios drawn of what an unseen LLM may be."""

NEUTRAL: Final[dict[Target, float]] = {"itl": 30.0, "nttft": 5.0}
"""Milliseconds expected without physics: the middle of the task's range."""


@dataclass(frozen=True)
class Forecast:
    """What is expected of an LLM none of whose measurements were used.

    Args:
        runs: its profiles and numbers of users.
        logs: natural logarithms of the medians in milliseconds, by target.
        price: of overspend, where the training LLMs stand.
    """

    runs: tuple[Run, ...]
    logs: dict[Target, Posterior]
    price: float = 1.0

    def curves(self) -> dict[str, Curve]:
        """Medians by profile."""
        medians = {target: np.exp(found.mean) for target, found in self.logs.items()}
        curves: dict[str, list[Point]] = {}
        for index, run in enumerate(self.runs):
            point = Point(run.users, float(medians["nttft"][index]), float(medians["itl"][index]))
            curves.setdefault(run.profile, []).append(point)
        return {profile: tuple(points) for profile, points in curves.items()}

    def carried(self, seed: int) -> dict[str, NDArray[Any]]:
        """Whether a pod of each profile carries each of its numbers of users, shape (scenarios, numbers)."""
        samples = {target: found.draws(DRAWS, seed + index) for index, (target, found) in enumerate(self.logs.items())}
        within = {target: draws <= math.log(LIMITS[target]) for target, draws in samples.items()}
        unbroken = within["itl"] & within["nttft"]
        # A pod carries a number of users when the limits hold for them and for every smaller number.
        return {
            profile: np.logical_and.accumulate(unbroken[:, list(at)], axis=1) for profile, at in self.profiles.items()
        }

    @property
    def profiles(self) -> dict[str, tuple[int, ...]]:
        """Indices of the runs of each profile, users rising."""
        found: dict[str, list[int]] = {}
        for index, run in enumerate(self.runs):
            found.setdefault(run.profile, []).append(index)
        return {profile: tuple(at) for profile, at in found.items()}

    def expected_choice(self, prices: Mapping[str, float], worth: Worth | None = None, seed: int = 7) -> Choice | None:
        """The profile and pods of greatest expected worth over scenarios drawn of what the LLM may be."""
        worth = worth or less_overspend(self.price)
        options = [
            Choice(profile, pods_for(self.runs[index].users)) for profile, at in self.profiles.items() for index in at
        ]
        carries = np.concatenate(list(self.carried(seed).values()), axis=1)
        costs = np.array([option.pods * prices[option.profile] for option in options])
        chosen = choose(costs, carries, worth)
        return options[chosen.index] if chosen.success else None

    def median_choice(self, prices: dict[str, float]) -> Choice | None:
        """The cheapest profile and pods with medians taken as they are."""
        return cheapest({profile: users_within(curve) for profile, curve in self.curves().items()}, prices)


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
    def runs(self) -> tuple[Run, ...]:
        """Training runs."""
        return runs_of(self.training, self.recorded.measured)

    @cached_property
    def lengths(self) -> tuple[float, float]:
        """Typical (prompt, output) tokens of the training LLMs' requests: the unseen one's are not known beforehand."""
        seen = [
            [requests for (of, _, _), requests in self.recorded.requests.items() if of == llm] for llm in self.training
        ]
        prompt = float(np.median([np.mean([one.prompt for one in each]) for each in seen]))
        return prompt, float(np.median([np.mean([one.output for one in each]) for each in seen]))

    @cached_property
    def constants(self) -> dict[str, float]:
        """Constants of physics with which it comes nearest to the training runs."""
        closed = self._closed(self.runs)
        rates = [self.recorded.requests.get((run.llm, run.profile, run.users)) for run in self.runs]
        counted = np.array([index for index, found in enumerate(rates) if found is not None])
        measured = {target: self._measured(self.runs, target) for target in TARGETS}
        rate = np.log([found.rate for found in rates if found is not None])

        def law(values: Mapping[str, float]) -> NDArray[Any]:
            found = closed.expect(values)
            return np.concatenate([found.itl, found.nttft, found.rate[counted]])

        tolerances = [TOLERANCES[target] for target in TARGETS for _ in self.runs] + [TOLERANCES["rate"]] * len(rate)
        return fit_constants(
            CONSTANTS, law, np.concatenate([*measured.values(), rate]), np.array(tolerances, dtype=float)
        )

    @cached_property
    def processes(self) -> dict[Target, Residual]:
        """The errors of what is expected, learned and calibrated, by target."""
        found: dict[Target, Residual] = {}
        for target in TARGETS:
            rows, expected = self._rows(self.runs, target)
            found[target] = fit(rows, self._measured(self.runs, target) - expected, TERMS[self.knowledge]).calibrated()
        return found

    def forecast(self, llm: str) -> Forecast:
        """What to expect of an unseen LLM: of its measurements only the profiles and numbers of users are looked at.

        Which profiles can serve it at all is given by the task: profiles without measurements are not on offer.
        """
        runs = runs_of((llm,), self.recorded.measured)
        logs: dict[Target, Posterior] = {}
        for target, process in self.processes.items():
            rows, expected = self._rows(runs, target)
            found = process.predict(rows)
            logs[target] = Posterior(found.mean + expected, found.covariance)
        return Forecast(runs, logs, self.price)

    @cached_property
    def price(self) -> float:
        """The price of overspend by how the training LLMs, each left out in turn, fare when it is charged."""
        forecasts = {llm: self.left_out(llm) for llm in self.training}
        price = 1.0
        for _ in range(PRICE_ROUNDS):
            worth = less_overspend(price)
            found = score(
                {llm: one.expected_choice(self.recorded.prices, worth) for llm, one in forecasts.items()}, self.recorded
            )
            price = price_of_overspend(found.success, found.overspend)
        return price

    def left_out(self, llm: str) -> Forecast:
        """What the other training LLMs say of one of them, the inner loop by which parts of the error were chosen."""
        runs = tuple(run for run in self.runs if run.llm == llm)
        logs: dict[Target, Posterior] = {}
        for target, process in self.processes.items():
            at, found = process.left_out(llm)
            logs[target] = Posterior(found.mean + self._rows(self.runs, target)[1][at], found.covariance)
        return Forecast(runs, logs)

    def _closed(self, runs: Sequence[Run]) -> Closed:
        """Runs with the lengths of their requests where those may be learned from, and typical ones elsewhere."""
        prompt, output = self.lengths
        lengths = []
        for run in runs:
            seen = self.recorded.requests.get((run.llm, run.profile, run.users)) if run.llm in self.training else None
            lengths.append((seen.prompt, seen.output) if seen else (prompt, output))
        prompts, outputs = np.array(lengths, dtype=float).T
        return Closed(runs, prompts, outputs)

    def _measured(self, runs: Sequence[Run], target: Target) -> NDArray[Any]:
        """Natural logarithms of measured medians, milliseconds."""
        values = {
            Run(llm, profile, point.users): point.itl if target == "itl" else point.nttft
            for llm in dict.fromkeys(run.llm for run in runs)
            for profile, curve in self.recorded.measured[llm].items()
            for point in curve
        }
        logs: NDArray[Any] = np.log(np.minimum([values[run] for run in runs], BEYOND * LIMITS[target]))
        return logs

    def _rows(self, runs: Sequence[Run], target: Target) -> tuple[Rows, NDArray[Any]]:
        """Features of runs, numbers in octaves, and the logarithm of what is expected before errors are learned.

        What is expected is the law with the constants that were expected of it, on the straight line through the
        fitted ones. How far they moved is left for the process to find: leaving an LLM out then drops its say.
        """
        numbers: dict[str, NDArray[Any]] = {
            "users": np.log2([run.users for run in runs]),
            "size": np.log2([SHAPES[run.llm].weight_bytes for run in runs]),
            "flash": np.array([0.0 if SHAPES[run.llm].padded else 1.0 for run in runs]),
            "padded": np.array([1.0 if SHAPES[run.llm].padded else 0.0 for run in runs]),
        }
        expected = np.full(len(runs), math.log(NEUTRAL[target]))
        if self.knowledge != "learned":
            closed = self._closed(runs)
            found = closed.expect(self.constants)
            moved = slopes(CONSTANTS, lambda values: _of(closed.expect(values), target), self.constants)
            expected = _of(found, target) - moved @ apart(CONSTANTS, self.constants)
            # Ample memory is ample however ample, and one prompt in many steps is as good as none.
            numbers["fullness"] = np.log2(1.0 + closed.users / found.slots)
            numbers["prompts"] = np.log2(1.0 + found.prompts)
            numbers.update(zip(BY_CONSTANT, moved.T, strict=True))
        labels = {
            "gpu": tuple(gpus_of(run.profile)[1] for run in runs),
            "profile": tuple(run.profile for run in runs),
            "split": tuple("several" if gpus_of(run.profile)[0] > 1 else "one" for run in runs),
            "kernels": tuple(SHAPES[run.llm].kernels for run in runs),
            "padding": tuple(str(SHAPES[run.llm].padded) for run in runs),
        }
        return Rows(tuple(run.llm for run in runs), numbers, labels), expected


def teacher_for(llms: Iterable[str], recorded: Recorded, knowledge: Knowledge = "both") -> Teacher:
    """What all LLMs but these teach."""
    unseen = frozenset(llms)
    return Teacher(recorded, tuple(llm for llm in recorded.measured if llm not in unseen), knowledge)


def runs_of(llms: Iterable[str], measured: Table) -> tuple[Run, ...]:
    """Runs of LLMs, without what was measured."""
    return tuple(
        Run(llm, profile, point.users) for llm in llms for profile, curve in measured[llm].items() for point in curve
    )


def _of(found: Expected, target: Target) -> NDArray[Any]:
    return found.itl if target == "itl" else found.nttft

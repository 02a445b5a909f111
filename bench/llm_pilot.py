"""LLM-Pilot's task (Lazuka et al., SC'24): the cheapest GPU profile and pods for an LLM that was never measured.

Protocol: each of the ten LLMs is left out in turn. From the measurements of the other nine, the sizes of all and a law
of the engine, its median ITL and nTTFT are forecast on every profile on offer with a joint posterior. Recommended is
the option of greatest expected worth over scenarios drawn from it, worth being what the score makes of it: 1 less the
overspend at a price where the users are carried, nothing where they are not. The price is the slope of the score where
the nine stand, each left out in turn. It, constants, variances, spread and request lengths come from the nine only;
seeds are fixed.

What is not blind: the form of the law and the parts that its error may have were settled with the whole table in view,
the parts by how LLMs forecast each other (`left_out`), which over ten turns is nearly the same table. The page on
measured transfer lists every variant whose score was looked at. Scores under resampled LLMs, other seeds and two LLMs
left out at once stand beside the headline for that reason.

Controls: the scorer must give the seven published recommenders and the static policy their published scores exactly;
and an LLM's recommendation must not change when its own measurements are shuffled.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Final

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from bench.figures import Context, Figure
from bench.llm_pilot_parts.measurements import METHODS, Point, Recorded, Requests, Table, read
from bench.llm_pilot_parts.score import (
    Choice,
    Outcome,
    Score,
    of_outcomes,
    outcome,
    percentage_errors,
    published_choices,
    score,
    static_policy,
    users_within,
)
from bench.llm_pilot_parts.terms import Knowledge
from bench.llm_pilot_parts.transferred import Forecast, Teacher, teacher_for
from plimsoll_recommender.transfer.choice import less_overspend, thrift

PUBLISHED_BEST: Final = 0.80
"""S/O of LLM-Pilot itself, the best published."""

ABLATIONS: Final[tuple[Knowledge, ...]] = ("physics", "learned")

SEEDS: Final = tuple(range(10))
"""Seeds of the scenarios, among which a recommendation should not waver."""

RESAMPLES: Final = 10_000
"""Sets of ten LLMs drawn with replacement from the ten."""


def run(context: Context) -> list[Figure]:
    """Scores of ours and of the published recommenders, errors, each LLM, stability, ablations and controls."""
    folder = context.data / "perf" / "llm_pilot" if context.data else None
    if folder is None or not folder.is_dir():
        context.skipped.append("LLM-Pilot's task: perf/llm_pilot is not in the data")
        return []
    recorded = read(folder)
    figures = [_scorer_control(recorded)]
    # Small matrices: more threads only wait for each other.
    with threadpool_limits(1):
        teachers = {llm: teacher_for((llm,), recorded) for llm in recorded.measured}
        forecasts = {llm: teacher.forecast(llm) for llm, teacher in teachers.items()}
        figures += _entry_figures("Plimsoll", forecasts, recorded, bar=PUBLISHED_BEST)
        figures += _published_figures(recorded)
        figures += _llm_figures(forecasts, recorded)
        figures += _stability_figures(forecasts, recorded, context.seed)
        figures.append(_inner_figure(teachers.values(), recorded))
        if context.quick:
            context.skipped.append("two LLMs left out at once, ablations and the control of leaks (--quick)")
            return figures
        figures.append(_two_left_out(recorded))
        for knowledge in ABLATIONS:
            figures += _entry_figures(f"{knowledge} only", _forecasts(recorded, knowledge), recorded)
        figures.append(_leak_control(forecasts, recorded, context.seed))
    return figures


def _forecasts(recorded: Recorded, knowledge: Knowledge) -> dict[str, Forecast]:
    return {llm: teacher_for((llm,), recorded, knowledge).forecast(llm) for llm in recorded.measured}


def _described(found: Score) -> str:
    return f"success {found.success:.0%}, overspend {found.overspend:.0%}"


def _choices(forecasts: Mapping[str, Forecast], recorded: Recorded, seed: int = 7) -> dict[str, Choice | None]:
    return {llm: found.expected_choice(recorded.prices, seed=seed) for llm, found in forecasts.items()}


def _entry_figures(
    name: str, forecasts: Mapping[str, Forecast], recorded: Recorded, bar: float | None = None
) -> list[Figure]:
    found = score(_choices(forecasts, recorded), recorded)
    bounded = score({llm: one.expected_choice(recorded.prices, thrift) for llm, one in forecasts.items()}, recorded)
    even = score(
        {llm: one.expected_choice(recorded.prices, less_overspend()) for llm, one in forecasts.items()}, recorded
    )
    charged = [one.price for one in forecasts.values()]
    plain = score({llm: one.median_choice(recorded.prices) for llm, one in forecasts.items()}, recorded)
    medians = {llm: one.curves() for llm, one in forecasts.items()}
    detail = (
        f"{_described(found)}, overspend at {min(charged):.2f} to {max(charged):.2f}; by the other rules: "
        f"overspend at 1 {even.both:.2f} ({_described(even)}), "
        f"bounded worth {bounded.both:.2f} ({_described(bounded)}), "
        f"medians {plain.both:.2f} ({_described(plain)})"
    )
    return [
        Figure(f"S/O, {name}", found.both, "", bar, ">=", detail),
        *_errors(name, medians, recorded),
        _users_error(name, medians, recorded),
    ]


def _stability_figures(forecasts: Mapping[str, Forecast], recorded: Recorded, seed: int) -> list[Figure]:
    """The score with other draws of scenarios, and with other LLMs drawn from the ten."""
    by_seed = [score(_choices(forecasts, recorded, seed), recorded).both for seed in SEEDS]
    outcomes = _outcomes(_choices(forecasts, recorded), recorded)
    draw = random.Random(seed)
    resampled = sorted(of_outcomes(draw.choices(outcomes, k=len(outcomes))).both for _ in range(RESAMPLES))
    low, high = resampled[RESAMPLES // 20], resampled[-RESAMPLES // 20]
    above = sum(one > PUBLISHED_BEST for one in resampled) / RESAMPLES
    return [
        Figure(
            "S/O, median over seeds",
            statistics.median(by_seed),
            "",
            detail=f"{min(by_seed):.2f} to {max(by_seed):.2f} over {len(by_seed)} seeds of the scenarios",
        ),
        Figure(
            "S/O, median over resampled LLMs",
            statistics.median(resampled),
            "",
            detail=f"nine in ten of {RESAMPLES} resamples within {low:.2f} to {high:.2f}; {above:.0%} above "
            f"{PUBLISHED_BEST:.2f}",
        ),
    ]


def _outcomes(choices: Mapping[str, Choice | None], recorded: Recorded) -> list[Outcome]:
    return [outcome(choice, recorded.measured[llm], recorded.prices) for llm, choice in choices.items()]


def _two_left_out(recorded: Recorded) -> Figure:
    """The score when every pair of LLMs is forecast from the other eight: each LLM nine times, from less."""
    outcomes: list[Outcome] = []
    pairs = list(combinations(recorded.measured, 2))
    for pair in pairs:
        teacher = teacher_for(pair, recorded)
        outcomes += _outcomes(_choices({llm: teacher.forecast(llm) for llm in pair}, recorded), recorded)
    found = of_outcomes(outcomes)
    detail = f"{_described(found)}; {len(outcomes)} recommendations from {len(pairs)} pairs"
    return Figure("S/O, two LLMs left out", found.both, "", detail=detail)


def _inner_figure(teachers: Iterable[Teacher], recorded: Recorded) -> Figure:
    """What the parts of the error were chosen by: how probable training LLMs find what one of them left out carries."""
    logs = [
        statistics.mean(_log_score(teacher.left_out(llm), llm, recorded) for llm in teacher.training)
        for teacher in teachers
    ]
    detail = f"mean ln(probability) of the users that a pod carries; {min(logs):.2f} to {max(logs):.2f} over the turns"
    return Figure("inner log score", statistics.mean(logs), "", detail=detail)


def _log_score(forecast: Forecast, llm: str, recorded: Recorded, seed: int = 11) -> float:
    found = []
    for profile, held in forecast.carried(seed).items():
        curve = recorded.measured[llm][profile]
        numbers = sum(point.users <= users_within(curve) for point in curve)
        # Half a scenario more for every number of users: no outcome is impossible.
        hits = float((held.sum(axis=1) == numbers).sum()) + 0.5
        found.append(math.log(hits / (len(held) + 0.5 * (held.shape[1] + 1))))
    return statistics.mean(found)


def _published_figures(recorded: Recorded) -> list[Figure]:
    figures = []
    for method in METHODS:
        found = score(published_choices(method, recorded), recorded)
        figures.append(Figure(f"S/O, {method}", found.both, "", detail=_described(found)))
        figures += _errors(method, recorded.published[method], recorded)
        figures.append(_users_error(method, recorded.published[method], recorded))
    static = score(static_policy(recorded), recorded)
    figures.append(Figure("S/O, static policy", static.both, "", detail=f"{_described(static)}; best in hindsight"))
    return figures


def _errors(name: str, predicted: Table, recorded: Recorded) -> list[Figure]:
    return [
        Figure(
            f"{what} error, {name}",
            100 * statistics.median(errors),
            "%",
            detail=f"median of {len(errors)} runs; mean {100 * statistics.mean(errors):.0f} %",
        )
        for what, errors in zip(("ITL", "nTTFT"), percentage_errors(predicted, recorded.measured), strict=True)
    ]


def _users_error(name: str, predicted: Table, recorded: Recorded) -> Figure:
    """How often the users that a profile carries are forecast exactly; the score hangs on these numbers."""
    pairs = [
        (users_within(predicted[llm][profile]), users_within(curve))
        for llm, curves in recorded.measured.items()
        for profile, curve in curves.items()
    ]
    # A profile that carries no user counts as half a user: the logarithm needs something.
    apart = [abs(math.log2(max(guess, 0.5) / max(true, 0.5))) for guess, true in pairs]
    exact = sum(guess == true for guess, true in pairs) / len(pairs)
    detail = f"of {len(pairs)} profiles of LLMs; {statistics.mean(apart):.2f} octaves off on average"
    return Figure(f"users per pod exact, {name}", 100 * exact, "%", detail=detail)


def _llm_figures(forecasts: Mapping[str, Forecast], recorded: Recorded) -> list[Figure]:
    figures = []
    for llm, choice in _choices(forecasts, recorded).items():
        found = outcome(choice, recorded.measured[llm], recorded.prices)
        chosen = f"{choice.pods} pods of {choice.profile}" if choice else "nothing"
        detail = f"{chosen}: {'carries' if found.success else 'does not carry'} the users"
        figures.append(Figure(f"overspend, {llm}", 100 * found.overspend, "%", detail=detail))
    return figures


def _scorer_control(recorded: Recorded) -> Figure:
    """The largest difference between our scores of the published predictions and the published scores."""
    choices = {method: published_choices(method, recorded) for method in METHODS}
    choices["Static policy"] = static_policy(recorded)
    worst = 0.0
    for name, chosen in choices.items():
        found = score(chosen, recorded)
        ours = (found.success, found.overspend, found.both)
        worst = max(worst, *(abs(mine - theirs) for mine, theirs in zip(ours, recorded.scores[name], strict=True)))
    return Figure("published scores, difference", worst, "", 1e-9, "<=", f"{len(choices)} recommenders, S, O and S/O")


def _leak_control(forecasts: Mapping[str, Forecast], recorded: Recorded, seed: int) -> Figure:
    """Recommendations that change when the left-out LLM's own measurements are shuffled."""
    changed = 0
    for llm, choice in _choices(forecasts, recorded).items():
        spoiled = shuffled(recorded, llm, seed)
        changed += teacher_for((llm,), spoiled).forecast(llm).expected_choice(recorded.prices) != choice
    return Figure("recommendations changed by shuffling", float(changed), "LLMs", 0.0, "<=", f"of {len(forecasts)}")


def shuffled(recorded: Recorded, llm: str, seed: int) -> Recorded:
    """The data set with one LLM's measurements dealt at random among its runs, and its requests spoiled."""
    curves = recorded.measured[llm]
    values = [(point.nttft, point.itl) for curve in curves.values() for point in curve]
    random.Random(seed).shuffle(values)
    dealt = iter(values)
    mixed = {profile: tuple(Point(point.users, *next(dealt)) for point in curve) for profile, curve in curves.items()}
    return replace(
        recorded,
        measured={**recorded.measured, llm: mixed},
        requests={run: Requests(1.0, 1.0, 1.0) if run[0] == llm else seen for run, seen in recorded.requests.items()},
    )

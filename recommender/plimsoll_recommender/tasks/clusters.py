"""Tasks found in observed requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.latency.distributions import quantile as log_normal
from plimsoll_recommender.latency.distributions import variation_of
from plimsoll_recommender.tasks.mixture import MOST_TASKS, Mixture, mixture_of
from plimsoll_recommender.tasks.model import QUANTILE, OutputLengths, Task, TaskModel
from plimsoll_recommender.tasks.request import ObservedRequest
from plimsoll_recommender.traffic import Workload

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_REQUESTS: Final = 100
LEAST_BEYOND: Final = 10
"""Fewest requests that tasks are looked for in, and fewest of them beyond the quantile: it is then known to a third of
what lies beyond it."""

DRIFT: Final = 0.1
"""Part of what lies beyond the quantile that is covered too, since tomorrow's requests are a little longer or shorter:
an hour of the Azure code trace of 2023 moved its 95 % quantile by 0.8 points."""

GAIN: Final = 0.4
"""How much of what was missed or covered too much the next target makes up for (adaptive conformal inference, Gibbs and
Candes 2021): whatever the drift, the coverage in the long run is the quantile asked for."""

WORTHWHILE: Final = 0.02
"""Share of the reserved output that max_tokens by task must save to be used in place of one for all."""

LEAST_SHARE_BEYOND: Final = 0.1
"""Least part of what lies beyond the quantile that a target leaves uncovered: the longest output is not a limit."""

MOST_LENGTHS: Final = 2048
"""Output lengths kept: more are rounded up to the next one kept."""


def least_requests(quantile: float) -> int:
    """Fewest requests from which the quantile of output lengths is taken."""
    return max(LEAST_REQUESTS, math.ceil(LEAST_BEYOND / (1 - quantile) - 1e-9))


def task_clusters(
    requests: Sequence[ObservedRequest],
    *,
    declared: Workload | None = None,
    quantile: float = QUANTILE,
    most_tasks: int = MOST_TASKS,
    previous: TaskModel | None = None,
) -> TaskModel:
    """Tasks of observed requests.

    With fewer requests than `least_requests` the declared workload is all that is known, as one task; where lengths do
    not tell tasks apart, all requests are one task. Both are said in `reason`.

    Args:
        requests: finished requests, in any order.
        declared: the workload to fall back to; Workload's own default when None.
        quantile: share of requests that max_tokens is not to cut off (0.5 to below 1).
        most_tasks: most tasks looked for.
        previous: tasks in force while these requests were served: how well they covered them corrects the next ones.

    Raises:
        RecommenderError: a quantile out of its range, or no task allowed.
    """
    if not 0.5 <= quantile < 1:
        raise RecommenderError(f"quantile must be at least 0.5 and below 1, got {quantile:g}: try 0.95")
    if most_tasks < 1:
        raise RecommenderError(f"most_tasks must be at least 1, got {most_tasks}")
    least = least_requests(quantile)
    if len(requests) < least:
        reason = f"{len(requests)} requests were observed, {least} are needed for the {quantile:.4g} quantile"
        return _declared(declared or Workload(), quantile, f"{reason}: the declared workload is used")
    import numpy as np

    lengths = np.array([(item.input_tokens, item.output_tokens) for item in requests], dtype=float)
    # The order of requests must not matter, not even in the last digit of a sum.
    lengths = lengths[np.lexsort((lengths[:, 1], lengths[:, 0]))]
    points = np.log1p(lengths)
    mixture = mixture_of(points, most_tasks)
    everything = np.ones(len(lengths))
    target = target_of(requests, quantile, previous)
    whole = _task(lengths, everything, target)
    known = declared or Workload()
    if len(mixture.weights) == 1:
        reason = "input and output lengths do not tell tasks apart: all requests are one task"
        return TaskModel((whole,), whole, quantile, len(lengths), reason, known, target)
    belonging = mixture.given_both(points)
    order = np.argsort(-belonging.sum(axis=0), kind="stable")
    mixture = Mixture(mixture.weights[order], mixture.means[order], mixture.covariances[order])
    belonging = belonging[:, order]
    outputs = _outputs(mixture, lengths, belonging, target)
    saved = 1 - float(outputs.quantiles(lengths[:, 0]).mean()) / whole.max_tokens
    if saved < WORTHWHILE:
        reason = (
            f"{len(belonging.T)} tasks differ, but max_tokens by prompt length would save {saved:.1%} of the output "
            f"tokens reserved, less than {WORTHWHILE:.0%}: all requests are one task"
        )
        return TaskModel((whole,), whole, quantile, len(lengths), reason, known, target)
    tasks = tuple(_task(lengths, column, target) for column in belonging.T)
    return TaskModel(tasks, whole, quantile, len(lengths), "", known, target, outputs)


def target_of(requests: Sequence[ObservedRequest], quantile: float, previous: TaskModel | None) -> float:
    """The share of these requests to cover so that the asked share of later ones is."""
    beyond = 1 - quantile
    if previous is None or previous.quantile != quantile:
        return quantile + DRIFT * beyond
    missed = quantile - previous.coverage(requests)
    return min(max(previous.target + GAIN * missed, quantile - beyond), 1 - LEAST_SHARE_BEYOND * beyond)


def _declared(workload: Workload, quantile: float, reason: str) -> TaskModel:
    """One task of a workload's lengths, taken for log-normal."""
    prompt, output = (
        log_normal(mean, variation_of(mean, p95), quantile * 100)
        for mean, p95 in (
            (workload.input_tokens, workload.input_p95),
            (workload.output_tokens, workload.output_p95),
        )
    )
    most = max(1, math.ceil(output))
    task = Task(
        1.0,
        workload.input_tokens,
        workload.output_tokens,
        workload.input_p95,
        workload.output_p95,
        most,
        math.ceil(prompt) + most,
    )
    return TaskModel((task,), task, quantile, 0, reason, workload, quantile)


def _task(lengths: NDArray[Any], belonging: NDArray[Any], target: float) -> Task:
    """Moments and quantiles of requests (n, 2), each belonging to the task to a degree (n,)."""
    import numpy as np

    total = float(belonging.sum())
    mean = belonging @ lengths / total

    def at(column: int, share: float) -> float:
        order = np.argsort(lengths[:, column], kind="stable")
        within = np.cumsum(belonging[order])
        place = int(np.searchsorted(within, share * total * (1 - 1e-12)))
        return float(lengths[order[min(place, len(order) - 1)], column])

    most = max(1, round(at(1, target)))
    return Task(
        total / len(lengths),
        float(mean[0]),
        float(mean[1]),
        at(0, 0.95),
        at(1, 0.95),
        most,
        round(at(0, target)) + most,
    )


def _outputs(mixture: Mixture, lengths: NDArray[Any], belonging: NDArray[Any], target: float) -> OutputLengths:
    """Output lengths by task, and the level at which the asked share of these requests is covered.

    The level is that of split-conformal prediction: a request is covered when the share of its mixture below its own
    output is less than the level, so the level is the ceil((n + 1) target)-th smallest of those shares.
    """
    import numpy as np

    outputs = lengths[:, 1]
    kept = np.unique(outputs)
    if len(kept) > MOST_LENGTHS:
        kept = np.unique(np.quantile(outputs, np.linspace(0, 1, MOST_LENGTHS), method="higher"))
    place = np.searchsorted(kept, outputs)
    shares = np.zeros((belonging.shape[1], len(kept)))
    for task, column in enumerate(belonging.T):
        shares[task] = np.cumsum(np.bincount(place, column, len(kept))) / column.sum()
    below = np.concatenate([np.zeros((len(shares), 1)), shares[:, :-1]], axis=1)
    score = np.einsum("nk,kn->n", mixture.given_input(lengths[:, 0]), below[:, place])
    rank = min(len(score), math.ceil((len(score) + 1) * target)) - 1
    # Lookups add the same numbers in another order: the level stays clear of their rounding.
    level = min(1.0, float(np.sort(score)[rank]) + 1e-9)
    return OutputLengths(mixture, kept.astype(int), shares, level)

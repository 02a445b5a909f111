"""What a decision is made by: the service's own bounds, its load line, and the fixed rules. Plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from plimsoll_api.v1alpha1 import ScalingMode

SCALE_OUT_UTILIZATION: Final = 0.85
"""Share of the load line above which replicas are added, and which the new number is chosen for. The rest is room for
arrivals to vary within a window: at 5 requests/s a minute's count has a standard deviation of 6 %."""

SCALE_IN_UTILIZATION: Final = 0.70
"""Share of the load line that the fewer replicas may reach at most. Between the two nothing happens: the gap is wider
than one replica's worth from four replicas on, so that noise does not turn one decision into its opposite."""

QUEUE_DRAIN_SECONDS: Final = 60.0
"""Time in which waiting requests should be gone; shorter asks for replicas that start after the queue has drained."""

MOST_ADDED_AT_LEAST: Final = 4
"""Replicas that one tick may add, or as many as there are if that is more (Kubernetes' HPA default per 15 s)."""

MOST_REMOVED_SHARE: Final = 0.25
"""Share of the replicas that one tick may remove, one at the least: every one of them has streams to finish."""

WORK_RATIO_BOUNDS: Final = (0.25, 4.0)
"""How far the observed request lengths may move the capacity: beyond that the recommendation is what must change."""


@dataclass(frozen=True)
class LoadLine:
    """What one replica carries while it meets the objectives, as the recommender predicts it.

    Attributes:
        requests_per_second: of the assumed lengths.
        concurrency: requests in flight on it then.
        output_tokens_per_second: tokens it generates then.
        input_tokens_mean: prompt length that was assumed, in tokens.
        tpot: predicted time per output token then, in seconds.
    """

    requests_per_second: float
    concurrency: float
    output_tokens_per_second: float
    input_tokens_mean: float
    tpot: float

    @property
    def output_tokens_mean(self) -> float:
        """Generated length that was assumed, in tokens."""
        return self.output_tokens_per_second / self.requests_per_second


@dataclass(frozen=True)
class Policy:
    """What a service's decisions keep to.

    Attributes:
        mode: who owns the replicas.
        min_replicas: fewest.
        max_replicas: most.
        scale_out_stabilization: seconds the need must have lasted.
        scale_in_stabilization: seconds the surplus must have lasted.
        scale_to_zero_after: seconds without a request until the last replica stops; None keeps it.
        budget_per_hour: most money per hour; None is no limit.
        max_count_replicas: most that `maxCount` of their accelerator allows; None is no limit.
        replica_cost: money per replica and hour; None when it is not known.
        load_line: what one replica carries; None without a recommendation.
        paused: whether the service is to be left as it is.
        window: seconds over which rates are taken.
        interval: seconds between two decisions.
        startup_timeout: seconds after which a replica that does not become ready no longer counts as coming.
        wake_signal: whether something brings a stopped service back when a request arrives.
    """

    mode: ScalingMode = ScalingMode.AUTO
    min_replicas: int = 1
    max_replicas: int = 8
    scale_out_stabilization: float = 0.0
    scale_in_stabilization: float = 300.0
    scale_to_zero_after: float | None = None
    budget_per_hour: float | None = None
    max_count_replicas: int | None = None
    replica_cost: float | None = None
    load_line: LoadLine | None = None
    paused: bool = False
    window: float = 60.0
    interval: float = 15.0
    startup_timeout: float = 1800.0
    wake_signal: bool = False

    @property
    def affordable(self) -> int | None:
        """Replicas that the budget pays for; None when there is no budget or no price to hold it against."""
        if self.budget_per_hour is None or self.replica_cost is None or self.replica_cost <= 0:
            return None
        # Money is written in decimals; a binary fraction must not lose the last replica of 9.60 / 3.20.
        return int(self.budget_per_hour / self.replica_cost + 1e-9)

    @property
    def may_stop(self) -> bool:
        """Whether the last replica may go when nobody asks for it."""
        return self.min_replicas == 0 and self.scale_to_zero_after is not None and self.wake_signal

    @property
    def floor(self) -> int:
        """Fewest replicas while there is, or may be, traffic: a service at 0 measures nothing and would stay there."""
        return max(self.min_replicas, 1)

"""One service as the detector sees it at one moment: measured values, and how far they can be trusted. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Problem(StrEnum):
    """Why measurements cannot be acted on. The names are condition reasons."""

    UNREACHABLE = "PrometheusUnreachable"
    QUERY_FAILED = "QueryFailed"
    INCOMPLETE_ANSWER = "IncompleteAnswer"
    CLOCK_SKEW = "ClockSkew"
    NO_DATA = "NoData"
    STALE = "StaleData"
    NOT_A_NUMBER = "NotANumber"
    PARTIAL = "PartialCoverage"


@dataclass(frozen=True)
class PodFacts:
    """What the API server says of one pod.

    Attributes:
        name: its name.
        ready: whether its Ready condition is True.
        leaving: whether it has a deletion timestamp.
        ready_since: when it became ready, in seconds since the epoch; None while it is not.
        revision: of the template it was made from; None for one that does not say.
    """

    name: str
    ready: bool
    leaving: bool = False
    ready_since: float | None = None
    revision: str | None = None

    @property
    def serving(self) -> bool:
        """Whether new requests reach it."""
        return self.ready and not self.leaving


@dataclass(frozen=True)
class PodReading:
    """One replica's own measurements, over the window. None: nothing usable.

    Attributes:
        name: the pod.
        age: seconds since it was last scraped.
        running: requests in its batch now.
        running_floor: the fewest there were over the window.
        waiting: requests waiting for room now.
        waiting_floor: the fewest there were over the window; above 0 the replica was full throughout.
        started: requests that got their first token, per second.
        errors: requests that ended in an error, per second.
        finished: requests that ended, in error or not, per second.
        generation_tokens: tokens generated per second.
        steps: engine steps per second.
        kv_usage: share of KV blocks in use.
        itl: mean inter-token latency in seconds.
        ttft: mean time to first token in seconds.
        revision: of the template it was made from; None for one that does not say.
    """

    name: str
    age: float | None = None
    running: float | None = None
    running_floor: float | None = None
    waiting: float | None = None
    waiting_floor: float | None = None
    started: float | None = None
    errors: float | None = None
    finished: float | None = None
    generation_tokens: float | None = None
    steps: float | None = None
    kv_usage: float | None = None
    itl: float | None = None
    ttft: float | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Quality:
    """How far the measurements can be trusted.

    Attributes:
        problem: why they cannot be acted on; None when they can.
        message: the problem with its numbers and the pods it is about, in one line.
        age: seconds since the replica scraped longest ago was scraped; None without any.
        coverage: share of the replicas expected to have data that have fresh and complete data.
        missing: names of the expected replicas without.
    """

    problem: Problem | None = None
    message: str = ""
    age: float | None = None
    coverage: float = 1.0
    missing: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether anything may be decided on this."""
        return self.problem is None


@dataclass(frozen=True)
class Latency:
    """One latency over the window, held against its objective.

    Attributes:
        value: seconds, at the objectives' percentile.
        target: seconds; None when the service has no such objective.
        attainment: share of observations within the target; 1 without a target.
    """

    value: float
    target: float | None = None
    attainment: float = 1.0

    @property
    def missed(self) -> bool:
        """Whether the percentile is above its target."""
        return self.target is not None and self.value > self.target


@dataclass(frozen=True)
class Observation:
    """One service at one moment. Sums are over the whole service; rates are over the window.

    Attributes:
        at: Prometheus' time, in seconds since the epoch.
        quality: whether to believe the rest.
        serving: pods that take new requests.
        starting: pods that exist and do not serve yet.
        leaving: pods that finish their streams and go.
        outdated: serving pods of another revision than the recommendation is of: its load line is not theirs.
        pods: measurements of the serving pods.
        arrivals: requests per second that arrive: those that got their first token, plus the growth of the queue.
        started: requests per second that got their first token.
        finished: requests per second that ended, by reason.
        running: requests in batches now.
        running_mean: the same, averaged over the window.
        waiting: requests waiting for room now.
        prompt_tokens: prompt tokens per second.
        generation_tokens: tokens generated per second.
        preemptions: per second.
        kv_usage: highest share of KV blocks in use on any replica.
        input_tokens_mean: prompt length of the requests that ended lately; None without any.
        output_tokens_mean: generated length of those.
        requests: number of requests behind the latencies below.
        latencies: by name (`ttft`, `tpot`, `e2e`, `queueTime`); absent without requests.
    """

    at: float
    quality: Quality
    serving: int = 0
    starting: int = 0
    leaving: int = 0
    outdated: int = 0
    pods: tuple[PodReading, ...] = ()
    arrivals: float = 0.0
    started: float = 0.0
    finished: Mapping[str, float] = field(default_factory=dict)
    running: float = 0.0
    running_mean: float = 0.0
    waiting: float = 0.0
    prompt_tokens: float = 0.0
    generation_tokens: float = 0.0
    preemptions: float = 0.0
    kv_usage: float | None = None
    input_tokens_mean: float | None = None
    output_tokens_mean: float | None = None
    requests: float = 0.0
    latencies: Mapping[str, Latency] = field(default_factory=dict)

    @property
    def measured(self) -> int:
        """Serving replicas that have been scraped often enough for rates."""
        return sum(pod.running is not None and pod.started is not None for pod in self.pods)

    @property
    def busy(self) -> bool:
        """Whether there is any traffic at all."""
        return self.arrivals > 0 or self.running > 0 or self.waiting > 0

    @property
    def attainment(self) -> float | None:
        """Share of requests that met every objective: the least it can be, given the share that met each.

        A histogram per objective does not say which requests met several. Fréchet's bound, 1 - sum of (1 - share),
        is the lowest joint share the marginals allow, so it never claims more than is true.
        """
        held = [latency.attainment for latency in self.latencies.values() if latency.target is not None]
        return max(0.0, 1.0 - sum(1.0 - share for share in held)) if held else None

"""Builders for the detector's tests: observations, readings, a toy fleet, each given as a fixture."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from plimsoll_detector.decision.policy import LoadLine, Policy
from plimsoll_detector.features import Limits, Objectives
from plimsoll_detector.judgement import Judgement, Memory, judge
from plimsoll_detector.observation import Latency, Observation, PodFacts, PodReading, Quality
from plimsoll_detector.queries import Per, Signal, query_table
from plimsoll_detector.reading import Reading, Sample

LINE = LoadLine(
    requests_per_second=2.0, concurrency=20.0, output_tokens_per_second=500.0, input_tokens_mean=1000.0, tpot=0.04
)
NOW = 1_800_000_000.0


@pytest.fixture
def line() -> LoadLine:
    """2 requests/s of 1000 + 250 tokens, 20 in flight, per replica."""
    return LINE


@pytest.fixture
def policy() -> Policy:
    """Bounds 1 to 20, the default stabilisation."""
    return Policy(min_replicas=1, max_replicas=20, load_line=LINE)


def make_observation(load: float = 1.0, serving: int = 2, **changes: Any) -> Observation:
    """A service whose traffic needs `load` replicas at their load line, spread evenly over `serving` replicas."""
    share = load / serving if serving else 0.0
    pods = tuple(
        PodReading(
            f"pod-{index}",
            age=5.0,
            running=share * LINE.concurrency,
            running_floor=share * LINE.concurrency,
            waiting=0.0,
            waiting_floor=0.0,
            started=share * LINE.requests_per_second,
            errors=0.0,
            finished=share * LINE.requests_per_second,
            generation_tokens=share * LINE.output_tokens_per_second,
            steps=30.0,
            kv_usage=0.4,
            itl=0.03,
            ttft=0.3,
        )
        for index in range(serving)
    )
    observation = Observation(
        at=NOW,
        quality=Quality(age=5.0),
        serving=serving,
        pods=pods,
        arrivals=load * LINE.requests_per_second,
        started=load * LINE.requests_per_second,
        running=load * LINE.concurrency,
        running_mean=load * LINE.concurrency,
        generation_tokens=load * LINE.output_tokens_per_second,
        input_tokens_mean=1000.0 if load else None,
        output_tokens_mean=250.0 if load else None,
        requests=load * LINE.requests_per_second * 60,
        latencies={"ttft": Latency(0.4, 2.0, 0.99), "tpot": Latency(0.035, 0.1, 1.0)} if load else {},
    )
    return replace(observation, **changes)


@pytest.fixture
def observation() -> Callable[..., Observation]:
    """`observation(load, serving, **fields)`."""
    return make_observation


@dataclass
class Clock:
    """Judge one service tick by tick."""

    policy: Policy
    current: int | None
    memory: Memory = field(default_factory=Memory)
    now: float = NOW
    managed_fields: list[dict[str, Any]] = field(default_factory=list)
    follow: bool = True

    def tick(self, observation: Observation) -> Judgement:
        """One tick; the decision is followed at once."""
        made = judge(self.current, observation, self.managed_fields, self.policy, self.memory, self.now)
        self.memory = made.memory
        self.now += self.policy.interval
        if self.follow and made.decision.changes:
            self.current = made.decision.bounded
        return made

    def ticks(self, observation: Observation, seconds: float) -> Judgement:
        """As many ticks as fit, and the last judgement."""
        for _ in range(max(math.ceil(seconds / self.policy.interval), 1)):
            made = self.tick(observation)
        return made


@pytest.fixture
def clock() -> type[Clock]:
    """Judges one service tick by tick: `clock(policy, current)`."""
    return Clock


@dataclass
class Fleet:
    """A fluid model of a service: one second a step, requests served in order, replicas that take a while to start.

    Attributes:
        capacity: requests per second that a replica really carries (its load line is LINE's).
        startup: seconds from being asked for to serving.
        latency: seconds a request is in the batch.
    """

    capacity: float = 2.6
    startup: int = 60
    latency: float = 10.0
    asked: int = 1
    second: int = 0
    waiting: float = 0.0
    starts: list[int] = field(default_factory=list)
    began: deque[float] = field(default_factory=lambda: deque(maxlen=60))
    came: deque[float] = field(default_factory=lambda: deque(maxlen=60))
    serving: int = 1
    replica_seconds: float = 0.0
    late: float = 0.0
    total: float = 0.0

    def step(self, arrivals: float) -> None:
        """One second with so many arrivals."""
        self.second += 1
        self.serving += sum(at == self.second for at in self.starts)
        self.starts = [at for at in self.starts if at > self.second]
        self.waiting += arrivals
        served = min(self.waiting, self.serving * self.capacity)
        self.waiting -= served
        self.began.append(served)
        self.came.append(arrivals)
        self.replica_seconds += self.asked
        self.total += arrivals
        self.late += min(arrivals, self.waiting)

    def scale(self, replicas: int) -> None:
        """Ask for so many replicas."""
        more = replicas - self.asked
        if more > 0:
            self.starts += [self.second + self.startup] * more
        for _ in range(-more):
            if self.starts:
                self.starts.pop()
            else:
                self.serving -= 1
        self.asked = replicas

    def observe(self) -> Observation:
        """What a detector would measure."""
        window = max(len(self.began), 1)
        started, arrivals = sum(self.began) / window, sum(self.came) / window
        running = started * self.latency
        load = started / LINE.requests_per_second
        measured = make_observation(load, self.serving)
        full = 1.0 if self.waiting > 0 else 0.0
        return replace(
            measured,
            arrivals=arrivals,
            running=running,
            running_mean=running,
            waiting=self.waiting,
            pods=tuple(replace(pod, waiting_floor=full * self.waiting / self.serving) for pod in measured.pods),
        )


@pytest.fixture
def fleet() -> type[Fleet]:
    """A fluid model of a service."""
    return Fleet


Values = dict[Signal, float]


def make_reading(pods: dict[str, Values], *, at: float = NOW, key: tuple[str, str] = ("ml", "chat")) -> Reading:
    """A reading of one service; what a pod does not say is that of a healthy busy one, `nan` included, None absent."""
    healthy: dict[Signal, float] = {
        query.signal: 1.0 for query in query_table(60.0) if query.per is Per.POD and query.signal is not Signal.FINISHED
    }
    answers: dict[Signal, list[Sample]] = {query.signal: [] for query in query_table(60.0)}
    for pod, values in pods.items():
        for signal, value in {**healthy, Signal.SCRAPED_AT: at - 5.0, **values}.items():
            if value is not None:
                labels = {"namespace": key[0], "llmservice": key[1], "pod": pod}
                answers[signal].append(Sample(labels, value, at))
    return Reading(at, 0.0, {signal: tuple(samples) for signal, samples in answers.items()})


@pytest.fixture
def reading() -> Callable[..., Reading]:
    """`reading({"pod-0": {Signal.RUNNING: 3.0}})`."""
    return make_reading


@pytest.fixture
def pods() -> Callable[..., list[PodFacts]]:
    """`pods("a", "b")`: ready since long ago."""
    return lambda *names, **changes: [
        replace(PodFacts(name, ready=True, ready_since=NOW - 3600.0), **changes) for name in names
    ]


@pytest.fixture
def limits() -> Limits:
    """A window of a minute."""
    return Limits(window=60.0, grace=120.0)


@pytest.fixture
def objectives() -> Objectives:
    """The API's defaults."""
    return Objectives(0.95, {"ttft": 2.0, "tpot": 0.1})


@pytest.fixture
def now() -> float:
    """The tests' present."""
    return NOW

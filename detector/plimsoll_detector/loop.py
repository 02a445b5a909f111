"""The tick: read the fleet and Prometheus, judge every service, act, tell. All effects of the detector start here."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from plimsoll_api.names import ConditionType
from plimsoll_api.v1alpha1 import DiagnosisKind, ScalingMode
from plimsoll_detector import status as statuses
from plimsoll_detector.decision.ownership import Acted
from plimsoll_detector.features import Key, Limits, ServiceSamples, by_service, observe
from plimsoll_detector.judgement import Judgement, Memory, judge
from plimsoll_detector.kube import FleetApi, Snapshot
from plimsoll_detector.prometheus import Prometheus
from plimsoll_detector.queries import query_table
from plimsoll_detector.reading import Reading
from plimsoll_detector.service import Rules, Service
from plimsoll_detector.telemetry import Telemetry
from plimsoll_kube.errors import ApiError
from plimsoll_kube.events import EventType

logger = logging.getLogger(__name__)

WRITES_AT_ONCE: Final = 16
"""Services that are written to the API server at the same time."""

DEADLINE_SHARE: Final = 0.8
"""Share of the interval that Prometheus may take: the rest is for deciding and writing."""

JITTER: Final = 0.05
"""Share of the interval by which ticks vary, so that they do not keep step with the scrapes."""

GRACE_WINDOWS: Final = 2.0
"""Windows that a replica may be without data after it became ready: it must be discovered, and scraped twice."""

_WORRYING: Final = frozenset({DiagnosisKind.BLIND, DiagnosisKind.STALLED, DiagnosisKind.DEGRADED})


@dataclass
class Remembered:
    """What the process remembers of one service.

    Attributes:
        uid: which object it is about: a new one of the same name is a stranger.
        memory: of its judgement.
        status_written: when its status was last written, in seconds since the epoch.
    """

    uid: str
    memory: Memory
    status_written: float | None = None


@dataclass
class Detector:
    """One detector: what it reads, what it writes, what it remembers.

    Attributes:
        fleet: the API server.
        prometheus: the measurements.
        telemetry: its own metrics.
        rules: window and interval.
        clock: seconds since the epoch.
        last_tick: when the last tick ended well, by the monotonic clock.
    """

    fleet: FleetApi
    prometheus: Prometheus
    telemetry: Telemetry
    rules: Rules
    clock: Callable[[], float] = time.time
    last_tick: float | None = None
    _remembered: dict[Key, Remembered] = field(default_factory=dict)

    async def run(self) -> None:
        """Tick until cancelled. A tick that fails is logged, counted, and followed by the next."""
        while True:
            began = time.monotonic()
            try:
                await self.tick()
                self.last_tick = time.monotonic()
            except ApiError as error:
                self.telemetry.failed_ticks.inc()
                logger.error("tick failed: %s", error)
            took = time.monotonic() - began
            self.telemetry.tick_seconds.observe(took)
            pause = self.rules.interval * random.uniform(1.0 - JITTER, 1.0 + JITTER) - took
            if pause <= 0:
                self.telemetry.late_ticks.inc()
                logger.warning("tick took %.1f s, more than the interval", took)
            await asyncio.sleep(max(pause, 0.0))

    async def tick(self) -> None:
        """Read, judge and act once.

        Raises:
            ApiError: the fleet could not be listed.
        """
        table = query_table(self.rules.window)
        deadline = max(self.rules.interval * DEADLINE_SHARE, 1.0)
        snapshot, reading = await asyncio.gather(
            self.fleet.snapshot(), self.prometheus.read(table, deadline, self.clock)
        )
        now = self.clock()
        keys = {service.key for service in snapshot.services}
        self.telemetry.keep_only(keys)
        self._remembered = {key: known for key, known in self._remembered.items() if key in keys}
        judged = self._judge_all(snapshot, reading, now)
        gate = asyncio.Semaphore(WRITES_AT_ONCE)
        await asyncio.gather(*(self._act(service, judgement, gate, now) for service, judgement in judged))

    def _judge_all(self, snapshot: Snapshot, reading: Reading, now: float) -> Sequence[tuple[Service, Judgement]]:
        """Every service's judgement."""
        samples = by_service(reading)
        limits = Limits(self.rules.window, self.rules.window * GRACE_WINDOWS)
        judged = []
        for service in snapshot.services:
            try:
                judgement = self._judge(service, snapshot, reading, samples.get(service.key), limits, now)
            except Exception:
                # A fault of ours in one service must not stop the others; its replicas stay as they are.
                self.telemetry.failed_services.inc()
                logger.exception("service not judged", extra={"service": "/".join(service.key)})
                continue
            ratio, line = judgement.memory.decision.line_ratio, service.policy.load_line
            measured = None if line is None else line.requests_per_second * ratio
            self.telemetry.judged(service.key, judgement, measured)
            judged.append((service, judgement))
        return judged

    def _judge(
        self,
        service: Service,
        snapshot: Snapshot,
        reading: Reading,
        samples: ServiceSamples | None,
        limits: Limits,
        now: float,
    ) -> Judgement:
        """One service's judgement, and the memory of it."""
        known = self._remembered.get(service.key)
        if known is None or known.uid != service.uid:
            known = self._remembered[service.key] = Remembered(service.uid, statuses.restore(service))
        pods = snapshot.pods.get(service.key, ())
        observation = observe(reading, samples, pods, service.objectives, limits, service.revision)
        managed_fields = service.manifest["metadata"].get("managedFields") or ()
        judgement = judge(service.current, observation, managed_fields, service.policy, known.memory, now)
        known.memory = judgement.memory
        return judgement

    async def _act(self, service: Service, judgement: Judgement, gate: asyncio.Semaphore, now: float) -> None:
        """Follow one judgement. What the API server refuses is logged and left to the next tick."""
        async with gate:
            try:
                acted = await self._scale(service, judgement, now)
                await self._report(service, judgement, acted, now)
            except ApiError as error:
                self.telemetry.failed_services.inc()
                logger.error("service not written: %s", error, extra={"service": "/".join(service.key)})

    async def _scale(self, service: Service, judgement: Judgement, now: float) -> bool:
        """Write `/scale` when the decision changes the replicas and is ours to act on."""
        decision = judgement.decision
        if not decision.changes or service.policy.mode is not ScalingMode.AUTO:
            return False
        if not await self.fleet.scale(service, decision.bounded):
            logger.info("the replicas changed meanwhile", extra={"service": "/".join(service.key)})
            return False
        known = self._remembered[service.key]
        acted = replace(known.memory.decision, acted=Acted(now, decision.bounded))
        known.memory = replace(known.memory, decision=acted)
        self.telemetry.scale_writes.labels("out" if decision.bounded > decision.current else "in").inc()
        logger.info(
            "scaled from %d to %d: %s",
            decision.current,
            decision.bounded,
            decision.message,
            extra={"service": "/".join(service.key), "reason": decision.reason.value},
        )
        return True

    async def _report(self, service: Service, judgement: Judgement, acted: bool, now: float) -> None:
        """Write the status when it says something new, and an Event for each transition."""
        known = self._remembered[service.key]
        status = statuses.build(service, judgement, acted, now)
        self.telemetry.reported(service.key, status["conditions"])
        if statuses.write_needed(service.status, status, known.status_written, now, interval=self.rules.interval):
            await self.fleet.write_status(service, status)
            known.status_written = now
            self.telemetry.status_writes.inc()
        decision, diagnosis = judgement.decision, judgement.diagnosis
        if acted:
            message = f"{decision.current} to {decision.bounded} replicas: {decision.message}"
            await self.fleet.tell(service, "Normal", decision.reason.value, message)
        before = (service.status.get("diagnosis") or {}).get("kind")
        if before != diagnosis.kind.value and (before is not None or diagnosis.kind in _WORRYING):
            kind: EventType = "Warning" if diagnosis.kind in _WORRYING else "Normal"
            await self.fleet.tell(service, kind, diagnosis.kind.value, diagnosis.message)
        if _became_contended(service, status):
            await self.fleet.tell(service, "Warning", decision.reason.value, decision.message)


def _became_contended(service: Service, status: statuses.Status) -> bool:
    """Whether this status is the first to say that somebody else scales the service."""

    def says(conditions: Sequence[statuses.Status]) -> bool:
        return any(
            one.get("type") == ConditionType.SCALING_ACTIVE.value and one.get("reason") == "Contended"
            for one in conditions
        )

    return says(status["conditions"]) and not says(service.status.get("conditions") or ())

"""The demo's course: apply, wait until it serves, send the traffic, watch until it has scaled back in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from plimsoll_api import names
from plimsoll_api.v1alpha1 import LLMServiceSpec, parse_duration
from plimsoll_cli.demo.capacity import measured_rate
from plimsoll_cli.demo.patience import answered
from plimsoll_cli.demo.scenario import PHASES, Phase, duration, published_requests, replayed_requests
from plimsoll_cli.demo.snapshot import Snapshot, take
from plimsoll_cli.demo.verdict import scaling_outcome
from plimsoll_cli.errors import CommandError
from plimsoll_cli.load.plan import LoadPlan, Objectives, Progress
from plimsoll_cli.load.records import LoadResult
from plimsoll_cli.load.run import run_load
from plimsoll_kube.client import KubeApi
from plimsoll_kube.resources import LLM_SERVICE, POD, SERVICE
from plimsoll_simulator.traffic import Request

_LOOK_SECONDS: Final = 1.0
_REQUEST_TIMEOUT_SECONDS: Final = 300.0
"""Long: a slow answer is for the attainment to show; only one that never comes has failed."""

Look = Callable[[Sequence[Snapshot], Progress | None], None]
"""Shown every new snapshot, with where the traffic stands."""


@dataclass(frozen=True)
class CourseOptions:
    """What the demo does.

    Args:
        namespace: of the service.
        name: of the service.
        ready_within: seconds until the first replica must serve.
        scale_in_within: seconds after the traffic until it must have scaled in.
        seed: of the traffic.
        context: most tokens a request may have.
        length_factor: multiplies the published lengths.
        highest_load_line: requests/s that the traffic treats as one replica's load line at most: what this machine can
            send and proxy beside everything else that runs on it.
        measured_with: requests in flight with which one replica's rate is measured first, to be treated as its load
            line; None trusts the recommended one, up to `highest_load_line`.
        trace: a real trace to replay; None draws from its published statistics.
        phases: of the traffic.
    """

    namespace: str
    name: str
    ready_within: float = 90.0
    scale_in_within: float = 60.0
    seed: int = 11
    context: int = 4096
    length_factor: float = 1.0
    highest_load_line: float = 12.0
    measured_with: int | None = None
    trace: tuple[Request, ...] | None = None
    phases: tuple[Phase, ...] = PHASES


@dataclass(frozen=True)
class CourseResult:
    """What happened."""

    snapshots: tuple[Snapshot, ...]
    traffic: LoadResult
    service: dict[str, Any]


class Course:
    """One run of the demo against a cluster."""

    def __init__(self, kube: KubeApi, options: CourseOptions, look: Look) -> None:
        self._kube = kube
        self._options = options
        self._look = look
        self._began = time.monotonic()
        self._snapshots: list[Snapshot] = []
        self._progress: Progress | None = None

    async def run(self) -> CourseResult:
        """Wait for the service, send the traffic, watch it scale.

        Raises:
            CommandError: no replica served in time, or the API server stopped answering.
        """
        service = await self._await_ready()
        plan = await self._plan(service)
        self._began = time.monotonic()
        self._snapshots = [self._snapshots[-1]] if self._snapshots else []
        traffic = asyncio.create_task(run_load(plan, self._on_progress))
        try:
            while not traffic.done():
                await self._observe()
            await self._await_scale_in()
        except BaseException:
            traffic.cancel()
            raise
        return CourseResult(tuple(self._snapshots[1:]), await traffic, await self._service())

    async def _await_ready(self) -> dict[str, Any]:
        deadline = time.monotonic() + self._options.ready_within
        while time.monotonic() < deadline:
            service = await self._observe()
            if self._snapshots[-1].ready and self._snapshots[-1].load_line:
                return service
        raise CommandError(
            f"{self._options.name}: no replica served within {self._options.ready_within:.0f} s: "
            f"{conditions_text(await self._service())}"
        )

    async def _await_scale_in(self) -> None:
        deadline = time.monotonic() + self._options.scale_in_within
        while not scaling_outcome(self._snapshots).scaled_in and time.monotonic() < deadline:
            await self._observe()

    async def _observe(self) -> dict[str, Any]:
        """Look at the service, remember and show it; about once a second."""
        began = time.monotonic()
        service, pods = await self._service(), await self._pods()
        self._snapshots.append(take(time.monotonic() - self._began, service, pods))
        self._look(self._snapshots, self._progress)
        await asyncio.sleep(max(0.0, _LOOK_SECONDS - (time.monotonic() - began)))
        return service

    async def _service(self) -> dict[str, Any]:
        options = self._options
        service = await answered(lambda: self._kube.get(LLM_SERVICE, options.namespace, options.name))
        if service is None:
            raise CommandError(f"LLMService {options.namespace}/{options.name} is gone")
        return service

    async def _pods(self) -> list[dict[str, Any]]:
        namespace, selected = self._options.namespace, f"{names.SERVICE_LABEL}={self._options.name}"
        return (await answered(lambda: self._kube.list(POD, namespace, label_selector=selected))).items

    def _on_progress(self, progress: Progress) -> None:
        self._progress = progress

    async def _plan(self, service: dict[str, Any]) -> LoadPlan:
        options = self._options
        front = await answered(lambda: self._kube.get(SERVICE, options.namespace, options.name))
        if front is None:
            raise CommandError(f"Service {options.namespace}/{options.name} is missing: the operator has not made it")
        predicted = self._snapshots[-1].load_line
        assert predicted is not None
        load_line = min(predicted, options.highest_load_line)
        spec = LLMServiceSpec.model_validate(service["spec"])
        plan = LoadPlan(
            url=f"http://{front['spec']['clusterIP']}:{front['spec']['ports'][0]['port']}",
            model=spec.model.served_name or options.name,
            requests=self._requests(load_line),
            duration=duration(self._options.phases),
            label="Azure 2023 conversation, " + ("replayed" if options.trace else "published statistics"),
            objectives=Objectives(
                ttft=parse_duration(spec.objectives.ttft),
                tpot=parse_duration(spec.objectives.tpot),
                e2e=parse_duration(spec.objectives.e2e) if spec.objectives.e2e else None,
                percentile=spec.objectives.percentile,
                attainment=float(spec.objectives.attainment),
            ),
            timeout=_REQUEST_TIMEOUT_SECONDS,
            seed=options.seed,
        )
        if options.measured_with is None:
            return plan
        return replace(plan, requests=self._requests(await measured_rate(plan, options.measured_with)))

    def _requests(self, load_line: float) -> tuple[Request, ...]:
        options = self._options
        if options.trace is not None:
            return replayed_requests(
                options.trace,
                load_line,
                seed=options.seed,
                context=options.context,
                length_factor=options.length_factor,
                phases=options.phases,
            )
        return published_requests(
            load_line,
            seed=options.seed,
            context=options.context,
            length_factor=options.length_factor,
            phases=options.phases,
        )


def conditions_text(service: dict[str, Any]) -> str:
    """The conditions that are not as they should be, in one line."""
    conditions = (service.get("status") or {}).get("conditions") or []
    told = [f"{c['type']}={c['status']} {c['reason']}: {c['message']}" for c in conditions if c["status"] != "True"]
    return "; ".join(told) or "no condition says why"

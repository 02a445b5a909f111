"""Probe one run of a container and report what changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from plimsoll_cli.sandbox.node import probes
from plimsoll_cli.sandbox.node.context import PodContext
from plimsoll_cli.sandbox.node.handlers import HandlerError
from plimsoll_cli.sandbox.node.lifecycle import act
from plimsoll_cli.sandbox.node.preparation import Prepared
from plimsoll_cli.sandbox.node.probes import Kind, ProbeSpec, ProbeState
from plimsoll_cli.sandbox.node.status import ContainerView, Running


class Probed(Protocol):
    """Whoever is told of verdicts."""

    def probed(self, *, ready: bool | None = None, started: bool | None = None) -> None:
        """Readiness or having started changed."""
        ...

    def unhealthy(self, grace: float | None) -> None:
        """The container is to be ended, with the probe's own grace period when it has one."""
        ...


class Prober:
    """The probes of one run."""

    def __init__(
        self, context: PodContext, container: Mapping[str, Any], prepared: Prepared, view: ContainerView, told: Probed
    ) -> None:
        assert isinstance(view.state, Running)
        self._context = context
        self._name = container["name"]
        self._prepared = prepared
        self._started_at = time.monotonic() - (time.time() - view.state.started_at)
        self._known = view  # what an earlier agent found out holds until a probe says otherwise
        self._told = told
        self._specs = {
            kind: ProbeSpec.of(container[f"{kind}Probe"])
            for kind in ("startup", "readiness", "liveness")
            if container.get(f"{kind}Probe")
        }
        self._tasks: list[asyncio.Task[None]] = []
        self._liveness: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """The startup probe alone, then the others."""
        if (spec := self._specs.get("startup")) and not self._known.started:
            self._told.probed(started=False, ready=False)
            if not await self._until_started(spec):
                return
        self._told.probed(started=True, ready=None if "readiness" in self._specs else True)
        for kind in ("readiness", "liveness"):
            if kind in self._specs:
                task = asyncio.create_task(self._repeat(kind, self._specs[kind]))
                self._tasks.append(task)
                self._liveness = task if kind == "liveness" else self._liveness

    def stop_liveness(self) -> None:
        """A container that is being ended is not ended again."""
        if self._liveness is not None:
            self._liveness.cancel()

    def stop(self) -> None:
        """Stop probing."""
        for task in self._tasks:
            task.cancel()

    async def _until_started(self, spec: ProbeSpec) -> bool:
        """Try until the startup probe succeeds; False when it gave up."""
        state = probes.begin("startup", spec, self._started_at)
        while state.verdict is None:
            state = await self._try("startup", spec, state)
        if not state.verdict:
            self._give_up("startup", spec)
        return state.verdict

    async def _repeat(self, kind: Kind, spec: ProbeSpec) -> None:
        """Readiness or liveness, for as long as the container runs."""
        state = probes.begin(kind, spec, self._started_at)
        if kind == "readiness":
            state = replace(state, verdict=self._known.ready)
        while True:
            before = state.verdict
            state = await self._try(kind, spec, state)
            if kind == "readiness" and state.verdict != before:
                self._told.probed(ready=bool(state.verdict))
            if kind == "liveness" and not state.verdict:
                self._give_up(kind, spec)
                return

    async def _try(self, kind: Kind, spec: ProbeSpec, state: ProbeState) -> ProbeState:
        """Wait until a try is due, and make it."""
        await asyncio.sleep(max(0.0, state.next_at - time.monotonic()))
        began = time.monotonic()
        try:
            await act(self._context, self._prepared, spec.action, spec.timeout)
        except HandlerError as error:
            message = f"{kind.capitalize()} probe failed: {error}"
            self._context.event("Warning", "Unhealthy", message)
            return probes.observe(spec, state, False, began)
        return probes.observe(spec, state, True, began)

    def _give_up(self, kind: Kind, spec: ProbeSpec) -> None:
        message = f"Container {self._name} failed {kind} probe, will be restarted"
        self._context.event("Normal", "Killing", message)
        self._told.unhealthy(spec.grace)

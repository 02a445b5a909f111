"""One container: started, probed, restarted with back-off, stopped with grace."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from plimsoll_cli.sandbox.node import backoff
from plimsoll_cli.sandbox.node.container_process import (
    ContainerProcess,
    Exit,
    StartError,
    exit_of,
    find_again,
    launch,
    read_json,
)
from plimsoll_cli.sandbox.node.context import PodContext
from plimsoll_cli.sandbox.node.environment import MissingReferenceError
from plimsoll_cli.sandbox.node.images import ImageNotFoundError, ProgramNotFoundError, entry_for
from plimsoll_cli.sandbox.node.last_words import termination_message
from plimsoll_cli.sandbox.node.lifecycle import HookError, run_hook
from plimsoll_cli.sandbox.node.preparation import Prepared, prepare
from plimsoll_cli.sandbox.node.prober import Prober
from plimsoll_cli.sandbox.node.status import ContainerView, Running, State, Terminated, Waiting
from plimsoll_kube.errors import ApiError

Manifest = Mapping[str, Any]
_RUNS_KEPT: Final = 2
"""Run folders kept: this one and the one that `kubectl logs --previous` shows."""
_LEAST_GRACE_SECONDS: Final = 2.0
"""What is left for SIGTERM when a preStop hook has used up the grace period (the kubelet's minimum)."""


class ContainerWorker:
    """Runs one container of a pod until it has ended for good. `view` is always up to date."""

    def __init__(self, context: PodContext, container: Manifest, restart_policy: str, sidecar: bool = False) -> None:
        self.context = context
        self.container = container
        self.name = str(container["name"])
        self.view = ContainerView(self.name, container["image"], sidecar=sidecar)
        self.started = asyncio.Event()
        self._restart_policy = restart_policy
        self._folder = context.folder / "containers" / self.name
        self._stop_at: float | None = None
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._unhealthy = asyncio.Event()
        self._unhealthy_grace: float | None = None
        self._process: ContainerProcess | None = None
        self._prepared: Prepared | None = None
        self._prober: Prober | None = None

    @property
    def _run_folder(self) -> Path:
        return self._folder / str(self.view.restarts)

    def log(self, previous: bool = False) -> Path | None:
        """The log of this run or of the one before; None when there is none."""
        number = self.view.restarts - 1 if previous else self.view.restarts
        newest = self._folder / str(number) / "log"
        if newest.exists():
            return newest
        earlier = self._folder / str(number - 1) / "log"  # waiting for its next run: show the last one
        return earlier if not previous and earlier.exists() else None

    @property
    def finished(self) -> bool:
        """Whether this run has ended and no other follows at once."""
        return self._process is None

    async def run(self) -> None:
        """Start it, or find it again, and keep it as its pod's restart policy asks; returns when it ended for good."""
        delay_state = backoff.Backoff()
        process = await self._adopt()
        if self.view.restarts:
            delay_state = backoff.restored(self.context.agent.backoff, self.view.restarts)
        while True:
            if process is None and not isinstance(self.view.state, Terminated):
                process = await self._start()
            if process is not None:
                await self._live(process)
                process = None
            ended: State = self.view.state
            if self._stopping.is_set() or not isinstance(ended, Terminated):
                return
            if not backoff.should_restart(self._restart_policy, ended.exit_code):
                return
            due, delay_state = delay_state.after(self.context.agent.backoff, ended.finished_at - ended.started_at)
            await self._await_restart(due, ended)
            if self._stopping.is_set():
                self._show(state=ended)
                return
            self._show(restarts=self.view.restarts + 1, state=Waiting("ContainerCreating"), last=ended)

    def stop(self, grace_seconds: float) -> None:
        """Ask it to end within a grace period; a shorter one may follow. `run` returns when it has."""
        until = time.monotonic() + grace_seconds
        self._stop_at = until if self._stop_at is None else min(self._stop_at, until)
        self._stopping.set()
        self._hurry.set()

    def let_go(self) -> None:
        """Leave the container running: the agent ends, the next one finds it again."""
        if self._prober is not None:
            self._prober.stop()
        if self._process is not None:
            self._process.let_go()

    def look_back(self) -> bool:
        """Show what an earlier agent left: its newest run, and how the one before ended; False when there was none."""
        numbers = [int(folder.name) for folder in self._folder.glob("*") if folder.name.isdigit()]
        if not numbers:
            return False
        newest = max(numbers)
        self.view = replace(self.view, restarts=newest)
        if previous := exit_of(self._folder / str(newest - 1)):
            self.view = replace(self.view, last=self._terminated(previous, self._folder / str(newest - 1)))
        statuses = self.context.pod.get("status") or {}
        known = [*(statuses.get("containerStatuses") or ()), *(statuses.get("initContainerStatuses") or ())]
        before: Manifest = next((status for status in known if status["name"] == self.name), {})
        if ended := exit_of(self._run_folder):
            self.view = replace(self.view, state=self._terminated(ended, self._run_folder), identity=self._identity())
        elif started := read_json(self._run_folder / "started.json"):
            running = Running(started["started_at"])
            self.view = replace(self.view, state=running, identity=self._identity())
            self._show(ready=bool(before.get("ready")), started=bool(before.get("started")))
        return True

    async def _adopt(self) -> ContainerProcess | None:
        """Look for runs of an earlier agent and take up the newest."""
        if not self.look_back():
            return None
        found = await find_again(self._run_folder)
        if isinstance(found, Exit):
            ended = self._terminated(found, self._run_folder)
            self._show(state=ended, identity=self._identity(), ready=False, started=False)
            return None
        try:
            entry = entry_for(self.container["image"], self.context.agent.config.images)
            self._prepared = await prepare(self.context, self.container, self._run_folder, entry)
        except (ImageNotFoundError, MissingReferenceError, ProgramNotFoundError, ApiError) as error:
            self.context.event("Warning", "Failed", f"Cannot take container {self.name} up, it is restarted: {error}")
            found.kill()
            ended = self._terminated(await found.wait(), self._run_folder)
            self._show(state=ended, ready=False, started=False)
            return None
        return found

    async def _start(self) -> ContainerProcess | None:
        """Start a run, waiting for what is absent; None when it was stopped first or could not be executed."""
        prepared = await self._prepare()
        if prepared is None:
            return None
        self._prepared = prepared
        began = time.time()
        run = self._run_folder
        try:
            process = await launch(run, prepared.launch)
        except StartError as error:
            self._show(state=Terminated(128, "StartError", str(error), began, time.time()), identity=self._identity())
            self.context.event("Warning", "Failed", f"Error: failed to start container: {error}")
            return None
        self._forget_old_runs()
        self.context.event("Normal", "Started", f"Started container {self.name}")
        return process

    async def _prepare(self) -> Prepared | None:
        """Image, configuration and program, tried again until they are there; None when stopped meanwhile."""
        image, agent = self.container["image"], self.context.agent
        image_delay = backoff.Backoff()
        while not self._stopping.is_set():
            pause = agent.config.retry_seconds
            try:
                entry = entry_for(image, agent.config.images)
                return await prepare(self.context, self.container, self._run_folder, entry)
            except ImageNotFoundError as error:
                self._show(state=Waiting("ErrImagePull", str(error)))
                self.context.event("Warning", "Failed", f"Failed to pull image: {error}")
                _, image_delay = image_delay.after(agent.backoff, 0.0)
                pause = image_delay.delay
                await self._pause(min(pause, 1.0))
                self._show(state=Waiting("ImagePullBackOff", f"Back-off pulling image {image!r}: {error}"))
            except MissingReferenceError as error:
                self._show(state=Waiting("CreateContainerConfigError", str(error)))
                self.context.event("Warning", "Failed", f"Error: {error}")
            except (ProgramNotFoundError, OSError) as error:
                now = time.time()
                self._run_folder.mkdir(parents=True, exist_ok=True)
                self._show(state=Terminated(128, "StartError", str(error), now, now), identity=self._identity())
                self.context.event("Warning", "Failed", f"Error: {error}")
                return None
            except ApiError as error:
                self._show(state=Waiting("CreateContainerConfigError", str(error)))
            await self._pause(pause)
        return None

    async def _live(self, process: ContainerProcess) -> None:
        """From a started process to its end."""
        assert self._prepared is not None
        self._process = process
        self._unhealthy.clear()
        self._show(state=Running(process.started_at), identity=self._identity())
        self._prober = Prober(self.context, self.container, self._prepared, self.view, self)
        watching = asyncio.create_task(self._hook_then_probe(process))
        try:
            waits = [asyncio.create_task(e.wait()) for e in (process.exited, self._stopping, self._unhealthy)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if not process.exited.is_set():
                await self._end(process)
            ended = await process.wait()
        finally:
            watching.cancel()
            self._prober.stop()
            self._process = None
        self.started.clear()
        state = self._terminated(ended, process.folder)
        self._show(state=state, ready=False, started=False)

    async def _hook_then_probe(self, process: ContainerProcess) -> None:
        """postStart, then the probes."""
        assert self._prepared is not None
        assert self._prober is not None
        hook = (self.container.get("lifecycle") or {}).get("postStart")
        if hook:
            try:
                await run_hook(self.context, self._prepared, hook, self.context.grace_seconds)
            except HookError as error:
                self.context.event("Warning", "FailedPostStartHook", str(error))
                self.unhealthy(None)
                return
        await self._prober.run()

    async def _end(self, process: ContainerProcess) -> None:
        """preStop, SIGTERM, and SIGKILL when the grace period is over; returns when it has ended."""
        assert self._prober is not None
        self._prober.stop_liveness()
        grace = self._unhealthy_grace if self._unhealthy_grace is not None else self.context.grace_seconds
        until = time.monotonic() + grace
        self.context.event("Normal", "Killing", f"Stopping container {self.name}")
        least = 0.0
        hook = (self.container.get("lifecycle") or {}).get("preStop")
        if hook and self._deadline(until) > time.monotonic():
            await self._before_stop(process, hook, until)
            least = time.monotonic() + _LEAST_GRACE_SECONDS
        process.terminate()
        while not process.exited.is_set():
            self._hurry.clear()
            left = max(self._deadline(until), least) - time.monotonic()
            if left <= 0:
                process.kill()
                await process.exited.wait()
                return
            await _first((process.exited, self._hurry), left)

    def _deadline(self, until: float) -> float:
        """When the grace period is over: the pod's deletion goes before the container's own."""
        return until if self._stop_at is None else self._stop_at

    async def _before_stop(self, process: ContainerProcess, hook: Manifest, until: float) -> None:
        """Run a preStop hook for as long as the grace period and the container last."""
        assert self._prepared is not None
        left = self._deadline(until) - time.monotonic()
        task = asyncio.create_task(run_hook(self.context, self._prepared, hook, left))
        finished = asyncio.Event()
        task.add_done_callback(lambda _: finished.set())
        try:
            while not finished.is_set() and not process.exited.is_set():
                self._hurry.clear()
                left = self._deadline(until) - time.monotonic()
                if left <= 0:
                    return
                await _first((finished, process.exited, self._hurry), left)
            if task.done() and (error := task.exception()):
                self.context.event("Warning", "FailedPreStopHook", str(error))
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _await_restart(self, due: float, ended: Terminated) -> None:
        """Show CrashLoopBackOff while a delay lasts."""
        if due <= 0:
            return
        pod = self.context.pod["metadata"]
        message = f"back-off {due:g}s restarting failed container={self.name} pod={pod['name']}_{pod['namespace']}"
        self._show(state=Waiting("CrashLoopBackOff", message), last=ended)
        self.context.event("Warning", "BackOff", f"Back-off restarting failed container {self.name}")
        await self._pause(due)

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the container is being stopped."""
        await _first((self._stopping,), seconds)

    def probed(self, *, ready: bool | None = None, started: bool | None = None) -> None:
        """A probe's verdict changed."""
        self._show(
            ready=self.view.ready if ready is None else ready, started=self.view.started if started is None else started
        )

    def unhealthy(self, grace: float | None) -> None:
        """The liveness or startup probe gave up: the container is ended and restarted."""
        self._unhealthy_grace = grace
        self._unhealthy.set()

    def _show(self, **fields: Any) -> None:
        """Change the view."""
        changed = replace(self.view, **fields)
        if changed.started:
            self.started.set()
        if changed != self.view:
            self.view = changed
            self.context.changed()

    def _terminated(self, ended: Exit, run: Path) -> Terminated:
        """How a run ended, with its last words."""
        if ended.error:
            return Terminated(ended.code, "StartError", ended.error, ended.started_at, ended.finished_at)
        reason = "Completed" if ended.code == 0 else "Error"
        if ended.lost:
            message = "The container's shim was killed, and the container with it"
            return Terminated(ended.code, "ContainerStatusUnknown", message, ended.started_at, ended.finished_at)
        policy = self.container.get("terminationMessagePolicy") or "File"
        message = termination_message(run / "termination-log", run / "log", policy, failed=ended.code != 0)
        return Terminated(ended.code, reason, message, ended.started_at, ended.finished_at, ended.signal)

    def _identity(self) -> str:
        return f"{self.context.pod['metadata']['uid']}/{self.name}/{self.view.restarts}"

    def _forget_old_runs(self) -> None:
        for folder in self._folder.glob("*"):
            if folder.name.isdigit() and int(folder.name) <= self.view.restarts - _RUNS_KEPT:
                shutil.rmtree(folder, ignore_errors=True)


async def _first(events: tuple[asyncio.Event, ...], seconds: float) -> None:
    """Wait until one of some events is set, or a time has passed."""
    tasks = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, timeout=max(seconds, 0.0), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()

"""One pod: admitted, prepared, run, reported and, when it is deleted, ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from plimsoll_cli.sandbox.node import gpus, pod_record, refusal, status, volumes
from plimsoll_cli.sandbox.node.config import NodeConfig
from plimsoll_cli.sandbox.node.container_worker import ContainerWorker
from plimsoll_cli.sandbox.node.context import AgentContext, PodContext
from plimsoll_cli.sandbox.node.pod_record import PodRecord
from plimsoll_cli.sandbox.node.status import PodView
from plimsoll_kube.errors import ApiError, Conflict, NotFound
from plimsoll_kube.resources import POD

Manifest = Mapping[str, Any]
logger = logging.getLogger(__name__)
_FORCED_GRACE_SECONDS: Final = 1.0
"""For a pod whose object is gone already: nobody waits for it, but SIGTERM comes first."""
_WRITE_RETRY_SECONDS: Final = 1.0
_ADMISSION_POLL_SECONDS: Final = 0.05


class PodWorker:
    """Runs one pod until it is gone. `run` is its only task's coroutine; the other methods tell it things."""

    def __init__(self, agent: AgentContext, node: NodeConfig, pod: Manifest, record: PodRecord | None) -> None:
        self.agent, self.node, self.pod = agent, node, pod
        self.uid: str = pod["metadata"]["uid"]
        self.init: list[ContainerWorker] = []
        self.containers: list[ContainerWorker] = []
        self._record = record
        self._failed: tuple[str, str] | None = None
        self._context: PodContext | None = None
        self._changed = asyncio.Event()
        self._deleting = asyncio.Event()
        self._gone = False
        self._ended = False
        self._start_time = record.start_time if record else time.time()
        self._sent: Manifest | None = None
        self._stop_at: float | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lives: list[asyncio.Task[None]] = []
        if status.is_terminal(pod.get("status") or {}):
            # It ended under an earlier agent, and the scheduler counts its GPUs as free. Not left to `run`: a pod that
            # is listed before this one is admitted before this one's `run` begins.
            self._give_gpus_back()

    @property
    def folder(self) -> Path:
        """Where everything of the pod lies."""
        return pod_record.pod_folder(self.agent.config.state_directory, self.uid)

    def observe(self, pod: Manifest) -> None:
        """A newer version of the pod was seen."""
        self.pod = pod
        if self._context is not None:
            self._context.pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            if self._deleting.is_set():
                self._stop_all(self._grace())  # a second deletion may shorten the grace period
            self._deleting.set()

    def forget(self) -> None:
        """The pod's object is gone."""
        self._gone = True
        self.agent.ending.add(self.uid)
        self._deleting.set()
        self._stop_all(_FORCED_GRACE_SECONDS)

    def worker(self, container: str) -> ContainerWorker | None:
        """One of its containers by name."""
        return next((w for w in (*self.init, *self.containers) if w.name == container), None)

    def let_go(self) -> None:
        """Leave everything running for the next agent."""
        for worker in (*self.init, *self.containers):
            worker.let_go()
        for task in (*self._tasks, *self._lives):
            task.cancel()

    async def run(self) -> None:
        """The pod's whole life here."""
        if status.is_terminal(self.pod.get("status") or {}):
            self._show_logs()  # it ended under an earlier agent, and all of it has been told
            await self._deleting.wait()
        else:
            await self._live_and_tell()
        await self._finish()

    async def _live_and_tell(self) -> None:
        """Run the pod until it is deleted, and write its status meanwhile."""
        publishing = asyncio.create_task(self._publish_changes())
        try:
            if await self._admit():
                await self._live_until_deleted()
            self._changed.set()
            await self._deleting.wait()
        finally:
            publishing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await publishing

    def _show_logs(self) -> None:
        """A pod that ended under an earlier agent: only its logs are of interest."""
        if self._record is not None:
            self._make_workers(self._new_context(self._record))

    async def _live_until_deleted(self) -> None:
        """Run the pod until it ended by itself, was deleted, or its time was over."""
        living = asyncio.create_task(self._live())
        deleting = asyncio.create_task(self._deleting.wait())
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        left = None if seconds is None else max(0.0, self._start_time + seconds - time.time())
        done, _ = await asyncio.wait((living, deleting), timeout=left, return_when=asyncio.FIRST_COMPLETED)
        deleting.cancel()
        if not done:
            self._fail("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
            self._stop_all(self._grace())
        elif self._deleting.is_set():
            self._stop_all(self._grace())
        await living

    async def _admit(self) -> bool:
        """Give the pod its place, or fail it with the reason."""
        if refused := refusal.unsupported(self.pod):
            self._fail("UnsupportedBySandbox", "; ".join(refused))
            return False
        if self._record is None:
            try:
                assigned = await self._assign_gpus()
            except gpus.NotEnoughGpusError as error:
                self._fail("UnexpectedAdmissionError", str(error))
                return False
            metadata = self.pod["metadata"]
            address = self.agent.take_address()
            self._record = PodRecord(
                self.uid, metadata["namespace"], metadata["name"], self.node.name, address, assigned, self._start_time
            )
            pod_record.save(self.agent.config.state_directory, self._record)
        self._context = self._new_context(self._record)
        self._make_workers(self._context)
        self._changed.set()
        return True

    def _new_context(self, record: PodRecord) -> PodContext:
        """What the pod's containers share."""
        return PodContext(
            self.agent, self.node, self.pod, self.folder, record.pod_ip, record.gpus, self._changed.set, self.event
        )

    async def _assign_gpus(self) -> dict[str, tuple[int, ...]]:
        """Take GPUs; waits for pods whose objects are gone, which the scheduler no longer counts, but which still end.

        Raises:
            NotEnoughGpusError: the node has too few, and none is about to be given back.
        """
        taken = self.agent.gpus_taken.setdefault(self.node.name, {})
        while True:
            held = [index for indices in taken.values() for index in indices]
            try:
                assigned = gpus.assign(self.pod, self.node.gpus, held)
            except gpus.NotEnoughGpusError:
                if self._deleting.is_set() or not any(taken[uid] for uid in self.agent.ending & set(taken)):
                    raise
                await asyncio.sleep(_ADMISSION_POLL_SECONDS)
                continue
            taken[self.uid] = tuple({index for indices in assigned.values() for index in indices})
            return assigned

    def _give_gpus_back(self) -> None:
        self.agent.gpus_taken.get(self.node.name, {}).pop(self.uid, None)

    def _make_workers(self, context: PodContext) -> None:
        """One worker per container, showing what an earlier agent left.

        Init containers are retried on failure unless the pod never restarts.
        """
        policy = self.pod["spec"].get("restartPolicy", "Always")
        once = "Never" if policy == "Never" else "OnFailure"
        for container in self.pod["spec"].get("initContainers") or ():
            sidecar = container.get("restartPolicy") == "Always"
            self.init.append(ContainerWorker(context, container, "Always" if sidecar else once, sidecar))
        self.containers = [ContainerWorker(context, container, policy) for container in self.pod["spec"]["containers"]]
        for worker in (*self.init, *self.containers):
            worker.look_back()

    async def _live(self) -> None:
        """Volumes, init containers in order, then all containers until they have ended for good."""
        assert self._context is not None
        if not await self._lay_out(self._context):
            return
        sidecars: list[asyncio.Task[None]] = []
        for worker in self.init:
            if self._deleting.is_set():
                break
            task = self._start(worker)
            if worker.view.sidecar:
                sidecars.append(task)
                started = asyncio.create_task(worker.started.wait())
                await asyncio.wait((task, started), return_when=asyncio.FIRST_COMPLETED)
                started.cancel()
            else:
                await task
                if getattr(worker.view.state, "exit_code", 1) != 0:
                    break
        else:
            if not self._deleting.is_set():
                await asyncio.gather(*(self._start(worker) for worker in self.containers))
        for worker in reversed(self.init):
            if worker.view.sidecar:
                left = self._context.grace_seconds if self._stop_at is None else self._stop_at - time.monotonic()
                worker.stop(max(left, 0.0))
        await asyncio.gather(*sidecars)

    def _start(self, worker: ContainerWorker) -> asyncio.Task[None]:
        task = asyncio.create_task(worker.run())
        self._lives.append(task)
        return task

    async def _lay_out(self, context: PodContext) -> bool:
        """Lay out the volumes, trying again while something is absent; False when the pod is deleted first."""
        layout = volumes.Volumes(self.folder / "volumes", self.agent.cluster, context.facts)
        while not self._deleting.is_set():
            try:
                context.places = await layout.lay_out(self.pod)
                return True
            except (volumes.MountError, ApiError) as error:
                self.event("Warning", "FailedMount", str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._deleting.wait(), self.agent.config.retry_seconds)
        return False

    def _stop_all(self, grace: float) -> None:
        """Ask every container to end; sidecars, as long as others run, are left for `_live` to end after them."""
        self._stop_at = time.monotonic() + grace
        for worker in (*self.containers, *(w for w in self.init if not w.view.sidecar)):
            worker.stop(grace)
        if all(worker.finished for worker in self.containers):
            for worker in self.init:
                worker.stop(grace)

    def _grace(self) -> float:
        """Seconds that deletion gives, from the moment the agent learns of it."""
        if self._gone:
            return _FORCED_GRACE_SECONDS
        value = self.pod["metadata"].get("deletionGracePeriodSeconds")
        value = self.pod["spec"].get("terminationGracePeriodSeconds") if value is None else value
        return float(value) if value is not None else 30.0

    def _fail(self, reason: str, message: str) -> None:
        """The node itself fails the pod."""
        self._failed = (reason, message)
        self.event("Warning", reason, message)
        self._changed.set()

    def event(self, kind: str, reason: str, message: str) -> None:
        """Write an event about the pod; nobody waits for it."""
        self._spawn(self.agent.cluster.event(self.pod, self.node.name, kind, reason, message))

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def view(self) -> PodView:
        """The pod as its containers leave it."""
        unstarted = [status.ContainerView(c["name"], c["image"]) for c in self.pod["spec"]["containers"]]
        return PodView(
            init=tuple(worker.view for worker in self.init),
            containers=tuple(worker.view for worker in self.containers) or tuple(unstarted),
            pod_ip=self._record.pod_ip if self._record else "",
            host_ip=self.agent.config.node_address(self.node.name),
            start_time=self._start_time,
            failed=self._failed,
            ended=self._ended,
        )

    async def _publish_changes(self) -> None:
        """Write the status whenever it changed, and again until it could be written."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._publish()
            except (NotFound, Conflict):
                continue
            except ApiError as error:
                logger.warning("status of pod %s: %s", self.pod["metadata"]["name"], error)
                await asyncio.sleep(_WRITE_RETRY_SECONDS)
                self._changed.set()

    async def _publish(self) -> None:
        """Write the status when it differs from the last one written."""
        view = self.view()
        wanted = status.pod_status(self.pod, view, time.time())
        if wanted == self._sent:
            return
        metadata = self.pod["metadata"]
        patch = {"metadata": {"uid": self.uid}, "status": wanted}
        self.pod = await self.agent.cluster.client.patch(
            POD, metadata["namespace"], metadata["name"], patch, subresource="status"
        )
        self._sent = wanted
        if status.phase(view, self.pod["spec"].get("restartPolicy", "Always")) in ("Succeeded", "Failed"):
            self._give_gpus_back()

    async def _finish(self) -> None:
        """Report the end, remove the object, give everything back."""
        self._ended = True
        # Before the object goes: the scheduler may bind the next pod the moment it does.
        self._give_gpus_back()
        metadata = self.pod["metadata"]
        while not self._gone:
            try:
                if not status.is_terminal(self.pod.get("status") or {}):
                    with contextlib.suppress(NotFound, Conflict):
                        await self._publish()
                await self.agent.cluster.client.delete(
                    POD, metadata["namespace"], metadata["name"], uid=self.uid, grace_period_seconds=0
                )
                break
            except Conflict:
                break
            except ApiError as error:
                logger.warning("deletion of pod %s: %s", metadata["name"], error)
                await asyncio.sleep(_WRITE_RETRY_SECONDS)
        if self._record is not None:
            self.agent.addresses_taken.discard(self._record.pod_ip)
        self.agent.ending.discard(self.uid)
        pod_record.forget(self.agent.config.state_directory, self.uid)

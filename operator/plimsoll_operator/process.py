"""The life of an operator process: wait for the Lease, work while it leads, stop without leaving anything half done."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Coroutine
from typing import Any, Final

from plimsoll_kube.client import KubeApi, KubeClient
from plimsoll_kube.errors import ApiError
from plimsoll_kube.events import EventRecorder
from plimsoll_kube.lease import Leadership, LeadershipLostError, LeaseTerms
from plimsoll_kube.resources import LLM_SERVICE, POD_MONITOR
from plimsoll_operator.event_source import EventSource
from plimsoll_operator.liveness import Liveness, Vitals
from plimsoll_operator.metrics import Metrics, Pulse
from plimsoll_operator.ports import serve_health, serve_metrics
from plimsoll_operator.reconciler import Key, Reconciler
from plimsoll_operator.settings import Settings
from plimsoll_operator.sizer import Sizer
from plimsoll_operator.workers import measure_lag, resync, work
from plimsoll_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

LEASE_NAME: Final = "plimsoll-operator"
USER_AGENT: Final = "plimsoll-operator"

FINISH_S: Final = 20.0
"""Given to running reconciles when the process is asked to stop; kubelets give a pod 30 s."""

WAIT_FOR_API_S: Final = 2.0
"""Between looks at an API server that is away, or that does not know LLMServices yet."""


class OperatorProcess:
    """One operator process."""

    def __init__(self, settings: Settings, source: EventSource) -> None:
        self._settings = settings
        self._source = source
        self._metrics = Metrics()
        self._pulse = Pulse()
        self._queue: WorkQueue[Key] = WorkQueue(on_wait=self._metrics.queue_seconds.observe)
        self._metrics.show(self._queue, self._pulse)
        self._stop = asyncio.Event()
        self._connected = False
        self._leading_since = 0.0
        self._leading = False
        self._liveness: Liveness | None = None

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT; the exit code.

        Raises:
            NoClusterError: there is no cluster to connect to.
        """
        self._handle_signals()
        settings = self._settings
        client = await KubeClient.connect(
            settings.kubeconfig, user_agent=USER_AGENT, on_request=self._metrics.observe_request
        )
        async with client as api, self._ports(), _background(measure_lag(self._pulse)):
            if not await self._until_stopped(self._wait_for_api(api)):
                return 0
            terms = LeaseTerms(settings.lease_namespace, LEASE_NAME, _identity(), settings.lease_duration)
            leadership = Leadership(api, terms)
            if not await self._until_stopped(leadership.acquire()):
                return 0
            self._leading, self._leading_since = True, time.time()
            self._metrics.leader.set(1)
            try:
                return await self._lead(api, leadership)
            finally:
                self._metrics.leader.set(0)

    async def _lead(self, api: KubeApi, leadership: Leadership) -> int:
        """Work until stopped or until the Lease is lost."""
        settings = self._settings
        monitors = await api.served(POD_MONITOR)
        self._liveness = Liveness(self._source.watched(monitors=monitors), self._source.name_of, settings.resync)
        sizer = Sizer()
        reconciler = Reconciler(api, settings, sizer, EventRecorder(api, LEASE_NAME))
        started = asyncio.Event()
        workers = [
            asyncio.create_task(work(self._queue, reconciler, self._metrics), name=f"reconcile worker {number}")
            for number in range(settings.workers)
        ]
        tasks = {
            "lease": asyncio.create_task(leadership.hold()),
            "events": asyncio.create_task(self._source.run(self._queue.add, settings, started, monitors=monitors)),
            "resync": asyncio.create_task(resync(api, self._queue, self._pulse, settings.namespaces, settings.resync)),
            "signals": asyncio.create_task(self._signals_after(started)),
            "stop": asyncio.create_task(self._stop.wait()),
        }
        done, _ = await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        ended = {name: task for name, task in tasks.items() if task in done}
        lost = "lease" in ended
        self._queue.close()
        await _finish(workers, 0.0 if lost else FINISH_S)
        for task in tasks.values():
            if task not in done:
                task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        sizer.close()
        await leadership.release()
        return _exit_code(ended)

    async def _signals_after(self, started: asyncio.Event) -> None:
        """kopf takes the signal handlers for itself while it starts; take them back."""
        await started.wait()
        self._handle_signals()
        await asyncio.Event().wait()

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    async def _until_stopped(self, what: Awaitable[None]) -> bool:
        """Wait for something; False when the process is asked to stop first."""
        waiting = asyncio.ensure_future(what)
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (waiting, stopping):
            if not task.done():
                task.cancel()
        await asyncio.gather(waiting, stopping, return_exceptions=True)
        if waiting.cancelled():
            return False
        waiting.result()
        return not self._stop.is_set()

    async def _wait_for_api(self, api: KubeApi) -> None:
        """Until the API server answers and knows LLMServices."""
        while True:
            try:
                known = await api.served(LLM_SERVICE)
            except ApiError as error:
                logger.warning("the API server does not answer", extra={"detail": str(error)})
            else:
                self._connected = True
                if known:
                    return
                logger.warning("waiting for the LLMService definition: install it with `plimsoll crd`")
            await asyncio.sleep(WAIT_FOR_API_S)

    @contextlib.asynccontextmanager
    async def _ports(self) -> AsyncIterator[None]:
        health = await serve_health(self._settings.health_port, self._problems, lambda: self._connected)
        metrics = await serve_metrics(self._settings.metrics_port, self._metrics.registry)
        try:
            yield
        finally:
            await health.cleanup()
            await metrics.cleanup()

    def _problems(self) -> list[str]:
        if self._liveness is None:
            return []
        last_resync = max(self._pulse.resynced_at, self._leading_since)
        return self._liveness.problems(
            Vitals(
                leading=self._leading,
                watched=frozenset(self._source.running()),
                oldest_key=self._queue.oldest_age(),
                resync_age=time.time() - last_resync,
                loop_lag=self._pulse.loop_lag,
            )
        )


def _exit_code(ended: dict[str, asyncio.Task[Any]]) -> int:
    """0 for a stop that was asked for; 1 when the Lease or the event source was lost, so that we are started anew."""
    for name, task in ended.items():
        error = task.exception()
        if error is None:
            continue
        if isinstance(error, LeadershipLostError):
            logger.error("leadership lost", extra={"detail": str(error)})
        else:
            logger.error("stopping", extra={"cause": name, "detail": repr(error)})
        return 1
    return 0


async def _finish(workers: list[asyncio.Task[None]], seconds: float) -> None:
    """Let running reconciles end, then cancel what has not."""
    if seconds:
        await asyncio.wait(workers, timeout=seconds)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


@contextlib.asynccontextmanager
async def _background(what: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(what)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _identity() -> str:
    """Who we are in the Lease: unique per process, readable for a person."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4().hex[:8]}"

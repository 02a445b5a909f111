"""What runs beside the event source: workers on the queue, the resync, and the clock that notices a stuck loop."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Final

from plimsoll_kube.client import KubeApi
from plimsoll_kube.errors import ApiError, Conflict, Forbidden
from plimsoll_kube.resources import LLM_SERVICE
from plimsoll_operator.metrics import Metrics, Pulse
from plimsoll_operator.reconciler import Key, Reconciler
from plimsoll_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

RESYNC_SPREAD_S: Final = 30.0
"""A resync's services are spread over this time, so that it is no burst."""

RESYNC_RETRY_S: Final = 5.0

LAG_INTERVAL_S: Final = 1.0


async def work(queue: WorkQueue[Key], reconciler: Reconciler, metrics: Metrics) -> None:
    """Reconcile keys until the queue is closed. Here, and only here, an error becomes a later try."""
    while (key := await queue.get()) is not None:
        began = time.monotonic()
        try:
            outcome = await reconciler.reconcile(key)
        except Conflict as error:
            _failed(queue, key, metrics, "conflict", error)
        except ApiError as error:
            _failed(queue, key, metrics, "forbidden" if isinstance(error, Forbidden) else "api_error", error)
        except Exception:
            logger.exception("reconcile failed", extra={"namespace": key[0], "llmservice": key[1]})
            metrics.reconciles.labels("error").inc()
            queue.retry(key)
        else:
            queue.forget(key)
            metrics.reconciles.labels(outcome.result).inc()
            metrics.services.show(key, outcome)
            if outcome.requeue_after is not None:
                queue.add(key, outcome.requeue_after)
        finally:
            metrics.reconcile_seconds.observe(time.monotonic() - began)
            queue.done(key)


def _failed(queue: WorkQueue[Key], key: Key, metrics: Metrics, result: str, error: ApiError) -> None:
    delay = queue.retry(key)
    metrics.reconciles.labels(result).inc()
    logger.warning(
        "reconcile put off",
        extra={"namespace": key[0], "llmservice": key[1], "detail": str(error), "retry_in_s": round(delay, 2)},
    )


async def resync(
    api: KubeApi, queue: WorkQueue[Key], pulse: Pulse, namespaces: tuple[str, ...], interval: float
) -> None:
    """List every service now and then and have it reconciled: what no event told is repaired.

    Args:
        api: where to list.
        queue: where keys go.
        pulse: told when it happened.
        namespaces: to list; empty lists all.
        interval: seconds between two, at least; at most twice that.
    """
    while True:
        try:
            for namespace in namespaces or (None,):
                for service in (await api.list(LLM_SERVICE, namespace)).items:
                    key = (service["metadata"]["namespace"], service["metadata"]["name"])
                    queue.add(key, random.uniform(0.0, min(RESYNC_SPREAD_S, interval / 2)))
        except ApiError as error:
            logger.warning("resync put off", extra={"detail": str(error)})
            await asyncio.sleep(RESYNC_RETRY_S)
            continue
        pulse.resynced_at = time.time()
        await asyncio.sleep(interval * random.uniform(1.0, 2.0))


async def measure_lag(pulse: Pulse) -> None:
    """Note how late the event loop wakes a timer."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(LAG_INTERVAL_S)
        pulse.loop_lag = max(0.0, time.monotonic() - began - LAG_INTERVAL_S)

"""Why an engine did not start, where its last words only say that its log has the cause.

vLLM's engine and its workers are processes of their own. When one fails, the API server ends with a traceback that
names no cause and is longer than the 2 KiB of a termination message: in vLLM 0.32 the cause stands 10 KB above the
end of the log. Only logs of replicas that never served are read, in which no user's prompt can stand.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from plimsoll_api import names
from plimsoll_kube.client import KubeApi
from plimsoll_kube.errors import ApiError
from plimsoll_operator.pods import PodView

logger = logging.getLogger(__name__)

TAIL_LINES: Final = 500
"""End of a log that is read. Each of a replica's processes leaves a traceback of 30 to 60 lines; with eight GPUs the
first, which has the cause, is up to ten of them from the end."""

MOST_BYTES: Final = 256 * 1024
"""Of them: four times what a failed start of eight workers leaves. Who chooses the image chooses the log's length."""

READ_SECONDS: Final = 5.0
"""For a log, which comes from the pod's node: one that does not answer must not hold up its service's reconcile."""

LINE_CHARACTERS: Final = 2000
"""Of a line that are looked at."""

_CAUSE_ABOVE: Final = "See root cause above"
"""How vLLM's API server ends when its engine did not start (vLLM 0.32)."""

_RAISED: Final = re.compile(
    r".{0,200}?\bERROR\b[^\[]{0,100}\[[\w./-]{1,200}:\d{1,6}\] (?:\([^)]{0,100}\) )?"
    r"(?P<cause>[A-Za-z_][\w.]{0,200}(?:Error|Exception): .+)"
)
"""The line of a logged traceback that names the exception: level, time, file and line stand before each line.
Every repetition is bounded: the text is not ours."""

_ELSEWHERE: Final = re.compile(r"[Ss]ee (?:stack trace|root cause)|Engine core initialization failed")
"""What a process says that failed because another did."""


def is_above(message: str) -> bool:
    """Whether an engine's last words leave it to its log to say why it did not start."""
    return _CAUSE_ABOVE in message


def cause_in(log: str) -> str:
    """The exception that the process that failed first logged; empty when the log has none."""
    for line in log.splitlines():
        found = _RAISED.match(line[:LINE_CHARACTERS])
        if found and not _ELSEWHERE.search(found["cause"]):
            return found["cause"].strip()
    return ""


async def with_causes(api: KubeApi, namespace: str, pods: Iterable[PodView]) -> tuple[PodView, ...]:
    """The pods, with the cause from the log for those that failed at start and do not say why themselves."""
    return tuple(await asyncio.gather(*(_with_cause(api, namespace, pod) for pod in pods)))


async def _with_cause(api: KubeApi, namespace: str, pod: PodView) -> PodView:
    failure = pod.failure
    if failure is None or pod.served or not is_above(failure.message):
        return pod
    try:
        async with asyncio.timeout(READ_SECONDS):
            log = await api.log(
                namespace,
                pod.name,
                names.ENGINE_CONTAINER,
                previous=failure.replaced,
                tail_lines=TAIL_LINES,
                limit_bytes=MOST_BYTES,
            )
    except (ApiError, TimeoutError) as error:
        # A log that is gone, or a kubelet that does not answer: what the container itself said is still true.
        logger.info("log not read", extra={"namespace": namespace, "pod": pod.name, "error": str(error)})
        return pod
    cause = cause_in(log)
    return replace(pod, failure=replace(failure, message=cause)) if cause else pod

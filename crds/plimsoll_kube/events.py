"""Events that people see in `kubectl describe`: one per transition, counted when it comes again."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal

from plimsoll_kube.client import KubeApi
from plimsoll_kube.errors import ApiError, Conflict
from plimsoll_kube.resources import EVENT, Manifest

logger = logging.getLogger(__name__)

DEDUPE_WINDOW_S: Final = 120.0
"""The same event about the same object is not repeated within this time (Karpenter's recorder uses 2 min, too)."""

MAX_MESSAGE: Final = 1024
"""Characters in an event's message; the API server refuses more."""

EventType = Literal["Normal", "Warning"]


class EventRecorder:
    """Posts events. Telling people must never stop the work: what fails is logged."""

    def __init__(self, api: KubeApi, component: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._component = component
        self._clock = clock
        self._posted: dict[str, float] = {}

    async def post(self, about: Manifest, kind: EventType, reason: str, message: str) -> bool:
        """Post an event about an object.

        Args:
            about: the object; its kind, name, namespace and uid are used.
            kind: `Warning` when a person should look.
            reason: one CamelCase word.
            message: what happened, with its numbers.

        Returns:
            False when it was left out as a repetition, or could not be posted.
        """
        metadata = about["metadata"]
        message = message[:MAX_MESSAGE]
        identity = "\0".join((metadata.get("uid", ""), kind, reason, message))
        digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
        now = self._clock()
        self._posted = {key: at for key, at in self._posted.items() if now - at < DEDUPE_WINDOW_S}
        if digest in self._posted:
            return False
        self._posted[digest] = now
        name = f"{metadata['name']}.{digest}"
        try:
            await self._write(about, name, kind, reason, message)
        except ApiError as error:
            logger.warning("event %s about %s was not posted: %s", reason, metadata["name"], error)
            return False
        return True

    async def _write(self, about: Manifest, name: str, kind: EventType, reason: str, message: str) -> None:
        metadata = about["metadata"]
        namespace = metadata.get("namespace", "default")
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = EVENT.manifest(
            namespace,
            name,
            involvedObject={
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": metadata["name"],
                "namespace": namespace,
                "uid": metadata.get("uid", ""),
            },
            type=kind,
            reason=reason,
            message=message,
            source={"component": self._component},
            reportingComponent=self._component,
            reportingInstance=self._component,
            firstTimestamp=at,
            lastTimestamp=at,
            count=1,
        )
        try:
            await self._api.create(event)
        except Conflict:  # told before, perhaps by a process that has ended since
            await self._api.patch(EVENT, namespace, name, {"lastTimestamp": at, "count": 2})

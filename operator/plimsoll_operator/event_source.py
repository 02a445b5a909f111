"""What the process asks of a source of events, so that it does not know kopf."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from plimsoll_kube.resources import Resource
from plimsoll_operator.reconciler import Key
from plimsoll_operator.settings import Settings


class Enqueue(Protocol):
    """Where keys go: `WorkQueue.add`."""

    def __call__(self, key: Key, delay: float = 0.0, *, urgent: bool = False) -> None:
        """Have a key worked on in `delay` seconds, before others when it is urgent."""
        ...


class EventSource(Protocol):
    """Where changes come from: kopf, behind three functions of `plimsoll_operator.events`."""

    def run(
        self, enqueue: Enqueue, settings: Settings, started: asyncio.Event, *, monitors: bool
    ) -> Coroutine[Any, Any, None]:
        """Watch until cancelled."""
        ...

    def watched(self, *, monitors: bool) -> tuple[Resource, ...]:
        """What it watches."""
        ...

    def running(self) -> set[str]:
        """Names of the watchers that run."""
        ...

    def name_of(self, resource: Resource) -> str:
        """The name of a resource's watcher."""
        ...

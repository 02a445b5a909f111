"""`plimsoll-operator`: LLMServices become running, watched pods."""

from __future__ import annotations

import asyncio
import logging
import sys

import kopf

from plimsoll_api import json_log
from plimsoll_kube.connection import NoClusterError
from plimsoll_kube.resources import Resource
from plimsoll_operator import events
from plimsoll_operator.event_source import Enqueue
from plimsoll_operator.process import OperatorProcess
from plimsoll_operator.settings import Settings, parse_settings

logger = logging.getLogger("plimsoll_operator")


class KopfEvents:
    """kopf as the process's event source."""

    async def run(self, enqueue: Enqueue, settings: Settings, started: asyncio.Event, *, monitors: bool) -> None:
        """Watch until cancelled, or until kopf gives up."""
        await kopf.operator(
            registry=events.registry(enqueue, settings.kubeconfig, monitors=monitors),
            settings=events.kopf_settings(monitors=monitors),
            standalone=True,
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            ready_flag=started,
        )

    def watched(self, *, monitors: bool) -> tuple[Resource, ...]:
        """What is watched."""
        return events.watched(monitors=monitors)

    def running(self) -> set[str]:
        """Names of the watchers that run."""
        return events.watchers()

    def name_of(self, resource: Resource) -> str:
        """The name of a resource's watcher."""
        return events.watcher_name(resource)


def main() -> None:
    """Entry point of the console script."""
    settings = parse_settings(sys.argv[1:])
    json_log.configure(only_warnings_of=["kopf"])
    try:
        sys.exit(asyncio.run(OperatorProcess(settings, KopfEvents()).run()))
    except NoClusterError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

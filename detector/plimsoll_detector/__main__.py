"""`plimsoll-detector`: stand by for the Lease, then decide until told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
import uuid
from contextlib import AsyncExitStack
from typing import Final

from plimsoll_api import json_log, names
from plimsoll_detector import endpoints
from plimsoll_detector.kube import FleetApi
from plimsoll_detector.loop import Detector
from plimsoll_detector.prometheus import Prometheus, Trust
from plimsoll_detector.service import Rules
from plimsoll_detector.settings import Settings, parse
from plimsoll_detector.telemetry import Telemetry
from plimsoll_kube.client import KubeClient
from plimsoll_kube.connection import NoClusterError
from plimsoll_kube.lease import Leadership, LeadershipLostError, LeaseTerms

logger = logging.getLogger(__name__)

LEASE_NAME: Final = names.FieldManager.DETECTOR.value

STUCK_INTERVALS: Final = 5.0
"""Intervals without a tick that ended well after which a leader says it is not alive; but never less than..."""

STUCK_SECONDS: Final = 60.0
"""...this: an API server that restarts takes tens of seconds, and restarting the detector would not help it."""


async def run(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT, or until the Lease is lost.

    Returns:
        The exit code: 0 when told to stop, 1 otherwise.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    telemetry = Telemetry()
    async with AsyncExitStack() as stack:
        try:
            api = await KubeClient.connect(
                settings.kubeconfig, user_agent=names.FieldManager.DETECTOR.value, on_request=telemetry.api_request
            )
        except NoClusterError as error:
            logger.error("%s", error)
            return 1
        stack.push_async_exit(api)
        trust = Trust(settings.prometheus_token_file, settings.prometheus_ca_file)
        prometheus = Prometheus(settings.prometheus_url, telemetry.query, trust)
        stack.callback(prometheus.close)
        rules = Rules(settings.window, settings.interval, settings.wake_signal)
        detector = Detector(FleetApi(api, rules, settings.namespaces), prometheus, telemetry, rules)
        identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        terms = LeaseTerms(settings.lease_namespace, LEASE_NAME, identity, settings.lease_duration)
        leadership = Leadership(api, terms)
        await _serve(stack, settings, telemetry, detector, leadership)
        return await _lead(detector, leadership, telemetry, stopping)


async def _serve(
    stack: AsyncExitStack, settings: Settings, telemetry: Telemetry, detector: Detector, leadership: Leadership
) -> None:
    """Health and metrics; a standby is alive and ready, too."""
    began = time.monotonic()
    patience = max(settings.interval * STUCK_INTERVALS, STUCK_SECONDS)

    def alive() -> str | None:
        quiet = time.monotonic() - (detector.last_tick or began)
        if leadership.leading and quiet > patience:
            return f"leading, but no tick has ended well for {quiet:.0f} s"
        return None

    health = endpoints.health_app(alive, alive)
    await endpoints.serve(stack, "health", health, settings.bind_address, settings.health_port)
    metrics = endpoints.metrics_app(telemetry.registry)
    await endpoints.serve(stack, "metrics", metrics, settings.bind_address, settings.metrics_port)


async def _lead(detector: Detector, leadership: Leadership, telemetry: Telemetry, stopping: asyncio.Event) -> int:
    """Acquire the Lease, decide while it is ours, and give it up at the end."""
    stop = asyncio.create_task(stopping.wait())
    work = asyncio.create_task(_work(detector, leadership, telemetry))
    try:
        await asyncio.wait({stop, work}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            logger.info("stopping")
            return 0
        work.result()
    except* LeadershipLostError as group:
        logger.error("%s", group.exceptions[0])
    finally:
        telemetry.leader.set(0)
        for task in (work, stop):
            task.cancel()
        await asyncio.gather(work, stop, return_exceptions=True)
        await leadership.release()
    return 1


async def _work(detector: Detector, leadership: Leadership, telemetry: Telemetry) -> None:
    """Tick for as long as the Lease is ours.

    Raises:
        ExceptionGroup: of a `LeadershipLostError`, when it no longer is.
    """
    await leadership.acquire()
    telemetry.leader.set(1)
    async with asyncio.TaskGroup() as group:
        group.create_task(leadership.hold())
        group.create_task(detector.run())


def main() -> None:
    """Entry point of `plimsoll-detector`."""
    settings = parse(sys.argv[1:], os.environ)
    try:
        # An unreachable Prometheus is in our own words already.
        json_log.configure(settings.log_level, only_errors_of=["urllib3"])
    except ValueError as error:
        sys.exit(f"plimsoll-detector: --log-level: {error}")
    try:
        code = asyncio.run(run(settings))
    except OSError as error:
        logger.error("%s", error)
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()

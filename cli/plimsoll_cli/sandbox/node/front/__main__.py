"""`python -m plimsoll_cli.sandbox.node.front --kubeconfig F --config FILE.json`: run the front until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

import uvloop
from aiohttp import web

from plimsoll_api import json_log
from plimsoll_cli.errors import CommandError
from plimsoll_cli.sandbox.node.config import load
from plimsoll_cli.sandbox.node.front.listeners import Listeners
from plimsoll_cli.sandbox.node.front.proxy import Proxy, new_session
from plimsoll_cli.sandbox.node.front.table import RouteTable
from plimsoll_kube.client import KubeClient
from plimsoll_kube.connection import NoClusterError
from plimsoll_kube.errors import ApiError
from plimsoll_kube.following import follow
from plimsoll_kube.resources import POD, SERVICE

logger = logging.getLogger(__name__)
_CLIENT_KEEP_ALIVE_SECONDS = 75.0


async def serve(kubeconfig: Path) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        CommandError: the API server cannot be used.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    table = RouteTable()
    try:
        client = await KubeClient.connect(kubeconfig, user_agent="plimsoll-sandbox-front")
    except NoClusterError as error:
        raise CommandError(str(error), 3) from error
    async with client, new_session() as session:
        server = web.Server(
            Proxy(table, session).handle,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=_CLIENT_KEEP_ALIVE_SECONDS,
        )
        listeners = Listeners(server)
        tasks = [
            asyncio.create_task(_follow_pods(client, table)),
            asyncio.create_task(_follow_services(client, table, listeners)),
        ]
        stopping = asyncio.create_task(stop.wait())
        done, pending = await asyncio.wait((*tasks, stopping), return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await listeners.close()
        await server.shutdown(0.2)
        for task in done - {stopping}:
            if failure := task.exception():
                raise CommandError(f"the Service front cannot go on: {failure}") from failure


async def _follow_pods(client: KubeClient, table: RouteTable) -> None:
    async for change in follow(client, POD):
        if change.type != "SYNCED":
            table.pod_changed(change.object, deleted=change.type == "DELETED")


async def _follow_services(client: KubeClient, table: RouteTable, listeners: Listeners) -> None:
    async for change in follow(client, SERVICE):
        if change.type != "SYNCED":
            table.service_changed(change.object, deleted=change.type == "DELETED")
            await listeners.follow(table.routes)
        else:
            logger.info("listening", extra={"services": len(table.routes)})


def main() -> None:
    """Parse the command line and run; one line on stderr when it cannot."""
    parser = argparse.ArgumentParser(prog="python -m plimsoll_cli.sandbox.node.front", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    arguments = parser.parse_args()
    json_log.configure()
    try:
        load(arguments.config)
        uvloop.run(serve(arguments.kubeconfig))
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ApiError as error:
        print(f"error: the Service front: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

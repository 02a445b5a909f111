"""`python -m plimsoll_cli.sandbox.node --kubeconfig F --config FILE.json`: run the node agent until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

import aiohttp

from plimsoll_api import json_log
from plimsoll_cli.errors import CommandError
from plimsoll_cli.sandbox.node import claims
from plimsoll_cli.sandbox.node.agent import NodeAgent
from plimsoll_cli.sandbox.node.cluster import Cluster
from plimsoll_cli.sandbox.node.config import AgentConfig, load
from plimsoll_cli.sandbox.node.context import AgentContext
from plimsoll_cli.sandbox.node.front_process import keep_front
from plimsoll_cli.sandbox.node.kubelet_server import KubeletServer
from plimsoll_kube.connection import NoClusterError, load_configuration
from plimsoll_kube.errors import ApiError
from plimsoll_kube.kubelet_client import KubeletClient

logger = logging.getLogger(__name__)


async def serve(kubeconfig: Path, config_file: Path, config: AgentConfig) -> None:
    """Run until SIGTERM or SIGINT; containers go on for the next agent.

    Raises:
        CommandError: the API server or an address cannot be used.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        api_url = (await load_configuration(kubeconfig)).host
        client = await KubeletClient.connect(kubeconfig, user_agent="plimsoll-sandbox-node")
    except NoClusterError as error:
        raise CommandError(str(error), 3) from error
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with client, aiohttp.ClientSession(connector=connector, trust_env=False) as session:
        config.state_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        agent = NodeAgent(AgentContext(config, Cluster(client), session, api_url))
        agent.take_up_records()
        server = KubeletServer(agent)
        try:
            await server.start()
            await agent.register()
            await claims.register_class(client, config.storage_class)
        except OSError as error:
            raise CommandError(f"the kubelet port of the nodes is not free: {error}", 3) from error
        except ApiError as error:
            raise CommandError(f"cannot register the nodes: {error}", 3) from error
        logger.info("ready", extra={"nodes": sorted(agent.nodes)})
        try:
            await _work(agent, kubeconfig, config_file, stop)
        finally:
            await agent.let_go()
            await server.stop()


async def _work(agent: NodeAgent, kubeconfig: Path, config_file: Path, stop: asyncio.Event) -> None:
    """The long-running tasks; the first that ends ends all, with its error."""
    config = agent.context.config
    work = [agent.follow_pods(), agent.heartbeat()]
    work.append(claims.provision(agent.context.cluster, config.storage_class, config.state_directory / "claims"))
    if config.front:
        work.append(keep_front(kubeconfig, config_file))
    tasks = [asyncio.create_task(item) for item in work]
    stopping = asyncio.create_task(stop.wait())
    done, pending = await asyncio.wait((*tasks, stopping), return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done - {stopping}:
        if error := task.exception():
            raise CommandError(f"the node agent cannot go on: {error}", 1) from error


def main() -> None:
    """Parse the command line and run; one line on stderr when it cannot."""
    parser = argparse.ArgumentParser(prog="python -m plimsoll_cli.sandbox.node", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True, help="see plimsoll_cli.sandbox.node.config.AgentConfig")
    arguments = parser.parse_args()
    json_log.configure()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(arguments.kubeconfig, arguments.config, load(arguments.config)))
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

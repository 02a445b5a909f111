"""The kubelet port: `kubectl logs` reaches it through the API server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from aiohttp import web

from plimsoll_cli.sandbox.node.agent import NodeAgent
from plimsoll_cli.sandbox.node.container_worker import ContainerWorker
from plimsoll_cli.sandbox.node.log_tail import tail_offset

logger = logging.getLogger(__name__)
_FOLLOW_POLL_SECONDS: Final = 0.1
_CHUNK_BYTES: Final = 65536


class KubeletServer:
    """HTTPS on every node's address."""

    def __init__(self, agent: NodeAgent) -> None:
        self._agent = agent
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on every node's address.

        Raises:
            OSError: an address or the port is not free.
        """
        app = web.Application()
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/pods", self._pods)
        for path in ("exec", "attach", "portForward", "run"):
            app.router.add_route("*", f"/{path}/{{rest:.*}}", self._not_here)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
        await self._runner.setup()
        config = self._agent.context.config
        context = await asyncio.to_thread(self._tls)
        for node in config.nodes:
            site = web.TCPSite(self._runner, config.node_address(node.name), config.kubelet_port, ssl_context=context)
            await site.start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    def _tls(self) -> ssl.SSLContext:
        """The configured certificate, or a self-signed one; clients are asked for theirs when an authority is set."""
        config = self._agent.context.config
        certificate, key = config.kubelet_certificate, config.kubelet_key
        if certificate is None or key is None:
            addresses = tuple(config.node_address(node.name) for node in config.nodes)
            certificate, key = _self_signed(config.state_directory, addresses)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        if config.client_authority is not None:
            context.load_verify_locations(config.client_authority)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        """GET /containerLogs: follow, tailLines, limitBytes, previous."""
        info, query = request.match_info, request.query
        for unsupported in ("sinceSeconds", "sinceTime"):
            if query.get(unsupported):
                return _answer(f"{unsupported}: the sandbox keeps logs without times", 400)
        if query.get("timestamps") == "true":
            return _answer("timestamps: the sandbox keeps logs without times", 400)
        pod = self._agent.find(info["namespace"], info["pod"])
        worker = pod.worker(info["container"]) if pod else None
        if worker is None:
            return _answer(f"container {info['container']!r} of pod {info['pod']!r} has not been created here", 404)
        log = worker.log(previous=query.get("previous") == "true")
        if log is None:
            which = "previous terminated container" if query.get("previous") == "true" else "container"
            return _answer(f"{which} {info['container']!r} in pod {info['pod']!r} has no log", 400)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        lines = int(query["tailLines"]) if "tailLines" in query else None
        left = int(query["limitBytes"]) if "limitBytes" in query else None
        async for chunk in _read(log, worker, tail_offset(log, lines), follow=query.get("follow") == "true"):
            await response.write(chunk if left is None else chunk[:left])
            left = None if left is None else left - len(chunk)
            if left is not None and left <= 0:
                break
        with contextlib.suppress(ConnectionError):
            await response.write_eof()
        return response

    async def _healthz(self, request: web.Request) -> web.Response:
        """The agent's event loop answers."""
        return _answer("ok")

    async def _pods(self, request: web.Request) -> web.Response:
        """Names of the pods that run here."""
        names = [w.pod["metadata"]["namespace"] + "/" + w.pod["metadata"]["name"] for w in self._agent.workers.values()]
        return web.json_response(sorted(names))

    async def _not_here(self, request: web.Request) -> web.Response:
        """exec, attach and port-forward need a container runtime."""
        kind = request.path.split("/")[1]
        return _answer(f"{kind}: the sandbox runs processes, not containers; pods answer on their own addresses", 501)


async def _read(log: Path, worker: ContainerWorker, offset: int, *, follow: bool) -> AsyncIterator[bytes]:
    """A log from an offset; with `follow`, what is added until the run ends."""
    with log.open("rb") as file:
        file.seek(offset)
        while True:
            running = (
                follow and not worker.finished and worker.log() == log
            )  # looked at before reading: nothing is missed
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
            if not running:
                return
            await asyncio.sleep(_FOLLOW_POLL_SECONDS)


def _answer(text: str, code: int = 200) -> web.Response:
    return web.Response(text=text + "\n", status=code)


def _self_signed(directory: Path, addresses: tuple[str, ...]) -> tuple[Path, Path]:
    """A certificate for the nodes' addresses: enough for an API server without --kubelet-certificate-authority."""
    directory.mkdir(parents=True, exist_ok=True)
    certificate, key = directory / "kubelet.crt", directory / "kubelet.key"
    names = ",".join(f"IP:{address}" for address in addresses)
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "365", "-subj", "/CN=plimsoll-sandbox-kubelet", "-addext", f"subjectAltName={names}"),
            *("-out", str(certificate), "-keyout", str(key)),
        ],
        check=True,
        capture_output=True,
    )
    key.chmod(0o600)
    return certificate, key

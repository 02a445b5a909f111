"""Carry out what probes and lifecycle hooks ask for: an HTTP request, a connection, a command, a pause."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

_EXEC_SHIM: Final = Path(__file__).parent.parent / "exec_shim.py"
_OUTPUT_SHOWN: Final = 200
"""Characters of a failed probe's answer shown in its event."""


class HandlerError(Exception):
    """The request, connection or command did not succeed; one line."""


@dataclass(frozen=True)
class Target:
    """Where a container's handlers act.

    Args:
        address: the pod's address.
        ports: the container's port numbers by name.
        environment: the variables of the container, for commands.
        directory: working directory of commands.
    """

    address: str
    ports: Mapping[str, int]
    environment: Mapping[str, str]
    directory: str

    def port(self, wanted: int | str) -> int:
        """A port's number.

        Raises:
            HandlerError: the container names no such port.
        """
        if isinstance(wanted, int):
            return wanted
        if wanted.isdigit():
            return int(wanted)
        if wanted not in self.ports:
            raise HandlerError(f"the container names no port {wanted!r}")
        return self.ports[wanted]


async def http_get(session: aiohttp.ClientSession, target: Target, action: Mapping[str, Any], timeout: float) -> None:
    """Succeed on a status from 200 to 399, as the kubelet does.

    Raises:
        HandlerError: another status, no answer, or not in time.
    """
    scheme = str(action.get("scheme") or "HTTP").lower()
    host = action.get("host") or target.address
    path = "/" + str(action.get("path") or "/").lstrip("/")
    url = f"{scheme}://{host}:{target.port(action['port'])}{path}"
    headers = [(header["name"], header["value"]) for header in action.get("httpHeaders") or ()]
    try:
        async with session.get(
            url,
            headers=[("User-Agent", "kube-probe/plimsoll"), *headers],
            timeout=aiohttp.ClientTimeout(total=timeout),
            allow_redirects=False,
            ssl=False,
        ) as response:
            if not 200 <= response.status < 400:
                text = (await response.text(errors="replace"))[:_OUTPUT_SHOWN]
                raise HandlerError(f"HTTP probe of {url} failed with statuscode: {response.status} {text}".strip())
    except TimeoutError as error:
        raise HandlerError(f"Get {url!r}: no answer within {timeout:g} s") from error
    except aiohttp.ClientError as error:
        raise HandlerError(f"Get {url!r}: {error}") from error


async def tcp_connect(target: Target, action: Mapping[str, Any], timeout: float) -> None:
    """Succeed when a connection opens.

    Raises:
        HandlerError: it does not, or not in time.
    """
    host, port = action.get("host") or target.address, target.port(action["port"])
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), timeout)
    except TimeoutError as error:
        raise HandlerError(f"dial tcp {host}:{port}: no answer within {timeout:g} s") from error
    except OSError as error:
        raise HandlerError(f"dial tcp {host}:{port}: {error.strerror or error}") from error
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def run_command(arguments: Sequence[str], target: Target, timeout: float) -> None:
    """Run a command as the container would; its end is waited for, and forced when it takes too long.

    Raises:
        HandlerError: it ended with another code than 0, could not start, or took too long.
    """
    process = await asyncio.create_subprocess_exec(
        # The kernel ends the command when this agent ends, so that it never outlives the sandbox.
        *(sys.executable, "-I", "-S", str(_EXEC_SHIM), str(os.getpid()), *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(target.environment),
        cwd=target.directory,
        start_new_session=True,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), timeout)
    except TimeoutError as error:
        raise HandlerError(f"command {arguments[0]} timed out after {timeout:g} s") from error
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if process.returncode != 0:
        text = output.decode(errors="replace").strip()[:_OUTPUT_SHOWN]
        raise HandlerError(f"command exited with {process.returncode}: {text}".rstrip(": "))

"""postStart and preStop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from plimsoll_cli.sandbox.node.context import PodContext
from plimsoll_cli.sandbox.node.handlers import HandlerError, http_get, run_command, tcp_connect
from plimsoll_cli.sandbox.node.images import ProgramNotFoundError
from plimsoll_cli.sandbox.node.preparation import Prepared


class HookError(Exception):
    """A lifecycle hook failed."""


async def act(context: PodContext, prepared: Prepared, action: Mapping[str, Any], timeout: float) -> None:
    """Carry out one handler of a probe or hook.

    Raises:
        HandlerError: it did not succeed.
    """
    if "httpGet" in action:
        await http_get(context.agent.session, prepared.target, action["httpGet"], timeout)
    elif "tcpSocket" in action:
        await tcp_connect(prepared.target, action["tcpSocket"], timeout)
    elif "exec" in action:
        try:
            command = prepared.command(action["exec"].get("command") or [])
        except ProgramNotFoundError as error:
            raise HandlerError(str(error)) from error
        await run_command(command, prepared.target, timeout)
    elif "sleep" in action:
        await asyncio.sleep(min(float(action["sleep"]["seconds"]), timeout))
    else:
        raise HandlerError(f"the sandbox knows no handler {next(iter(action), '')!r}")


async def run_hook(context: PodContext, prepared: Prepared, hook: Mapping[str, Any], timeout: float) -> None:
    """Run a hook for at most `timeout` seconds.

    Raises:
        HookError: it failed.
    """
    try:
        await act(context, prepared, hook, timeout)
    except HandlerError as error:
        raise HookError(str(error)) from error

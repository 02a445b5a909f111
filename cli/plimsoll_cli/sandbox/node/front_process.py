"""Keep the Service front running in a process of its own.

Of its own because it moves every token of every stream: in one process, a busy front would make probes late and pods
unready. The kernel ends it with this agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)
_EXEC_SHIM: Final = Path(__file__).parent.parent / "exec_shim.py"
_RESTART_SECONDS: Final = 1.0
_STOP_SECONDS: Final = 3.0


async def keep_front(kubeconfig: Path, config_file: Path) -> None:
    """Run the front, and again when it ends, until cancelled."""
    while True:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(_EXEC_SHIM), str(os.getpid())),
            *(sys.executable, "-m", "plimsoll_cli.sandbox.node.front"),
            *("--kubeconfig", str(kubeconfig), "--config", str(config_file)),
            stdin=asyncio.subprocess.DEVNULL,
        )
        try:
            code = await process.wait()
            logger.error("the Service front ended", extra={"exit_code": code})
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                try:
                    await asyncio.wait_for(asyncio.shield(process.wait()), _STOP_SECONDS)
                except TimeoutError:
                    process.kill()
                    await process.wait()
        await asyncio.sleep(_RESTART_SECONDS)

"""Start real vLLM in a serving process: `launch.py serve MODEL [vLLM flags]`.

Standard library only, since it is run by the engine's own interpreter, where nothing of the project is installed.
It adds what the engine does not do by itself:

* it binds `PLIMSOLL_BIND_ADDRESS` when the environment names one and no `--host` is given;
* an engine that dies ends with exit code 0 (vLLM issue 48966); here it ends with 70, so that a restart policy and a
  person can tell a crash from a wanted stop.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

BIND_ADDRESS_VARIABLE = "PLIMSOLL_BIND_ADDRESS"
ENGINE_DIED = 70
"""EX_SOFTWARE of sysexits.h: an internal error."""

_PR_SET_PDEATHSIG = 1
"""prctl(2)."""

# The console script of the CPU build looks for a distribution named `vllm` and fails; the module does not.
_MODULE = ("-m", "vllm.entrypoints.openai.api_server")


def engine_command(arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The command that runs vLLM's server.

    Args:
        arguments: as given to `vllm`: `serve MODEL --flag ...`, or the flags alone.
        environment: read for the bind address.
    """
    rest = list(arguments)
    if rest[:1] == ["serve"]:
        rest = rest[1:]
    if rest and not rest[0].startswith("-"):
        rest = ["--model", *rest]
    address = environment.get(BIND_ADDRESS_VARIABLE)
    if address and not any(flag == "--host" or flag.startswith("--host=") for flag in rest):
        rest += ["--host", address]
    return [sys.executable, *_MODULE, *rest]


def exit_code(returncode: int, stop_asked: bool) -> int:
    """The launcher's exit code for the engine's: a 0 that nobody asked for is a crash, a signal is 128 + number."""
    if returncode == 0 and not stop_asked:
        return ENGINE_DIED
    return 128 - returncode if returncode < 0 else returncode


def _die_with_launcher() -> None:
    """Ask Linux to kill the engine when the launcher is killed; elsewhere the container's end does that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(arguments: Sequence[str]) -> int:
    """Run the engine, pass SIGTERM and SIGINT on to it, and return the exit code."""
    stop_asked = False
    # A process group of its own: whoever signals this process's group must not signal the engine a second time. Not a
    # session: Linux gives a new one its own share of the processors, whatever priority this process was given.
    engine = subprocess.Popen(engine_command(arguments, os.environ), process_group=0, preexec_fn=_die_with_launcher)

    def forward(number: int, _frame: FrameType | None) -> None:
        nonlocal stop_asked
        stop_asked = True
        engine.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    return exit_code(engine.wait(), stop_asked)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

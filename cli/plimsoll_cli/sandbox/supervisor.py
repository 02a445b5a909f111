"""The process that owns a sandbox in the background: `python -m plimsoll_cli.sandbox.supervisor OPTIONS REPORT_FD`.

It reports to the command that started it through a pipe, one JSON object per line, and closes the pipe when the
sandbox is ready or has failed. SIGTERM and SIGINT end it with everything it started.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from plimsoll_cli.errors import CommandError
from plimsoll_cli.sandbox.options import SandboxOptions
from plimsoll_cli.sandbox.sandbox import Sandbox, log_to


class StopRequestedError(BaseException):
    """A signal asked this process to end; not an Exception, so that nothing on the way takes it for a failure."""


def run(options: SandboxOptions, report: Callable[[dict[str, Any]], object]) -> None:
    """Start a sandbox, report, and keep it until a signal comes.

    Raises:
        CommandError: it did not start.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _request_stop)

    def announce(name: str, after: float) -> None:
        report({"component": name, "seconds": round(after, 2)})

    try:
        sandbox = Sandbox.start(options, announce)
    except StopRequestedError:
        return
    log_to(sandbox.directory / "logs" / "sandbox.log")
    try:
        report({"ready": True, "kubeconfig": str(sandbox.kubeconfig), "prometheus": sandbox.prometheus_url})
        while True:
            signal.pause()
    except StopRequestedError:
        pass
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        sandbox.close()


def _request_stop(number: int, frame: object) -> None:
    """Unwind to `run`, once."""
    for other in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise StopRequestedError


def main() -> None:
    """Run in the background, reporting through a pipe."""
    options = SandboxOptions.from_json(json.loads(sys.argv[1]))
    pipe = os.fdopen(int(sys.argv[2]), "w")

    def report(line: dict[str, Any]) -> None:
        if pipe.closed:
            return
        try:
            print(json.dumps(line), file=pipe, flush=True)
            if line.get("ready"):
                pipe.close()
        except BrokenPipeError:  # the command that started this one has gone; the sandbox stays
            return

    try:
        run(options, report)
    except CommandError as error:
        report({"error": str(error), "exitCode": error.exit_code})
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

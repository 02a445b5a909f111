"""The real kubectl, run as one identity."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from plimsoll_cli.errors import CommandError

_SERVED_SECONDS: Final = 30.0
"""An API server serves a new definition within a second; a busy machine gets thirty times that."""
_LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Kubectl:
    """Run kubectl with one kubeconfig.

    Args:
        program: path of kubectl.
        kubeconfig: whom it acts as.
    """

    program: Path
    kubeconfig: Path

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """Run it and return what it prints.

        Raises:
            CommandError: it failed; with what it said.
        """
        done = self.attempt(*arguments, stdin=stdin, timeout=timeout)
        if done.returncode != 0:
            raise CommandError(f"kubectl {' '.join(arguments[:4])}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def attempt(
        self, *arguments: str, stdin: str | None = None, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run it and return exit code and output, whatever they are."""
        return subprocess.run(
            [str(self.program), f"--kubeconfig={self.kubeconfig}", *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        """Run it with `-o json` and return the object.

        Raises:
            CommandError: it failed; with what it said.
        """
        answer: dict[str, Any] = json.loads(self(*arguments, "-o", "json"))
        return answer

    def apply(self, manifest: str) -> None:
        """Apply a manifest on the server's side.

        Raises:
            CommandError: the server refused it; with what it said.
        """
        self(
            "apply", "--server-side", "--force-conflicts", "--field-manager=plimsoll-sandbox", "-f", "-", stdin=manifest
        )

    def install_definitions(self, manifest: str) -> None:
        """Apply custom resource definitions and wait until the server serves them.

        Raises:
            CommandError: refused, or not served in time.
        """
        self.apply(manifest)
        self.await_definitions(manifest)

    def await_definitions(self, manifest: str) -> None:
        """Wait until the server serves what a manifest of definitions defines.

        The Established condition is not enough: for a moment after it the first list is answered 429, "storage is
        (re)initializing"; and before there is any condition `kubectl wait` fails at once. So the list itself is tried.

        Raises:
            CommandError: not served in time.
        """
        names = [definition["metadata"]["name"] for definition in yaml.safe_load_all(manifest) if definition]
        deadline = time.monotonic() + _SERVED_SECONDS
        while True:
            listed = self.attempt("get", ",".join(names), "--all-namespaces", "--ignore-not-found")
            if listed.returncode == 0:
                return
            if time.monotonic() > deadline:
                raise CommandError(f"{', '.join(names)} not served in {_SERVED_SECONDS:g} s: {listed.stderr.strip()}")
            time.sleep(_LOOK_SECONDS)

"""The real helm, with a home of its own: what a user has configured for theirs changes nothing here."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from plimsoll_cli.errors import CommandError

_HOMES: Final = ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")

_REMARK: Final = "found symbolic link in path"
"""In a line about the definition, which the chart links to."""


@dataclass(frozen=True)
class Helm:
    """Run helm.

    Args:
        program: path of helm.
        home: folder for everything helm would keep in the user's home.
        kubeconfig: whom it acts as; None for what needs no cluster.
    """

    program: Path
    home: Path
    kubeconfig: Path | None = None

    def __call__(self, *arguments: str, values: Mapping[str, Any] | None = None, timeout: float = 180.0) -> str:
        """Run it and return what it prints.

        Raises:
            CommandError: it failed; with what it said.
        """
        done = self.attempt(*arguments, values=values, timeout=timeout)
        if done.returncode != 0:
            raise CommandError(f"helm {' '.join(arguments[:2])}: {told(done)}")
        return done.stdout

    def attempt(
        self, *arguments: str, values: Mapping[str, Any] | None = None, timeout: float = 180.0
    ) -> subprocess.CompletedProcess[str]:
        """Run it and return exit code and output, whatever they are.

        Args:
            arguments: of helm.
            values: passed as a values file on standard input; JSON is YAML.
            timeout: seconds until it is killed.
        """
        files = ["--values=-"] if values is not None else []
        environment = {**os.environ, **{name: str(self.home / name.lower()) for name in _HOMES}}
        environment.pop("HELM_NAMESPACE", None)
        if self.kubeconfig is not None:
            environment["KUBECONFIG"] = str(self.kubeconfig)
        return subprocess.run(
            [str(self.program), *arguments, *files],
            input=None if values is None else json.dumps(values),
            stdin=subprocess.DEVNULL if values is None else None,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def told(done: subprocess.CompletedProcess[str]) -> str:
    """What helm said that matters: without its notes about linked files."""
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return "\n".join(line for line in lines if _REMARK not in line)

"""What another process can know of a running sandbox, and how it ends one."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from plimsoll_cli.chart.location import NAMESPACE, RELEASE
from plimsoll_cli.chart.sandbox_release import COMPONENTS as POD_COMPONENTS
from plimsoll_cli.errors import CommandError
from plimsoll_cli.sandbox import guard, health
from plimsoll_cli.sandbox.addresses import AddressBlock, Ports
from plimsoll_cli.sandbox.control_plane import Layout
from plimsoll_cli.sandbox.fleet import Standing
from plimsoll_cli.sandbox.options import sandboxes_directory
from plimsoll_cli.sandbox.sandbox import LOCK_FILE, STATE_FILE, marker

STOP_SECONDS: Final = 60.0
"""An ordered stop takes 3 s; after this long it is killed instead."""


@dataclass(frozen=True)
class RunningSandbox:
    """A sandbox that another process owns.

    Args:
        directory: its folder.
        content: of its state file.
    """

    directory: Path
    content: dict[str, Any]

    @classmethod
    def find(cls, name: str) -> Self:
        """A running sandbox by name.

        Raises:
            CommandError: none of that name runs.
        """
        directory = sandboxes_directory() / name
        if not is_locked(directory):
            raise CommandError(f"sandbox {name} does not run: `plimsoll sandbox up --name {name}` starts it", 3)
        try:
            return cls(directory, json.loads((directory / STATE_FILE).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise CommandError(f"sandbox {name} is only just starting: try again in a moment", 3) from None

    @property
    def pid(self) -> int:
        """Process that owns it."""
        return int(self.content["pid"])

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig that may do everything."""
        return Path(self.content["kubeconfig"])

    def log(self, component: str) -> Path:
        """A component's log file.

        Raises:
            CommandError: there is no such component.
        """
        logs = {entry["name"]: Path(entry["log"]) for entry in self.content["components"]}
        logs["sandbox"] = self.directory / "logs" / "sandbox.log"
        logs["audit"] = Path(self.content["auditLog"])
        if component in POD_COMPONENTS and component not in logs and self.content["options"].get("helm"):
            told = f"kubectl logs -n {NAMESPACE} deployment/{RELEASE}-{component}"
            raise CommandError(f"{component} is a pod here: `plimsoll sandbox exec -- {told}`", 2)
        if component not in logs:
            raise CommandError(f"no component {component}: there are {', '.join(logs)}", 2)
        return logs[component]

    @property
    def layout(self) -> Layout:
        """Its folders and addresses."""
        return Layout(self.directory, AddressBlock(int(self.content["secondOctet"])), Ports(**self.content["ports"]))

    def port(self, component: str) -> int | None:
        """Port of a component's readiness check; None while it has not said which one it took."""
        url = health.ready_url(component, self.layout)
        return urlsplit(url).port if url else None

    def standings(self) -> list[Standing]:
        """How each component is doing now; asks each running one."""
        layout = self.layout
        return [
            Standing(
                entry["name"],
                entry["pid"],
                entry["pid"] is not None and health.ready(entry["name"], layout),
                entry["crashes"],
            )
            for entry in self.content["components"]
        ]

    def end(self) -> None:
        """End it and wait until nothing of it is left."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            if not select.select([handle], [], [], STOP_SECONDS)[0]:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [])
        finally:
            os.close(handle)
        guard.sweep(marker(self.directory.resolve()).encode())


def is_locked(directory: Path) -> bool:
    """Whether a living process owns the sandbox of this folder."""
    try:
        with (directory / LOCK_FILE).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except BlockingIOError:
        return True
    return False


def running_names() -> list[str]:
    """Names of the sandboxes that run under this user."""
    root = sandboxes_directory()
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return [folder.name for folder in folders if is_locked(folder)]

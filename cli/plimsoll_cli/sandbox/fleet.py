"""The components of one sandbox together: started in order, started again when they crash, stopped in reverse order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from plimsoll_cli.errors import CommandError
from plimsoll_cli.sandbox import processes
from plimsoll_cli.sandbox.processes import Component, Process

READY_SECONDS: Final = 60.0
"""An API server is ready after 2.4 s on an idle 2-core machine; a busy one gets 25 times that."""
_WATCH_SECONDS: Final = 0.25
"""Pause between two looks for crashed components."""
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 10.0
"""A component that crashes again is started again after 0.5, 1, 2, ... 10 s, as a kubelet does with longer times."""


@dataclass
class Member:
    """One component and what became of it.

    Args:
        component: what to run.
        ready: whether it answers its readiness check.
        process: the running, or last, process; None before the first start.
        wanted: whether it should run; a crashed one that is wanted is started again.
        crashes: how often it ended without being asked.
        next_start: monotonic time, in seconds, of its next start after a crash.
    """

    component: Component
    ready: Callable[[], bool]
    process: Process | None = None
    wanted: bool = True
    crashes: int = 0
    next_start: float = 0.0


@dataclass(frozen=True)
class Standing:
    """How one component is doing.

    Args:
        name: component.
        pid: process id; None when it does not run.
        ready: whether it answers its readiness check.
        crashes: how often it ended without being asked.
    """

    name: str
    pid: int | None
    ready: bool
    crashes: int


@dataclass
class Fleet:
    """Components by name, in the order of their first start.

    Args:
        changed: called (from any thread) whenever a process starts or ends.
    """

    changed: Callable[[], None] = lambda: None
    _members: dict[str, Member] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _closing: threading.Event = field(default_factory=threading.Event)
    _watcher: threading.Thread | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Components in the order of their first start."""
        return tuple(self._members)

    def launch(self, component: Component, ready: Callable[[], bool]) -> None:
        """Start a component without waiting for it."""
        with self._lock:
            self._members[component.name] = Member(component, ready, processes.start(component))
        self.changed()

    def await_ready(self, names: Sequence[str], announce: Callable[[str], None] = lambda _: None) -> None:
        """Wait until each of the components answers its readiness check.

        Raises:
            CommandError: one ended or was not ready in time; with the end of its log.
        """
        for name in names:
            member = self.member(name)
            assert member.process is not None
            processes.wait_ready(member.process, member.ready, READY_SECONDS)
            announce(name)

    def member(self, name: str) -> Member:
        """One component.

        Raises:
            CommandError: there is none of that name.
        """
        if name not in self._members:
            raise CommandError(f"no component {name} here: there are {', '.join(self._members)}", 2)
        return self._members[name]

    def stop(self, name: str) -> None:
        """Stop a component; it stays stopped until `start`.

        Raises:
            CommandError: there is none of that name.
        """
        with self._lock:
            member = self.member(name)
            member.wanted = False
        if member.process is not None:
            member.process.stop()
        self.changed()

    def kill(self, name: str) -> None:
        """End a component without asking, as a crash would; it is started again.

        Raises:
            CommandError: there is none of that name.
        """
        process = self.member(name).process
        if process is not None:
            process.kill()

    def start(self, name: str) -> None:
        """Start a stopped component and wait until it is ready.

        Raises:
            CommandError: there is none of that name, or it does not become ready.
        """
        with self._lock:
            member = self.member(name)
            member.wanted, member.next_start = True, 0.0
            if member.process is None or member.process.exit_code is not None:
                member.process = processes.start(member.component)
        self.changed()
        self.await_ready([name])

    def watch(self) -> None:
        """From now on start again what crashes."""
        self._watcher = threading.Thread(target=self._keep_running, name="sandbox-fleet", daemon=True)
        self._watcher.start()

    def standings(self) -> tuple[Standing, ...]:
        """How each component is doing now; asks each running one."""
        return tuple(self._standing(name, member) for name, member in list(self._members.items()))

    def pids(self) -> dict[str, int | None]:
        """Process ids of the running components; None for those that do not run. Asks nobody."""
        return {name: running_pid(member) for name, member in list(self._members.items())}

    def crashes(self) -> dict[str, int]:
        """How often each component ended without being asked."""
        return {name: member.crashes for name, member in list(self._members.items())}

    def close(self) -> None:
        """Stop everything, the last started first. Idempotent."""
        self._closing.set()
        if self._watcher is not None and self._watcher is not threading.current_thread():
            self._watcher.join()
        for member in reversed(list(self._members.values())):
            member.wanted = False
            if member.process is not None:
                member.process.stop()

    def _standing(self, name: str, member: Member) -> Standing:
        pid = running_pid(member)
        return Standing(name, pid, pid is not None and member.ready(), member.crashes)

    def _keep_running(self) -> None:
        """Look for crashed components until the fleet is closed."""
        while not self._closing.wait(_WATCH_SECONDS):
            now = time.monotonic()
            with self._lock:
                revived = [self._revive(member, now) for member in self._members.values()]
            if any(revived):
                self.changed()

    def _revive(self, member: Member, now: float) -> bool:
        """Note a crash, or start a crashed component whose pause is over; returns whether anything happened."""
        if not member.wanted or member.process is None or member.process.exit_code is None:
            return False
        if member.next_start == 0.0:
            member.crashes += 1
            member.next_start = now + restart_pause(member.crashes)
            return True
        if now < member.next_start:
            return False
        member.process = processes.start(member.component)
        member.next_start = 0.0
        return True


def running_pid(member: Member) -> int | None:
    """The process id of a component that runs; None for one that does not."""
    process = member.process
    return process.pid if process is not None and process.exit_code is None else None


def restart_pause(crashes: int) -> float:
    """Seconds before a component that crashed for the n-th time is started again.

    >>> [restart_pause(n) for n in (1, 2, 3, 9)]
    [0.5, 1.0, 2.0, 10.0]
    """
    return float(min(_FIRST_PAUSE_SECONDS * 2 ** (min(crashes, 16) - 1), _LONGEST_PAUSE_SECONDS))

"""A reader's terminal: types a command of the documentation and looks at what comes."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ENDLESS: Final = re.compile(r" (?:-w|--watch|--follow)\b")
"""A command with one of these goes on until it is stopped: its first line is enough."""
SAME_ANSWER: Final = re.compile(r"plimsoll (?:recommend|memory|predict) |kubectl plimsoll (?:status|explain|top)\b")
"""Commands that only look: typed again on another page, in the same place, they would say the same again."""
SECONDS: Final = 300.0
"""Above the longest `--timeout` that is waited for (120 s), and as long as helm's own (5 min)."""
FIRST_LINE_SECONDS: Final = 30.0

MOMENT_SECONDS: Final = 0.5
"""A command that prints its last line ends within a hundredth of it."""


class CommandFailedError(AssertionError):
    """A command of the documentation did not do what the page says."""


@dataclass
class Terminal:
    """Runs commands in one folder with one environment.

    Args:
        folder: where the reader stands.
        environment: what the commands see.
        substitutes: what a page leaves to its reader (a name, an address), by pattern, and what stands for it here.
    """

    folder: Path
    environment: Mapping[str, str]
    substitutes: Mapping[str, str] = field(default_factory=dict)
    answers: dict[tuple[str, str], str] = field(default_factory=dict)

    def typed(self, command: str) -> str:
        """The command with its substitutes."""
        for pattern, value in self.substitutes.items():
            command = re.sub(pattern, lambda _, value=value: value, command)
        return command

    def __call__(self, command: str, *, environment: Mapping[str, str] | None = None) -> str:
        """Run it to its end, or to its first line when it has none; what it printed.

        Raises:
            CommandFailedError: another exit code than 0, or nothing printed in time.
        """
        command = self.typed(command)
        seen = {**self.environment, **(environment or {})}
        asked = (command, seen.get("KUBECONFIG", ""))
        if asked in self.answers:
            return self.answers[asked]
        began = time.monotonic()
        answer = self._first_line(command, seen) if ENDLESS.search(command) else self._whole(command, seen)
        print(f"{time.monotonic() - began:6.1f} s  {command}")  # beside a failure, and with `pytest -rP`
        if SAME_ANSWER.match(command):
            self.answers[asked] = answer
        return answer

    def _whole(self, command: str, environment: Mapping[str, str]) -> str:
        try:
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", command],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise CommandFailedError(f"{command}\nhas not ended after {SECONDS:g} s") from late
        if done.returncode != 0:
            raise CommandFailedError(f"{command}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def _first_line(self, command: str, environment: Mapping[str, str]) -> str:
        """What it shows first in a terminal; then it is stopped as Ctrl-C would."""
        reading, writing = pty.openpty()
        try:
            process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=self.folder,
                env={**environment, "TERM": "xterm"},
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,
            )
            try:
                shown = first_line(reading)
                went_on = goes_on(process)
            finally:
                stop(process)
        finally:
            os.close(writing)
            os.close(reading)
        if not shown.strip() or not went_on:
            raise CommandFailedError(f"{command}\nshows {shown!r} and {'goes on' if went_on else 'ends'}")
        return shown


def first_line(terminal: int) -> str:
    """What appears in a terminal until a line is whole or too much time has passed."""
    shown = b""
    deadline = time.monotonic() + FIRST_LINE_SECONDS
    while b"\n" not in shown:
        if not select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
            break
        shown += os.read(terminal, 65_536)
    return shown.decode(errors="replace")


def goes_on(process: subprocess.Popen[bytes]) -> bool:
    """Whether a command that has printed something is still there a moment later."""
    try:
        process.wait(MOMENT_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C to the command and all that it started; the hard way when that is not heard."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
            return
        except ProcessLookupError:
            process.wait(10)
            return
        except subprocess.TimeoutExpired:
            continue

"""aiconfigurator's estimates of many configurations: asked by several processes, and kept.

An estimate depends on the release and the question alone, so an answer is asked for once and then kept in Plimsoll's
cache, with the seconds it took; a run that is cut off goes on where it was.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from bench.aiconfigurator_parts.environment import REQUIREMENT, NotInstalledError, interpreter, root
from rich.console import Console
from rich.progress import Progress, TaskID

SCRIPT: Final = Path(__file__).parents[1] / "scripts" / "aiconfigurator_estimates.py"

LONGEST: Final = 1800.0
"""Seconds after which an estimate is given up: the first of a model reads its tables, minutes on a busy machine."""

PROCESSES: Final = 4
"""Most processes that answer at once; each reads the tables of its models itself (half a GB)."""

KEPT: Final = "answers.jsonl"
"""File of the answers, beside the environment's packages."""


class _Kept:
    """Answers by question, in a file of a line each."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        # The last line of a run that was cut off may be half a line.
        rows = [json.loads(line) for line in lines if line.endswith("}")]
        self.found: dict[str, dict[str, Any]] = {row["question"]: row["answer"] for row in rows}

    def add(self, question: str, answer: dict[str, Any]) -> None:
        """Keep an answer."""
        with self._lock, self._file.open("a", encoding="utf-8") as stream:
            stream.write("\n" + json.dumps({"question": question, "answer": answer}))
            self.found[question] = answer


def answers(questions: Sequence[str]) -> list[dict[str, Any]]:
    """aiconfigurator's answer to each question in JSON.

    Raises:
        NotInstalledError: it cannot be installed, crashed, or did not answer in time.
    """
    python = interpreter(os.environ)
    kept = _Kept(root(os.environ) / KEPT)
    # Sorted, questions of one model stand together: its tables are read by few processes.
    missing = sorted({question for question in questions if question not in kept.found})
    if missing:
        count = min(PROCESSES, os.cpu_count() or 1, len(missing))
        size = -(-len(missing) // count)
        parts = [missing[begin : begin + size] for begin in range(0, len(missing), size)]
        if not sys.stderr.isatty():
            print(f"  {len(missing)} estimates of {REQUIREMENT}, a few seconds each", file=sys.stderr, flush=True)
        with (
            Progress(console=Console(stderr=True), transient=True) as progress,
            ThreadPoolExecutor(len(parts)) as pool,
        ):
            task = progress.add_task(f"{REQUIREMENT} answers", total=len(missing))
            list(pool.map(lambda part: _ask(python, part, kept, progress, task), parts))
    return [kept.found[question] for question in questions]


def _ask(python: Path, questions: Sequence[str], kept: _Kept, progress: Progress, task: TaskID) -> None:
    """Have one process answer, a line at a time."""
    with tempfile.TemporaryFile("w+") as asked, tempfile.TemporaryFile("w+") as said:
        asked.write(f"[{','.join(questions)}]")
        asked.seek(0)
        process = subprocess.Popen(
            [str(python), str(SCRIPT)],
            stdin=asked,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
        )
        assert process.stdout is not None
        answered = 0
        try:
            while line := _line(process):
                kept.add(questions[answered], json.loads(line))
                answered += 1
                progress.advance(task)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        if answered < len(questions):
            said.seek(0)
            last = " | ".join(said.read().strip().splitlines()[-2:])
            raise NotInstalledError(
                f"{REQUIREMENT} crashed, or took more than {LONGEST:.0f} s, at {questions[answered]}: {last}"
            )


def _line(process: subprocess.Popen[str]) -> str:
    """The next line; empty when there is none, or none in time."""
    assert process.stdout is not None
    limit = threading.Timer(LONGEST, process.kill)
    limit.start()
    try:
        return process.stdout.readline()
    finally:
        limit.cancel()

"""`plimsoll recommend` as people wait for it: a fresh interpreter on one core, from the key press to the answer."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from bench.figures import Context, Figure

ASKED: Final = (
    *("-m", "meta-llama/Llama-3.1-8B-Instruct", "--gpu", "H100", "--gpu", "L40S", "--rps", "20"),
    *("--ttft", "800ms", "--tpot", "60ms"),
)
"""A question with two kinds of GPU and two objectives: what the README asks."""

RUNS: Final = 9
"""Of each form; the first, which may read files that are not in memory yet, is not counted."""

ANSWER_BAR_S: Final = 1.0
"""Beyond a second people notice that they wait."""

PAGE_BAR_MIB: Final = 2.0
"""A page that can be sent by mail and kept in a repository."""


def run(context: Context) -> list[Figure]:
    """Wall time of every form of an answer, and the size of the page."""
    runs = 3 if context.quick else RUNS
    page = context.output / "recommendation.html"
    forms: tuple[tuple[str, tuple[str, ...], float | None], ...] = (
        ("recommend, JSON", ("recommend", *ASKED, "-o", "json"), ANSWER_BAR_S),
        ("recommend, table", ("recommend", *ASKED), ANSWER_BAR_S),
        ("recommend, table with --explain --what-if", ("recommend", *ASKED, "--explain", "--what-if"), None),
        ("recommend, page", ("recommend", *ASKED, "-o", "html", "--file", str(page)), None),
        ("recommend, manifest", ("recommend", *ASKED, "--manifest"), None),
        ("memory, JSON", ("memory", "-m", ASKED[1], "--gpu", "H100", "-o", "json"), ANSWER_BAR_S),
        ("predict, JSON", ("predict", "-m", ASKED[1], "--gpu", "H100", "--rps", "4", "-o", "json"), ANSWER_BAR_S),
        ("--help", ("recommend", "--help"), ANSWER_BAR_S),
    )
    figures = []
    for name, arguments, bar in forms:
        seconds = [_seconds(arguments)[0] for _ in range(runs)][1:]
        detail = f"median of {len(seconds)}, {min(seconds):.2f} to {max(seconds):.2f}; one core, from interpreter start"
        figures.append(Figure(f"cold start of {name}", statistics.median(seconds), "s", bar, detail=detail))
    busy = statistics.median(_seconds(forms[0][1])[1] for _ in range(runs))
    figures.append(
        Figure("processor time of recommend, JSON", busy, "s", detail="user and system; holds on a busy machine")
    )
    size = page.stat().st_size / 1024**2
    figures.append(
        Figure("size of the page", size, "MiB", PAGE_BAR_MIB, detail="one file, nothing loaded from outside")
    )
    return figures


def _seconds(arguments: tuple[str, ...]) -> tuple[float, float]:
    """(wall seconds, processor seconds) of one run of the command on one core.

    Raises:
        RuntimeError: it did not answer.
    """
    command = [sys.executable, "-m", "plimsoll_cli", *arguments]
    core = _one_core()
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "100"})
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _one_core() -> int | None:
    """A core to stay on, where the system can be told."""
    if not Path("/usr/bin/taskset").exists():
        return None
    return max(os.sched_getaffinity(0))

"""The cause of a start that failed, found in the log of an engine whose last words do not say it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_api import names
from plimsoll_kube.resources import LLM_SERVICE
from plimsoll_operator import start_log
from plimsoll_operator.start_log import cause_in, is_above

LAST_WORDS = (
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}"
)
CAUSE = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1.20 GiB free."
FRAMES = (
    "Traceback (most recent call last):",
    '  File "/a/worker.py", line 7, in start',
    "    raise RuntimeError(text)",
)


def logged(process: str, place: str, *lines: str) -> list[str]:
    """Lines of one record, each with the prefix that vLLM puts before it."""
    return [f"({process} pid=7) ERROR 11-26 02:30:51 [{place}] {line}" for line in lines]


def log_of(cause: str = CAUSE) -> str:
    """A worker fails, then the engine core for it, then the API server."""
    waiting = "Exception: WorkerProc initialization failed in a background process. See stack trace for root cause."
    return "\n".join(
        [
            "(APIServer pid=1) INFO 11-26 02:30:01 [utils.py:1] model /models/x, ERROR budget: none",
            *logged("Worker", "multiproc_executor.py:953", "WorkerProc failed to start.", *FRAMES, cause),
            *logged("EngineCore", "core.py:1510", "EngineCore failed to start.", *FRAMES, waiting),
            *FRAMES,
            LAST_WORDS,
        ]
    )


def test_the_process_that_failed_first_has_the_cause() -> None:
    assert is_above(log_of()[-2048:])
    assert cause_in(log_of()) == CAUSE
    assert cause_in(log_of("ValueError: No available memory for the cache blocks.")).startswith("ValueError: No avail")


def test_a_prefix_in_another_order_is_read_too() -> None:
    line = f"ERROR 05-01 10:00:00 [core.py:600] (EngineCore_0 pid=9) {CAUSE}"
    assert cause_in(line) == CAUSE


def test_a_log_without_a_cause_has_none() -> None:
    assert cause_in("\n".join([*FRAMES, LAST_WORDS])) == ""
    assert not is_above("ValueError: something else")


@given(st.text())
def test_no_text_is_too_strange(text: str) -> None:
    assert cause_in(text.replace("ERROR", "")) == ""
    assert cause_in(f"{text}\n{log_of()}".replace("ERROR", "", text.count("ERROR"))) in (CAUSE, "")


@pytest.mark.parametrize(
    "line", ["ERROR [" * 40_000, "ERROR " * 40_000, "ERROR [a:1] " + "a." * 100_000, "(" * 200_000]
)
def test_a_hostile_line_is_looked_at_in_part(line: str) -> None:
    """Unbounded patterns would hold the process up for a minute with the first."""
    assert cause_in(f"{line}\n{log_of()}") == CAUSE


async def test_a_node_that_does_not_answer_holds_nothing_up(
    harness: Any, service: Any, die: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any, **__: Any) -> str:
        return str(await asyncio.Event().wait())

    harness.kube.put(service())
    await harness.settle()
    die("a", LAST_WORDS)
    monkeypatch.setattr(start_log, "READ_SECONDS", 0.01)
    monkeypatch.setattr(harness.kube, "log", never)
    await harness.settle()
    assert harness.condition("Progressing")[1] == "StartFailed"


async def test_a_cause_in_the_log_steps_down(harness: Any, service: Any, die: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    die("a", LAST_WORDS)
    harness.kube.logs["ml", "a", True] = log_of()
    await harness.settle()
    [step] = harness.kube.see(LLM_SERVICE, "ml", "chat")["status"]["memorySteps"]
    assert step["message"] == CAUSE


async def test_without_the_log_nothing_is_concluded(harness: Any, service: Any, die: Any) -> None:
    """Control: the last words alone."""
    harness.kube.put(service())
    await harness.settle()
    die("a", LAST_WORDS)
    await harness.settle()
    assert harness.condition("Progressing")[1] == "StartFailed"
    assert "kubectl logs a -c engine --previous shows it" in harness.condition("Progressing")[2]
    assert "memorySteps" not in harness.kube.see(LLM_SERVICE, "ml", "chat")["status"]


@pytest.mark.parametrize(("said", "conditions"), [(LAST_WORDS, "True"), ("ValueError: no such model", "False")])
async def test_no_other_log_is_read(harness: Any, service: Any, pod: Any, said: str, conditions: str) -> None:
    """Neither of a replica that served, in whose log prompts may stand, nor of one that says why itself."""
    harness.kube.put(service())
    await harness.settle()
    ended = {
        "name": names.ENGINE_CONTAINER,
        "restartCount": 1,
        "state": {"terminated": {"exitCode": 1, "message": said}},
    }
    times = {"startTime": "2026-01-01T00:00:00Z"}
    later = {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T01:00:00Z"}
    status = {"containerStatuses": [ended], **(times | {"conditions": [later]} if conditions == "True" else {})}
    found = pod("a", status=status)
    harness.kube.put(found)
    harness.kube.put_status(found)
    harness.kube.logs["ml", "a", False] = log_of()
    await harness.settle()
    assert not [call for call in harness.kube.calls if call[0] == "log"]

"""A service from `kubectl apply` to an answer, and what must never happen to its streams."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from plimsoll_api import names
from plimsoll_cli.load.plan import LoadPlan, Progress
from plimsoll_cli.load.records import LoadResult
from plimsoll_cli.load.run import run_load
from plimsoll_cli.load.statistics import Summary, summarise
from plimsoll_cli.sandbox.sandbox import Sandbox
from plimsoll_simulator.traffic import Request

pytestmark = [pytest.mark.xdist_group("sandbox"), pytest.mark.slow, pytest.mark.timeout(420)]

STREAMS = 50
STREAM_TOKENS = 1200
"""Some ten seconds at an H100's pace: far longer than it takes to ask for fewer replicas."""

BY_HAND = {"mode": "Manual", "minReplicas": 1, "maxReplicas": 4}
"""Only a person scales."""

Apply = Callable[..., str]


def complete(url: str, model: str) -> dict[str, Any]:
    """One answer, not streamed."""
    body = json.dumps({"model": model, "prompt": "Where is the load line?", "max_tokens": 8}).encode()
    request = urllib.request.Request(f"{url}/v1/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        document: dict[str, Any] = json.load(answer)
    return document


def pods(sandbox: Sandbox, namespace: str, name: str) -> list[dict[str, Any]]:
    """The service's pods that are not leaving."""
    found = sandbox.kubectl.json("get", "pods", "-n", namespace, "-l", f"{names.SERVICE_LABEL}={name}")["items"]
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


def test_from_apply_to_an_answer(sandbox: Sandbox, sandbox_namespace: str, apply_service: Apply) -> None:
    """`model.uri` alone is a complete service: sized, started, reachable; says what it did, and leaves nothing."""
    url = apply_service("minimal", model={"uri": "hf://meta-llama/Llama-3.1-8B-Instruct"})
    answer = complete(url, "minimal")
    assert answer["usage"]["completion_tokens"] == 8
    table = sandbox.kubectl("get", "llm", "-n", sandbox_namespace)
    assert "meta-llama/Llama-3.1-8B-Instruct" in table
    assert "NVIDIA-H100-80GB-HBM3" in table
    status = sandbox.kubectl.json("get", "llm", "minimal", "-n", sandbox_namespace)["status"]
    assert {reason["field"] for reason in status["recommendation"]["reasons"]} >= {"tensorParallelSize", "maxNumSeqs"}
    sandbox.kubectl("delete", "llm", "minimal", "-n", sandbox_namespace)
    sandbox.kubectl("wait", "pod", "--all", "--for=delete", "-n", sandbox_namespace, "--timeout=90s", timeout=120.0)
    owned = "deployments,services,poddisruptionbudgets,networkpolicies,podmonitors"
    selected = ("-n", sandbox_namespace, "-l", f"{names.SERVICE_LABEL}=minimal")
    # The garbage collector takes each by itself, and not the pods last.
    sandbox.kubectl("wait", owned, *selected, "--for=delete", "--timeout=60s", timeout=90.0)
    left = sandbox.kubectl.json("get", owned, *selected)
    assert left["items"] == []


def test_kubectl_logs_and_delete_pod(sandbox: Sandbox, sandbox_namespace: str, apply_service: Apply) -> None:
    """Logs come through the API server; a deleted pod is replaced."""
    apply_service("logs")
    [before] = pods(sandbox, sandbox_namespace, "logs")
    assert sandbox.kubectl("logs", "-n", sandbox_namespace, before["metadata"]["name"]).strip()
    sandbox.kubectl("delete", "pod", "-n", sandbox_namespace, before["metadata"]["name"], "--timeout=60s", timeout=90.0)
    sandbox.kubectl(
        "wait", "-n", sandbox_namespace, "--for=condition=Ready", "--timeout=120s", "pod",
        "-l", f"{names.SERVICE_LABEL}=logs", timeout=150.0,
    )  # fmt: skip
    [after] = pods(sandbox, sandbox_namespace, "logs")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]


async def stream_while(url: str, model: str, act: Callable[[], None], tokens: int = STREAM_TOKENS) -> LoadResult:
    """Start the long streams at once, act when all have begun, and wait for their ends."""
    requests = tuple(Request(0.0, 64, tokens) for _ in range(STREAMS))
    begun = asyncio.Event()

    def on_progress(progress: Progress) -> None:
        if progress.in_flight == STREAMS and progress.ttft_p95 is not None:
            begun.set()

    plan = LoadPlan(url=url, model=model, requests=requests, duration=1.0, progress_interval=0.2)
    load = asyncio.create_task(run_load(plan, on_progress))
    await asyncio.wait_for(begun.wait(), timeout=60)
    await asyncio.to_thread(act)
    return await load


def scale(sandbox: Sandbox, namespace: str, name: str, replicas: int, shown_by: str) -> None:
    """Ask for replicas, and wait until a field of the status has as many."""
    sandbox.kubectl("scale", "-n", namespace, f"llm/{name}", f"--replicas={replicas}")
    sandbox.kubectl(
        "wait", "-n", namespace, f"--for=jsonpath={{.status.{shown_by}}}={replicas}", "--timeout=120s", f"llm/{name}",
        timeout=150.0,
    )  # fmt: skip


def test_scale_in_truncates_no_stream(sandbox: Sandbox, sandbox_namespace: str, apply_service: Apply) -> None:
    """Half of 50 long streams run on the replica that goes; all of them reach their end."""
    url = apply_service("drain", scaling=BY_HAND)
    scale(sandbox, sandbox_namespace, "drain", 2, "readyReplicas")
    # Of `replicas` those that leave are none: one does from then on, also where the streams end before.
    act = partial(scale, sandbox, sandbox_namespace, "drain", 1, "replicas")
    summary = summarise(asyncio.run(stream_while(url, "drain", act)))
    assert outcome(summary) == (STREAMS, 0, 0), summary.errors
    assert len(pods(sandbox, sandbox_namespace, "drain")) == 1


def test_a_killed_pod_does_truncate(sandbox: Sandbox, sandbox_namespace: str, apply_service: Apply) -> None:
    """Control: without a drain the same streams are cut, and the load generator sees it."""
    url = apply_service("killed", scaling=BY_HAND)
    [victim] = pods(sandbox, sandbox_namespace, "killed")
    kill = ("delete", "pod", "-n", sandbox_namespace, victim["metadata"]["name"], "--grace-period=0", "--force")

    def act() -> None:
        sandbox.kubectl(*kill)

    # All are on its one replica, and far from their ends however long a busy machine takes to kill it.
    summary = summarise(asyncio.run(stream_while(url, "killed", act, tokens=10 * STREAM_TOKENS)))
    assert summary.truncated + summary.failed > 0


def test_a_roll_out_truncates_no_stream(sandbox: Sandbox, sandbox_namespace: str, apply_service: Apply) -> None:
    """The streams of a replica that is replaced for its configuration reach their end on it."""
    url = apply_service("rolled", scaling=BY_HAND)
    [before] = pods(sandbox, sandbox_namespace, "rolled")

    def act() -> None:
        change = '{"spec":{"engine":{"maxNumSeqs":60}}}'
        sandbox.kubectl("patch", "llm", "rolled", "-n", sandbox_namespace, "--type=merge", "-p", change)
        newest = ("wait", "-n", sandbox_namespace, "--for=jsonpath={.status.recommendation.config.maxNumSeqs}=60")
        sandbox.kubectl(*newest, "--timeout=30s", "llm/rolled", timeout=60.0)
        deployment = ("status", "-n", sandbox_namespace, "deployment/rolled-engine", "--timeout=120s")
        sandbox.kubectl("rollout", *deployment, timeout=150.0)

    summary = summarise(asyncio.run(stream_while(url, "rolled", act, tokens=3 * STREAM_TOKENS)))
    assert outcome(summary) == (STREAMS, 0, 0), summary.errors
    [after] = pods(sandbox, sandbox_namespace, "rolled")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    status = sandbox.kubectl.json("get", "llm", "rolled", "-n", sandbox_namespace)["status"]
    assert after["metadata"]["annotations"][names.REVISION_ANNOTATION] == status["revision"]


def outcome(summary: Summary) -> tuple[int, int, int]:
    """(completed, failed or timed out, truncated)."""
    return summary.completed, summary.failed + summary.timed_out, summary.truncated


def test_prometheus_stopped_holds_the_replicas(sandbox: Sandbox, sandbox_namespace: str, apply_service: Apply) -> None:
    """Without measurements nothing moves, and a condition says why."""
    apply_service("blind", scaling={"minReplicas": 1, "maxReplicas": 4})
    sandbox.stop("prometheus")
    try:
        sandbox.kubectl(
            "wait", "-n", sandbox_namespace, "--for=condition=MetricsAvailable=False", "--timeout=120s", "llm/blind",
            timeout=150.0,
        )  # fmt: skip
        found = sandbox.kubectl.json("get", "llm", "blind", "-n", sandbox_namespace)
        assert found["spec"]["replicas"] == 1
        assert found["status"]["diagnosis"]["kind"] == "Blind"
    finally:
        sandbox.start_component("prometheus")


def test_an_impossible_change_keeps_what_runs(sandbox: Sandbox, sandbox_namespace: str, apply_service: Apply) -> None:
    """A spec that cannot work is refused with numbers; the replica that serves goes on serving."""
    url = apply_service("kept")
    before = sandbox.kubectl.json("get", "deployment", "kept-engine", "-n", sandbox_namespace)
    impossible = '{"spec":{"engine":{"tensorParallelSize":7}}}'
    sandbox.kubectl("patch", "llm", "kept", "-n", sandbox_namespace, "--type=merge", "-p", impossible)
    sandbox.kubectl(
        "wait", "-n", sandbox_namespace, "--for=condition=Accepted=False", "--timeout=30s", "llm/kept", timeout=60.0
    )
    conditions = sandbox.kubectl.json("get", "llm", "kept", "-n", sandbox_namespace)["status"]["conditions"]
    [accepted] = [condition for condition in conditions if condition["type"] == "Accepted"]
    assert "7" in accepted["message"]
    after = sandbox.kubectl.json("get", "deployment", "kept-engine", "-n", sandbox_namespace)
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert complete(url, "kept")["choices"]

"""A service in a whole sandbox: time to the first answer, streams cut by a scale-in, replicas moved while blind."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

import yaml

from bench.figures import Context, Figure
from plimsoll_api import names
from plimsoll_cli.load.plan import LoadPlan, Progress
from plimsoll_cli.load.run import run_load
from plimsoll_cli.load.statistics import Summary, summarise
from plimsoll_cli.sandbox.options import NodeShape, SandboxOptions
from plimsoll_cli.sandbox.sandbox import Sandbox
from plimsoll_simulator.traffic import Request

STREAMS: Final = 50
STREAM_TOKENS: Final = 1200
"""About ten seconds at an H100's pace: far longer than it takes to ask for fewer replicas."""
BLIND_SECONDS: Final = 60.0
QUICK_BLIND_SECONDS: Final = 10.0
ANSWER_DEADLINE_SECONDS: Final = 90.0
NAME: Final = "chat"


def run(context: Context) -> list[Figure]:
    """Start a sandbox and measure one service in it."""
    with tempfile.TemporaryDirectory(prefix="plimsoll-bench-") as folder:
        options = SandboxOptions(
            name="bench-service",
            directory=Path(folder) / "sandbox",
            nodes=(NodeShape(name="gpu-1"),),
            scrape_interval=1.0,
            detector_interval=2.0,
        )
        with Sandbox.start(options) as sandbox:
            return [_first_answer(sandbox), *_scale_in(sandbox), _blind(sandbox, context)]


def _first_answer(sandbox: Sandbox) -> Figure:
    """Seconds from `kubectl apply` to the first answered request."""
    manifest = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": NAME},
        "spec": {
            "model": {"uri": "hf://meta-llama/Llama-3.1-8B-Instruct", "servedName": NAME},
            "scaling": {"minReplicas": 1, "maxReplicas": 4},
        },
    }
    began = time.monotonic()
    sandbox.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(manifest))
    while not _answers(sandbox):
        if time.monotonic() - began > ANSWER_DEADLINE_SECONDS:
            raise RuntimeError(f"no answer within {ANSWER_DEADLINE_SECONDS:g} s")
        time.sleep(0.1)
    return Figure("kubectl apply to first answer", time.monotonic() - began, "s", detail="simulated engine, no delay")


def _address(sandbox: Sandbox) -> str | None:
    found = sandbox.kubectl.attempt("get", "service", NAME, "-o", "json")
    if found.returncode != 0:
        return None
    spec: dict[str, Any] = json.loads(found.stdout)["spec"]
    return f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}"


def _answers(sandbox: Sandbox) -> bool:
    url = _address(sandbox)
    if url is None:
        return False
    body = json.dumps({"model": NAME, "prompt": "hello", "max_tokens": 1}).encode()
    request = urllib.request.Request(f"{url}/v1/completions", body, {"content-type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 (an address of our own)
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _scale_in(sandbox: Sandbox) -> list[Figure]:
    """Streams that fail or are cut when one of two replicas goes."""
    sandbox.kubectl("patch", "llm", NAME, "--type=merge", "-p", '{"spec":{"scaling":{"mode":"Manual"}}}')
    sandbox.kubectl("scale", f"llm/{NAME}", "--replicas=2")
    sandbox.kubectl("wait", "--for=jsonpath={.status.readyReplicas}=2", "--timeout=60s", f"llm/{NAME}", timeout=90.0)
    url = _address(sandbox)
    assert url is not None
    summary = asyncio.run(_stream_through(sandbox, url))
    detail = f"{STREAMS} streams of {STREAM_TOKENS} tokens, 2 replicas to 1 once all had begun"
    return [
        Figure("streams truncated by a scale-in", summary.truncated, "streams", 0, "==", detail),
        Figure("streams failed by a scale-in", summary.failed + summary.timed_out, "streams", 0, "==", detail),
        Figure("streams completed", summary.completed, "streams", STREAMS, "==", detail),
    ]


async def _stream_through(sandbox: Sandbox, url: str) -> Summary:
    begun = asyncio.Event()

    def on_progress(progress: Progress) -> None:
        if progress.in_flight == STREAMS and progress.ttft_p95 is not None:
            begun.set()

    requests = tuple(Request(0.0, 64, STREAM_TOKENS) for _ in range(STREAMS))
    plan = LoadPlan(url=url, model=NAME, requests=requests, duration=1.0, progress_interval=0.2)
    load = asyncio.create_task(run_load(plan, on_progress))
    await asyncio.wait_for(begun.wait(), timeout=30)
    await asyncio.to_thread(sandbox.kubectl, "scale", f"llm/{NAME}", "--replicas=1")
    return summarise(await load)


def _blind(sandbox: Sandbox, context: Context) -> Figure:
    """Changes of the replicas while Prometheus does not run, in a service that would otherwise scale in."""
    sandbox.kubectl("scale", f"llm/{NAME}", "--replicas=2")
    automatic = '{"spec":{"scaling":{"mode":"Auto","scaleInStabilization":"5s"}}}'
    sandbox.stop("prometheus")
    sandbox.kubectl("patch", "llm", NAME, "--type=merge", "-p", automatic)
    seconds = QUICK_BLIND_SECONDS if context.quick else BLIND_SECONDS
    ends = time.monotonic() + seconds
    seen = set()
    while time.monotonic() < ends:
        seen.add(sandbox.kubectl.json("get", "llm", NAME)["spec"]["replicas"])
        time.sleep(1.0)
    status = sandbox.kubectl.json("get", "llm", NAME)["status"]
    [condition] = [c for c in status["conditions"] if c["type"] == "MetricsAvailable"]
    detail = f"over {seconds:g} s; MetricsAvailable={condition['status']}: {condition['message']}"
    return Figure("replica changes while Prometheus is stopped", len(seen - {2}), "changes", 0, "==", detail)

"""How long an installation takes: from `helm install` to the first answered request, command by command."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from statistics import median
from typing import Final

from bench.figures import Context, Figure
from plimsoll_cli.chart.location import NAMESPACE, RELEASE, chart_directory
from plimsoll_cli.sandbox import binaries
from plimsoll_cli.sandbox.options import NodeShape, SandboxOptions
from plimsoll_cli.sandbox.sandbox import Sandbox

COMMANDS_BAR: Final = 3
SECONDS_BAR: Final = 90.0
"""What a first try may take, once the binaries are cached."""
DEADLINE_SECONDS: Final = 240.0
EXAMPLE: Final = Path("examples/chat.yaml")
NAME: Final = "chat"


def run(context: Context) -> list[Figure]:
    """Install into fresh sandboxes that have everything but the product."""
    rounds = 1 if context.quick else 3
    steps = [_install(number) for number in range(rounds)]
    totals = [sum(one) for one in steps]
    helm, apply, answer = (median(times) for times in zip(*steps, strict=True))
    detail = f"{rounds} installations, {min(totals):.1f} to {max(totals):.1f} s, two pods each of operator and detector"
    parts = f"helm install --wait {helm:.1f} s, kubectl apply {apply:.1f} s, answered {answer:.1f} s later"
    return [
        Figure("commands from helm install to an answer", len(steps[0]), "commands", COMMANDS_BAR, "<=", parts),
        Figure("helm install to first answer", median(totals), "s", SECONDS_BAR, "<=", detail),
    ]


def _install(number: int) -> list[float]:
    """Seconds of each command: helm install, kubectl apply, the request until it is answered."""
    with tempfile.TemporaryDirectory(prefix="plimsoll-bench-") as folder:
        options = SandboxOptions(
            name=f"bench-install-{number}",
            directory=Path(folder) / "sandbox",
            nodes=(NodeShape("NVIDIA-L40S", 4, "gpu-1"),),
            helm=True,
            without=frozenset({"operator", "detector"}),
        )
        with Sandbox.start(options) as sandbox:
            commands = [
                _helm_install(sandbox),
                [str(binaries.resolve("kubectl")), "apply", "-f", str(EXAMPLE)],
            ]
            environment = {**os.environ, "KUBECONFIG": str(sandbox.kubeconfig), "HELM_CACHE_HOME": f"{folder}/helm"}
            times = []
            for command in commands:
                began = time.monotonic()
                subprocess.run(command, env=environment, check=True, capture_output=True, timeout=DEADLINE_SECONDS)
                times.append(time.monotonic() - began)
            began = time.monotonic()
            _await_answer(sandbox)
            return [*times, time.monotonic() - began]


def _helm_install(sandbox: Sandbox) -> list[str]:
    """The command of the chart's README, with this sandbox's Prometheus."""
    return [
        str(binaries.resolve("helm")),
        "install",
        RELEASE,
        str(chart_directory()),
        f"--namespace={NAMESPACE}",
        "--create-namespace",
        f"--set=prometheus.url={sandbox.prometheus_url}",
        "--wait",
    ]


def _await_answer(sandbox: Sandbox) -> None:
    """Send the same request until it is answered, as `curl --retry` does.

    Raises:
        RuntimeError: it never was.
    """
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not _answered(sandbox):
        if time.monotonic() > deadline:
            raise RuntimeError(f"no answer within {DEADLINE_SECONDS:g} s")
        time.sleep(0.2)


def _answered(sandbox: Sandbox) -> bool:
    found = sandbox.kubectl.attempt("get", "service", NAME, "-o", "json")
    if found.returncode != 0:
        return False
    spec = json.loads(found.stdout)["spec"]
    url = f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}/v1/completions"
    body = json.dumps({"model": NAME, "prompt": "hello", "max_tokens": 1}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 (an address of our own)
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False

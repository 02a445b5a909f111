"""Every panel of every dashboard has data from a real Prometheus beside a service under load."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from plimsoll_cli.load.plan import LoadPlan
from plimsoll_cli.load.run import run_load
from plimsoll_cli.monitoring.files import texts
from plimsoll_cli.sandbox.sandbox import Sandbox
from plimsoll_simulator.traffic import Request

pytestmark = [pytest.mark.xdist_group("sandbox"), pytest.mark.slow, pytest.mark.timeout(240)]

SECONDS = 20
RATE = 8
DEADLINE_SECONDS = 100.0
"""The daily figures are sampled at whole minutes: the next one must have come."""


def queries() -> Iterator[tuple[str, str]]:
    """(dashboard / panel, expression), annotations among them."""
    for name, text in texts().items():
        if not name.endswith(".json"):
            continue
        board = json.loads(text)
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{board['title']} / {panel['title']}", target["expr"]


def answer(prometheus: str, expression: str, namespace: str) -> list[Any]:
    """What Prometheus says of a panel's expression now."""
    for variable, value in (
        ("$namespace", namespace),
        ("$llmservice", "panels"),
        ("$__rate_interval", "30s"),
        ("$__interval", "15s"),
    ):
        expression = expression.replace(variable, value)
    url = f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(url, timeout=10) as response:
        document = json.load(response)
    result: list[Any] = document["data"]["result"]
    return result


async def test_every_panel_has_data(
    sandbox: Sandbox, sandbox_namespace: str, apply_service: Callable[..., str]
) -> None:
    """None is empty, and none is answered for a service that does not exist."""
    url = apply_service("panels", scaling={"minReplicas": 1, "maxReplicas": 2})
    requests = tuple(Request(i / RATE, 200, 40) for i in range(SECONDS * RATE))
    await run_load(LoadPlan(url=url, model="panels", requests=requests, duration=float(SECONDS)))
    deadline = time.monotonic() + DEADLINE_SECONDS
    pending = list(queries())
    while pending and time.monotonic() < deadline:
        pending = [item for item in pending if not answer(sandbox.prometheus_url, item[1], sandbox_namespace)]
        if pending:
            # Traffic goes on while the rest is waited for: some series exist only for a window with requests.
            more = tuple(Request(i / RATE, 200, 40) for i in range(2 * RATE))
            await run_load(LoadPlan(url=url, model="panels", requests=more, duration=2.0))
    assert not pending, "\n".join(f"{panel}: {expression}" for panel, expression in pending)
    per_service = [expression for _, expression in queries() if "$llmservice" in expression]
    answered = [e for e in per_service if answer(sandbox.prometheus_url, e, "no-such-namespace")]
    assert not answered, answered

"""Every panel of every dashboard has data from a real Prometheus beside a service under load, on either engine."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from plimsoll_api.names import ENGINE_PORT, SERIES_NAMESPACE, SERIES_SERVICE
from plimsoll_api.service_series import WANTED_REPLICAS
from plimsoll_cli.load.plan import LoadPlan
from plimsoll_cli.load.run import run_load
from plimsoll_cli.monitoring.files import texts
from plimsoll_cli.sandbox.node_settings import CPU_IMAGE
from plimsoll_cli.sandbox.sandbox import Sandbox
from plimsoll_simulator.traffic import Request

pytestmark = [pytest.mark.xdist_group("sandbox"), pytest.mark.slow, pytest.mark.timeout(420)]

DEADLINE_SECONDS = 150.0
"""The daily figures are sampled at whole minutes: the next one must have come."""
RATE, REAL_RATE = 8, 2
"""Requests per second. The real engine shares two cores with everything else."""


@dataclass(frozen=True)
class Watched:
    """A service whose panels are looked at, and how to send it requests."""

    prometheus: str
    namespace: str
    name: str
    url: str
    rate: int

    async def load(self, seconds: int) -> None:
        """Send requests of moderate length."""
        requests = tuple(Request(i / self.rate, 200, 40) for i in range(seconds * self.rate))
        await run_load(LoadPlan(url=self.url, model=self.name, requests=requests, duration=float(seconds)))

    def answer(self, expression: str, namespace: str | None = None) -> list[Any]:
        """What Prometheus says of a panel's expression now, of this service or of its namesake elsewhere."""
        for variable, value in (
            ("$namespace", namespace or self.namespace),
            ("$llmservice", self.name),
            ("$__rate_interval", "30s"),
            ("$__interval", "1h"),
        ):
            expression = expression.replace(variable, value)
        url = f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.urlopen(url, timeout=30) as response:
            document = json.load(response)
        result: list[Any] = document["data"]["result"]
        return result

    def shown_in(self, expression: str) -> bool:
        """Whether a panel has data; one with a line for each service, whether one of them is this service's."""
        found = [one["metric"] for one in self.answer(expression)]
        apart = [labels for labels in found if SERIES_SERVICE in labels]
        mine = {SERIES_NAMESPACE: self.namespace, SERIES_SERVICE: self.name}
        return any(mine.items() <= labels.items() for labels in apart) if apart else bool(found)


def queries() -> Iterator[tuple[str, str]]:
    """(dashboard / panel, expression), annotations among them."""
    for name, text in texts().items():
        if not name.endswith(".json"):
            continue
        board = json.loads(text)
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{board['title']} / {panel['title']}", target["expr"]
        for annotation in board.get("annotations", {}).get("list", ()):
            yield f"{board['title']} / annotation {annotation['name']}", annotation["expr"]


async def assert_every_panel_has_data(service: Watched, seconds: int) -> None:
    """None is empty, and none is answered for a service that does not exist."""
    assert len(list(queries())) > 40
    await service.load(seconds)
    deadline = time.monotonic() + DEADLINE_SECONDS
    pending = list(queries())
    while pending and time.monotonic() < deadline:
        pending = [item for item in pending if not service.shown_in(item[1])]
        if pending:
            # Traffic goes on while the rest is waited for: some series exist only for a window with requests.
            await service.load(2)
    assert not pending, "\n".join(f"{panel}: {expression}" for panel, expression in pending)
    per_service = [expression for _, expression in queries() if "$llmservice" in expression]
    answered = [expression for expression in per_service if service.answer(expression, "no-such-namespace")]
    assert not answered, answered


async def test_every_panel_has_data(
    sandbox: Sandbox, sandbox_namespace: str, apply_service: Callable[..., str]
) -> None:
    """Of a service on the simulated engine."""
    url = apply_service("panels", scaling={"minReplicas": 1, "maxReplicas": 2})
    service = Watched(sandbox.prometheus_url, sandbox_namespace, "panels", url, RATE)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not service.answer(f'{WANTED_REPLICAS}{{{SERIES_NAMESPACE}="$namespace"}} == 1'):
        assert time.monotonic() < deadline, "Prometheus has not seen the first replica"
        await asyncio.sleep(0.1)
    # A decision to annotate, once there is a number before it; the real engine's service has one, from none to one.
    sandbox.kubectl("scale", "-n", sandbox_namespace, "llm/panels", "--replicas=2")
    await assert_every_panel_has_data(service, seconds=20)


@pytest.mark.vllm
@pytest.mark.timeout(600)
async def test_every_panel_has_data_with_the_real_engine(sandbox: Sandbox, real_engine: Any) -> None:
    """Of a service on vLLM itself, scraped through the PodMonitor that the operator made."""
    real_engine.await_available()
    address = real_engine.pod()["status"]["podIP"]
    url = f"http://{address}:{ENGINE_PORT}"
    service = Watched(sandbox.prometheus_url, real_engine.namespace, real_engine.name, url, REAL_RATE)
    [container] = real_engine.pod()["spec"]["containers"]
    assert container["image"].startswith(CPU_IMAGE)
    await assert_every_panel_has_data(service, seconds=15)

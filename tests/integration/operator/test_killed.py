"""A process that dies after any of its requests to a real API server, and one that comes after it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Some eighty processes one after the other; the first test starts the control plane, too.
pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("operator"), pytest.mark.timeout(300)]

MOST_REQUESTS = {"creation": 45, "change": 25}
CHILDREN = {
    "Deployment/{}-engine",
    "NetworkPolicy/{}-engine",
    "PodDisruptionBudget/{}-engine",
    "PodMonitor/{}-engine",
    "Service/{}",
}


@pytest.fixture
def reconcile(identity: Path, services: Any) -> Iterator[Callable[[str, int], int]]:
    """`reconcile("chat", 3)`: a process that dies after its third request (0: never); its exit code."""
    command = [sys.executable, str(Path(__file__).with_name("reconcile_and_die.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(name: str, die_after: int) -> int:
            order = {"kubeconfig": str(identity), "namespace": services.namespace, "name": name, "die_after": die_after}
            assert process.stdin is not None
            assert process.stdout is not None
            print(json.dumps(order), file=process.stdin, flush=True)
            return int(process.stdout.readline())

        yield run
        process.stdin.close()


def walk(reconcile: Callable[[str, int], int], names: list[str]) -> list[str]:
    """Kill the reconcile of the first service after its first request, of the second after its second, and so on.

    Each is then reconciled to its end. Returns the services up to the first that was not killed any more.
    """
    for number, name in enumerate(names, start=1):
        died = reconcile(name, number) == 9
        assert reconcile(name, 0) == 0
        if not died:
            return names[:number]
    raise AssertionError(f"a reconcile takes more than {len(names)} requests")


def check(everything: dict[str, Any], names: list[str], generation: int, replicas: int) -> None:
    """Every child once, as it should be, and every Deployment changed no more often than asked."""
    for number, name in enumerate(names, start=1):
        when = f"killed after request {number}"
        service, deployment = everything[f"LLMService/{name}"], everything[f"Deployment/{name}-engine"]
        owned = {
            key
            for key, item in everything.items()
            if any(owner["uid"] == service["metadata"]["uid"] for owner in item["metadata"].get("ownerReferences", []))
        }
        assert owned == {child.format(name) for child in CHILDREN}, when
        assert service["spec"]["replicas"] == deployment["spec"]["replicas"] == replicas, when
        assert deployment["metadata"]["generation"] == generation, when
        accepted = next(c for c in service["status"]["conditions"] if c["type"] == "Accepted")
        assert accepted["status"] == "True", when


def test_killed_at_every_request_of_a_creation(reconcile: Callable[[str, int], int], services: Any) -> None:
    names = [f"new{number}" for number in range(1, MOST_REQUESTS["creation"])]
    services.apply_many(names)
    walked = walk(reconcile, names)
    assert len(walked) > 20, "a creation takes more requests than that"
    check(services.everything(), walked, generation=1, replicas=1)


def test_killed_at_every_request_of_a_change(reconcile: Callable[[str, int], int], services: Any) -> None:
    names = [f"old{number}" for number in range(1, MOST_REQUESTS["change"])]
    services.apply_many(names)
    assert [reconcile(name, 0) for name in names] == [0] * len(names)
    services.run("scale", "--replicas=3", *[f"llm/{name}" for name in names])
    services.apply_many(names, rollout={"drainTimeout": "30s"})
    walked = walk(reconcile, names)
    assert len(walked) > 8, "a change takes more requests than that"
    # One change of the replicas and one of the template, however often it was tried.
    check(services.everything(), walked, generation=3, replicas=3)

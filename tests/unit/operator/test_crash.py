"""Killed at any request, before or after it took effect, and started again: the end is the same."""

from __future__ import annotations

from typing import Any

import pytest

from plimsoll_kube.resources import LLM_SERVICE, SERVICE


class Killed(BaseException):
    """The process is gone: nothing in it may catch this."""


MOST_CALLS = 80
FEWEST_CALLS = 8


async def killed_at(harness: Any, number: int, when: str) -> bool:
    """Reconcile until the given request; False when there were not that many."""

    def kill(count: int, *_: Any) -> None:
        if count - began == number:
            raise Killed

    began = len(harness.kube.calls)
    setattr(harness.kube, when, kill)
    try:
        await harness.settle()
        return False
    except Killed:
        return True
    finally:
        setattr(harness.kube, when, lambda *_: None)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("change", ["create", "edit", "scale", "drift", "refuse", "step down"])
async def test_the_end_is_the_same(harness: Any, service: Any, die: Any, change: str, when: str) -> None:
    await prepare(harness, service, die, change)
    await harness.settle()
    expected = without_times(harness.kube.snapshot())
    allowed = {2, 4} if change == "scale" else {2}
    number = 0
    alive = False
    while not alive:
        number += 1
        assert number < MOST_CALLS
        await prepare(harness, service, die, change)
        alive = not await killed_at(harness, number, when)
        harness.restarted()
        await harness.settle()
        where = f"killed {when} request {number}"
        assert without_times(harness.kube.snapshot()) == expected, where
        assert set(harness.kube.replicas["chat-engine"]) <= allowed, where
    assert number > FEWEST_CALLS, "the walk must have killed it at every request of a reconcile"


async def prepare(harness: Any, service: Any, die: Any, change: str) -> None:
    """A cluster in which a change waits to be reconciled."""
    for key in [key for key in harness.kube.objects if key[0] != "Node"]:
        for store in (harness.kube.objects, harness.kube.owners, harness.kube.meta):
            store.pop(key, None)
    harness.kube.replicas.clear()
    harness.restarted()
    harness.kube.put(service())
    if change == "create":
        return
    await harness.settle()
    if change == "edit":
        harness.kube.put(service(rollout={"drainTimeout": "30s"}, podTemplate={"spec": {"priorityClassName": "high"}}))
    elif change == "scale":
        harness.kube.put(LLM_SERVICE.manifest("ml", "chat", spec={"replicas": 4}), "kubectl")
    elif change == "drift":
        harness.kube.remove(SERVICE, "ml", "chat")
    elif change == "refuse":
        harness.kube.put(service(engine={"tensorParallelSize": 16}))
    elif change == "step down":
        die("chat-1")


def without_times(snapshot: dict[str, Any]) -> dict[str, Any]:
    """A snapshot without times and without identifiers of the run."""
    service = snapshot["LLMService/ml/chat"]
    for condition in service["status"]["conditions"]:
        condition.pop("lastTransitionTime")
        condition.pop("observedGeneration")
    for field in ("observedGeneration",):
        service["status"].pop(field)
    service["status"]["recommendation"].pop("appliedGeneration")
    for condition in service["status"]["conditions"]:
        condition["message"] = (
            condition["message"]
            .replace("generation 1", "generation N")
            .replace("generation 2", "generation N")
            .replace("generation 3", "generation N")
        )
    for step in service["status"].get("memorySteps", []):
        step.pop("at")
    for value in snapshot.values():
        for owner in value["metadata"].get("ownerReferences", []):
            owner.pop("uid")
        for entry in value["metadata"].get("annotations", {}):
            value["metadata"]["annotations"][entry] = "hash"
    return snapshot

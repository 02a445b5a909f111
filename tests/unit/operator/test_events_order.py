"""Events lost, doubled and out of order: the end depends on the last spec only."""

from __future__ import annotations

import random
from typing import Any

import pytest

from plimsoll_kube.resources import LLM_SERVICE, SERVICE

CHANGES: list[dict[str, Any]] = [
    {},
    {"rollout": {"drainTimeout": "30s"}},
    {"model": {"uri": "hf://meta-llama/Llama-3.1-8B-Instruct", "cache": {"size": "10Gi"}}},
    {"engine": {"extraArgs": ["--seed=1"]}},
    {"engine": {"tensorParallelSize": 16}},
    {"paused": True},
    {"podTemplate": {"spec": {"priorityClassName": "high"}}},
]


def comparable(snapshot: dict[str, Any]) -> dict[str, Any]:
    """A snapshot without what tells the time or the way there."""
    service = snapshot["LLMService/ml/chat"]
    service.pop("status")
    for item in snapshot.values():
        item["metadata"].pop("managedFields", None)
        for owner in item["metadata"].get("ownerReferences", []):
            owner.pop("uid")
        item["metadata"].pop("annotations", None)
    return snapshot


@pytest.mark.parametrize("seed", range(25))
async def test_the_end_depends_on_the_last_spec_only(harness: Any, service: Any, seed: int) -> None:
    order = random.Random(seed)
    final = {"rollout": {"drainTimeout": "45s"}}
    harness.kube.put(service(**final))
    await harness.settle()
    expected = comparable(harness.kube.snapshot())
    harness.kube.remove(LLM_SERVICE, "ml", "chat")
    for key in [key for key in harness.kube.objects if key[0] != "Node"]:
        harness.kube.objects.pop(key)
    harness.restarted()
    for change in order.choices(CHANGES, k=6):
        harness.kube.put(service(**change))
        if order.random() < 0.2 and ("Service", "ml", "chat") in harness.kube.objects:
            harness.kube.remove(SERVICE, "ml", "chat")
        if order.random() < 0.2:
            harness.restarted()
        for _ in range(order.choice([0, 0, 1, 3])):  # lost, or doubled
            await harness.reconciler.reconcile(("ml", "chat"))
    harness.kube.put(service(**final))
    await harness.settle()
    assert comparable(harness.kube.snapshot()) == expected

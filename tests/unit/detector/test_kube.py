"""Writing `/scale`: what counts as written, and what somebody else wrote."""

from __future__ import annotations

from typing import Any

import pytest

from plimsoll_detector.kube import FleetApi
from plimsoll_detector.service import Rules
from plimsoll_kube.resources import LLM_SERVICE


@pytest.mark.parametrize(
    ("manager", "replicas", "acted"),
    [("plimsoll-detector", 4, True), ("plimsoll-detector", 3, False), ("kubectl", 4, False), ("kubectl", 6, False)],
)
async def test_a_write_whose_answer_was_lost_is_ours(manager: str, replicas: int, acted: bool, fake_kube: Any) -> None:
    """Sent again it is a conflict; it has happened all the same, and history and contention must know of it."""
    spec = {"model": {"uri": "hf://org/model"}, "replicas": 2}
    fake_kube.put(LLM_SERVICE.manifest("ml", "chat", spec=spec), "plimsoll-detector")
    fleet = FleetApi(fake_kube, Rules(60.0, 15.0))
    [service] = (await fleet.snapshot()).services

    def meanwhile(number: int, verb: str, kind: str, name: str) -> None:
        if verb == "scale":
            fake_kube.put(LLM_SERVICE.manifest("ml", "chat", spec={"replicas": replicas}), manager)

    fake_kube.before = meanwhile
    assert await fleet.scale(service, 4) is acted
    assert fake_kube.see(LLM_SERVICE, "ml", "chat")["spec"]["replicas"] == replicas

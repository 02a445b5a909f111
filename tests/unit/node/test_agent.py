"""The node agent after it was started again: what pods of an earlier one still hold."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from plimsoll_cli.sandbox.node import pod_record
from plimsoll_cli.sandbox.node.agent import NodeAgent
from plimsoll_cli.sandbox.node.config import GPU, AgentConfig, NodeConfig
from plimsoll_cli.sandbox.node.context import AgentContext
from plimsoll_cli.sandbox.node.pod_record import PodRecord


class Cluster:
    """An API server that takes every status, and says when a pod has been refused."""

    def __init__(self) -> None:
        self.client = self
        self.phases: list[tuple[str, str]] = []
        self.waits_for_deletion = asyncio.Event()

    async def patch(self, _: object, namespace: str, name: str, patch: dict[str, Any], **__: object) -> dict[str, Any]:
        self.phases.append((name, patch["status"]["phase"]))
        if name == "new":
            self.waits_for_deletion.set()
        return {"metadata": {**patch["metadata"], "namespace": namespace, "name": name}, "spec": SPEC, **patch}

    async def event(self, *_: object) -> None:
        return


SPEC: dict[str, Any] = {
    "nodeName": "node",
    "restartPolicy": "Never",
    "containers": [{"name": "engine", "image": "unknown", "resources": {"limits": {GPU: "1"}}}],
}


def pod(uid: str, name: str, phase: str) -> dict[str, Any]:
    """A pod that wants the node's only GPU."""
    return {"metadata": {"uid": uid, "name": name, "namespace": "ml"}, "spec": SPEC, "status": {"phase": phase}}


async def test_a_pod_that_ended_before_gives_its_gpus_to_the_next(tmp_path: Path) -> None:
    """The scheduler counts them as free; and what was told of its end stays as it is."""
    node = NodeConfig(name="node", capacity={GPU: "1"})
    config = AgentConfig(nodes=(node,), pod_cidr="127.66.0.0/16", state_directory=tmp_path)
    pod_record.save(tmp_path, PodRecord("old", "ml", "old", "node", "127.66.1.1", {"engine": (0,)}, time.time()))
    cluster = Cluster()
    agent = NodeAgent(AgentContext(config, cluster, SimpleNamespace(), "https://127.0.0.1"))  # type: ignore[arg-type]
    agent.take_up_records()
    assert agent.context.gpus_taken == {"node": {"old": (0,)}}
    agent._pod_changed("ADDED", pod("old", "old", "Succeeded"))
    agent._pod_changed("ADDED", pod("new", "new", "Pending"))
    await asyncio.wait_for(cluster.waits_for_deletion.wait(), 10)
    await agent.let_go()
    assert agent.context.gpus_taken == {"node": {"new": (0,)}}
    assert cluster.phases == [("new", "Pending")]

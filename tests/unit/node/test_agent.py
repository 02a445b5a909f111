"""The node agent after it was started again: what pods of an earlier one still hold."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plimsoll_cli.sandbox.node import agent as agents
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


def agent_with_a_record(folder: Path) -> tuple[NodeAgent, Cluster]:
    """An agent of one node with one GPU, which a pod of an earlier agent held."""
    node = NodeConfig(name="node", capacity={GPU: "1"})
    config = AgentConfig(nodes=(node,), pod_cidr="127.66.0.0/16", state_directory=folder)
    pod_record.save(folder, PodRecord("old", "ml", "old", "node", "127.66.1.1", {"engine": (0,)}, time.time()))
    cluster = Cluster()
    agent = NodeAgent(AgentContext(config, cluster, SimpleNamespace(), "https://127.0.0.1"))  # type: ignore[arg-type]
    agent.take_up_records()
    return agent, cluster


@pytest.mark.parametrize("listed", [("old", "new"), ("new", "old")])
async def test_a_pod_that_ended_before_gives_its_gpus_to_the_next(tmp_path: Path, listed: tuple[str, str]) -> None:
    """The scheduler counts them as free, whichever is listed first; and what was told of its end stays as it is."""
    agent, cluster = agent_with_a_record(tmp_path)
    assert agent.context.gpus_taken == {"node": {"old": (0,)}}
    phases = {"old": "Succeeded", "new": "Pending"}
    for name in listed:
        agent._pod_changed("ADDED", pod(name, name, phases[name]))
    await asyncio.wait_for(cluster.waits_for_deletion.wait(), 10)
    await agent.let_go()
    assert agent.context.gpus_taken == {"node": {"new": (0,)}}
    assert cluster.phases == [("new", "Pending")]


async def test_a_pod_waits_for_the_gpus_of_one_that_was_deleted_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its object went while no agent ran, and its engine still ends: the next is late, not refused."""
    agent, cluster = agent_with_a_record(tmp_path)
    (pod_record.pod_folder(tmp_path, "old") / "containers" / "engine" / "0").mkdir(parents=True)
    looked, ended = asyncio.Event(), asyncio.Event()

    async def find_again(_: Path) -> None:
        looked.set()
        await ended.wait()

    monkeypatch.setattr(agents, "find_again", find_again)
    agent._pod_changed("ADDED", pod("new", "new", "Pending"))
    forgetting = asyncio.create_task(agent._end_forgotten())
    await looked.wait()
    assert cluster.phases == []
    ended.set()
    await forgetting
    await asyncio.wait_for(cluster.waits_for_deletion.wait(), 10)
    await agent.let_go()
    assert agent.context.gpus_taken == {"node": {"new": (0,)}}
    assert agent.context.ending == set()
    assert cluster.phases == [("new", "Pending")]

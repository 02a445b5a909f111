"""The node agent: registers its nodes, keeps them alive, and gives every pod bound to them a worker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from plimsoll_cli.sandbox.node import node_objects, pod_record
from plimsoll_cli.sandbox.node.config import NodeConfig
from plimsoll_cli.sandbox.node.container_process import ContainerProcess, find_again
from plimsoll_cli.sandbox.node.context import AgentContext
from plimsoll_cli.sandbox.node.pod_record import PodRecord
from plimsoll_cli.sandbox.node.pod_worker import PodWorker
from plimsoll_kube.errors import ApiError, Conflict
from plimsoll_kube.following import follow
from plimsoll_kube.resources import LEASE, NODE, POD

Manifest = Mapping[str, Any]
logger = logging.getLogger(__name__)
_STATUS_SECONDS: Final = 300.0
"""How often an unchanged Node status is written again (kubelet nodeStatusReportFrequency)."""
_RENEWALS_PER_LEASE: Final = 4
"""A Lease is renewed four times within its duration, as the kubelet does."""


class NodeAgent:
    """All nodes of one configuration file."""

    def __init__(self, context: AgentContext) -> None:
        self.context = context
        self.nodes = {node.name: node for node in context.config.nodes}
        self.workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._records: dict[str, PodRecord] = {}
        self._written: dict[str, float] = {}

    def take_up_records(self) -> None:
        """Reserve what pods of an earlier agent hold. Until one's object is seen it may be gone: others wait for it."""
        for record in pod_record.load_all(self.context.config.state_directory):
            self._records[record.uid] = record
            self.context.addresses_taken.add(record.pod_ip)
            self.context.ending.add(record.uid)
            held = tuple(index for indices in record.gpus.values() for index in indices)
            self.context.gpus_taken.setdefault(record.node, {})[record.uid] = held

    async def register(self) -> None:
        """Create or update every Node, its status and its Lease.

        Raises:
            ApiError: the API server refused.
        """
        for node in self.nodes.values():
            await self._register(node)

    async def heartbeat(self) -> None:
        """Renew Leases, and now and then the Nodes' status, for as long as the agent runs."""
        while True:
            await asyncio.sleep(self.context.config.node_lease_seconds / _RENEWALS_PER_LEASE)
            for node in self.nodes.values():
                try:
                    await self._renew(node)
                except ApiError as error:
                    logger.warning("node %s: %s", node.name, error)

    async def follow_pods(self) -> None:
        """Give every pod bound to one of the nodes a worker, and tell the workers what changed."""
        synced = False
        async for change in follow(self.context.cluster.client, POD):
            if change.type == "SYNCED":
                if not synced:
                    await self._end_forgotten()
                synced = True
            elif change.object["spec"].get("nodeName") in self.nodes:
                self._pod_changed(change.type, change.object)

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of a pod."""
        return next(
            (
                worker
                for worker in self.workers.values()
                if worker.pod["metadata"]["namespace"] == namespace and worker.pod["metadata"]["name"] == name
            ),
            None,
        )

    async def let_go(self) -> None:
        """Stop working; containers go on."""
        for task in self._tasks.values():
            task.cancel()
        for worker in self.workers.values():
            worker.let_go()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _pod_changed(self, kind: str, pod: Manifest) -> None:
        uid = pod["metadata"]["uid"]
        worker = self.workers.get(uid)
        if kind == "DELETED":
            if worker is not None:
                worker.forget()
            return
        if worker is None:
            self.context.ending.discard(uid)
            worker = PodWorker(self.context, self.nodes[pod["spec"]["nodeName"]], pod, self._records.pop(uid, None))
            self.workers[uid] = worker
            task = asyncio.create_task(worker.run(), name=f"pod {pod['metadata']['name']}")
            self._tasks[uid] = task
            task.add_done_callback(lambda done: self._worker_ended(uid, done))
        worker.observe(pod)

    def _worker_ended(self, uid: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(uid, None)
        if task.cancelled():
            return
        if error := task.exception():
            logger.error("pod %s: %r", uid, error, exc_info=error)
            return  # its worker stays, so that the pod is not begun a second time
        self.workers.pop(uid, None)

    async def _end_forgotten(self) -> None:
        """Kill what runs for pods that were deleted while no agent ran."""
        for uid in list(self._records):
            folder = pod_record.pod_folder(self.context.config.state_directory, uid)
            for run in folder.glob("containers/*/*"):
                found = await find_again(run)
                if isinstance(found, ContainerProcess):
                    found.kill()
                    await found.exited.wait()
            record = self._records.pop(uid)
            self.context.addresses_taken.discard(record.pod_ip)
            self.context.gpus_taken.get(record.node, {}).pop(uid, None)
            self.context.ending.discard(uid)
            pod_record.forget(self.context.config.state_directory, uid)

    async def _register(self, node: NodeConfig) -> None:
        client = self.context.cluster.client
        manifest = node_objects.node_manifest(node)
        with contextlib.suppress(Conflict):
            await client.create(manifest)
        patch = {"metadata": {"labels": manifest["metadata"]["labels"]}}
        existing = await client.patch(NODE, None, node.name, patch)
        await self._write_status(node, existing)
        await self._renew_lease(node, existing["metadata"]["uid"])

    async def _renew(self, node: NodeConfig) -> None:
        existing = await self.context.cluster.client.get(NODE, None, node.name)
        if existing is None:
            await self._register(node)
            return
        ready = {c["type"]: c["status"] for c in existing["status"].get("conditions") or ()}.get("Ready") == "True"
        if not ready or time.monotonic() - self._written.get(node.name, 0.0) > _STATUS_SECONDS:
            await self._write_status(node, existing)
        await self._renew_lease(node, existing["metadata"]["uid"])

    async def _write_status(self, node: NodeConfig, existing: Manifest) -> None:
        status = node_objects.node_status(self.context.config, node, dict(existing), time.time())
        await self.context.cluster.client.patch(NODE, None, node.name, {"status": status}, subresource="status")
        self._written[node.name] = time.monotonic()

    async def _renew_lease(self, node: NodeConfig, uid: str) -> None:
        client = self.context.cluster.client
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease = node_objects.lease_manifest(node, uid, self.context.config.node_lease_seconds, now)
        patched = {"spec": lease["spec"]}
        if await client.get(LEASE, node_objects.LEASE_NAMESPACE, node.name) is None:
            with contextlib.suppress(Conflict):
                await client.create(lease)
            return
        await client.patch(LEASE, node_objects.LEASE_NAMESPACE, node.name, patched)

"""kopf as a source of events: every change becomes a key in the queue, and nothing here can fail.

No finalizer, annotation or status is written by kopf: only `on.event` handlers are registered. The objects are hints;
a reconcile reads everything again.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import kopf

from plimsoll_api import names
from plimsoll_kube.credentials import read_credentials
from plimsoll_kube.resources import DEPLOYMENT, LLM_SERVICE, POD, POD_MONITOR, Resource
from plimsoll_operator import replacement
from plimsoll_operator.event_source import Enqueue
from plimsoll_operator.manifests.children import CHILD_RESOURCES
from plimsoll_operator.reconciler import Key

CHANGE_DELAY_S: Final = 0.3
"""For pods and Deployments, whose changes come in bursts: one reconcile then sees all of them."""

REPAIR_DELAY_S: Final = 1.5
"""For children whose changes are our own echo, or a person's edit that is to be repaired."""


WATCHER_PREFIX: Final = "watcher for "
"""How kopf names the task that watches one resource (1.45)."""


def registry(enqueue: Enqueue, kubeconfig: Path | None, *, monitors: bool) -> kopf.OperatorRegistry:
    """The handlers of the operator.

    Args:
        enqueue: where keys go.
        kubeconfig: whom kopf acts as.
        monitors: whether PodMonitors can be watched.
    """
    handlers = kopf.OperatorRegistry()
    seen = _Generations()

    @kopf.on.login(registry=handlers)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await _connection(kubeconfig)

    @kopf.on.event(*_selector(LLM_SERVICE), registry=handlers, id="llmservice")
    async def service_changed(event: Any, **_: Any) -> None:
        item = event["object"]
        if seen.news(event["type"], item):
            enqueue((item["metadata"]["namespace"], item["metadata"]["name"]), urgent=True)

    def watch(resource: Resource, delay: float) -> None:
        @kopf.on.event(*_selector(resource), registry=handlers, id=resource.plural)
        async def child_changed(event: Any, **_: Any) -> None:
            metadata = event["object"]["metadata"]
            name = (metadata.get("labels") or {}).get(names.SERVICE_LABEL)
            if name:
                enqueue((metadata["namespace"], name), delay)

    for resource in watched(monitors=monitors)[1:]:
        watch(resource, CHANGE_DELAY_S if resource in (POD, DEPLOYMENT) else REPAIR_DELAY_S)
    return handlers


def watched(*, monitors: bool) -> tuple[Resource, ...]:
    """What is watched, the LLMServices first."""
    children = tuple(resource for resource in CHILD_RESOURCES if monitors or resource != POD_MONITOR)
    return (LLM_SERVICE, POD, *children)


def kopf_settings(*, monitors: bool) -> kopf.OperatorSettings:
    """kopf without everything it could write, and with label selectors on the server's side."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    # Observing CRDs and namespaces would need rights that nothing else needs.
    settings.scanning.disabled = True
    settings.queueing.exit_timeout = 1.0
    for resource in watched(monitors=monitors)[1:]:
        settings.watching.label_selectors[_selector(resource)] = names.SERVICE_LABEL
    return settings


def watchers() -> set[str]:
    """Names of the resources that kopf watches at this moment, as `deployments.v1.apps`."""
    running = (task.get_name() for task in asyncio.all_tasks() if not task.done())
    return {name.removeprefix(WATCHER_PREFIX).partition("@")[0] for name in running if name.startswith(WATCHER_PREFIX)}


def watcher_name(resource: Resource) -> str:
    """How kopf calls the watcher of a resource."""
    return f"{resource.plural}.{resource.version}.{resource.group}".strip(".")


class _Generations:
    """Which specs of services were seen, so that a write of a status starts no reconcile unless it names a replica to
    replace."""

    def __init__(self) -> None:
        self._seen: dict[Key, tuple[Any, ...]] = {}

    def news(self, kind: str | None, service: Any) -> bool:
        """Whether an event may change what is to be done. The first event of a key, from a list, always does."""
        metadata = service["metadata"]
        key = (metadata["namespace"], metadata["name"])
        if kind == "DELETED":
            self._seen.pop(key, None)
            return True
        stalled = replacement.named(service.get("status") or {})
        now = (metadata.get("uid"), metadata.get("generation"), metadata.get("deletionTimestamp"), stalled)
        if kind is not None and self._seen.get(key) == now:
            return False
        self._seen[key] = now
        return True


def _selector(resource: Resource) -> tuple[str, str, str]:
    return resource.group, resource.version, resource.plural


async def _connection(kubeconfig: Path | None) -> kopf.ConnectionInfo:
    found = await read_credentials(kubeconfig)
    return kopf.ConnectionInfo(
        server=found.server,
        ca_path=found.ca_path,
        insecure=found.insecure,
        scheme="Bearer" if found.token else None,
        token=found.token,
        certificate_path=found.certificate_path,
        private_key_path=found.private_key_path,
        trust_env=found.trust_env,
    )

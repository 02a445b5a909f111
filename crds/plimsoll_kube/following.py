"""Follow a collection for as long as a process runs: list, watch, resume, and list again after a gap."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Literal

from plimsoll_kube.client import KubeApi
from plimsoll_kube.errors import ApiError, Forbidden, Gone
from plimsoll_kube.resources import Manifest, Resource
from plimsoll_kube.watching import ADDED, BOOKMARK, DELETED, MODIFIED

FIRST_BACKOFF_S: Final = 0.5
LONGEST_BACKOFF_S: Final = 15.0
"""Between tries while the API server is away; scaled by a random half to whole."""

Key = tuple[str, str]
"""Namespace (empty for cluster-wide objects) and name."""


@dataclass(frozen=True)
class Change:
    """A change of one object, or `SYNCED` once after every list (then there is no object)."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "SYNCED"]
    object: Manifest


SYNCED: Final = "SYNCED"


def key_of(manifest: Manifest) -> Key:
    """Namespace and name of an object."""
    metadata = manifest["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


async def follow(
    api: KubeApi,
    resource: Resource,
    namespace: str | None = None,
    *,
    label_selector: str = "",
    field_selector: str = "",
) -> AsyncIterator[Change]:
    """Changes of a collection, without end and without gaps.

    What was deleted while the connection was lost is reported as DELETED after the next list, with the object as it
    was last seen. Outages are waited for; whoever must know of them sees no `SYNCED`.

    Raises:
        Forbidden: these credentials may not list or watch it.
    """
    known: dict[Key, Manifest] = {}
    version = ""
    backoff = FIRST_BACKOFF_S
    while True:
        try:
            if not version:
                listed = await api.list(
                    resource, namespace, label_selector=label_selector, field_selector=field_selector
                )
                for change in _difference(known, listed.items):
                    yield change
                known = {key_of(item): item for item in listed.items}
                version = listed.resource_version
                yield Change("SYNCED", {})
            async for event in api.watch(
                resource,
                namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                resource_version=version,
            ):
                version = event.resource_version
                backoff = FIRST_BACKOFF_S
                if event.type == BOOKMARK:
                    continue
                change = _observed(known, event.type, event.object)
                yield change
        except Gone:
            version = ""
        except Forbidden:
            raise
        except ApiError:
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
            backoff = min(backoff * 2, LONGEST_BACKOFF_S)


def _observed(known: dict[Key, Manifest], kind: str, item: Manifest) -> Change:
    """Enter an event into what is known."""
    key = key_of(item)
    if kind == DELETED:
        known.pop(key, None)
        return Change("DELETED", item)
    change = Change("MODIFIED" if key in known or kind == MODIFIED else "ADDED", item)
    known[key] = item
    return change


def _difference(known: dict[Key, Manifest], items: list[Manifest]) -> list[Change]:
    """What a new list says happened since the last event."""
    now = {key_of(item): item for item in items}
    gone = [Change("DELETED", item) for key, item in known.items() if key not in now]
    changed: list[Change] = []
    for key, item in now.items():
        before = known.get(key)
        if before is None:
            changed.append(Change(ADDED, item))
        elif before["metadata"].get("uid") != item["metadata"].get("uid"):
            changed += [Change("DELETED", before), Change(ADDED, item)]
        elif before["metadata"].get("resourceVersion") != item["metadata"].get("resourceVersion"):
            changed.append(Change("MODIFIED", item))
    return gone + changed

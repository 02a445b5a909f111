"""Reading a service and everything that belongs to it, live."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from plimsoll_api import names
from plimsoll_api.v1alpha1 import LLMServiceSpec, RecommendationStatus
from plimsoll_kube.client import KubeApi
from plimsoll_kube.resources import DEPLOYMENT, POD, POD_MONITOR, Manifest, Resource, resource_of
from plimsoll_operator.conditions.reasons import Reason
from plimsoll_operator.errors import InvalidSpecError
from plimsoll_operator.manifests.children import CHILD_RESOURCES
from plimsoll_operator.pods import PodView, live_pods
from plimsoll_operator.start_log import with_causes

ChildKey = tuple[str, str]
"""Kind and name."""


@dataclass(frozen=True)
class Observed:
    """A service as the API server has it.

    Attributes:
        service: the LLMService.
        children: objects that the service controls, by kind and name.
        pods: its pods that have not ended.
    """

    service: Manifest
    children: dict[ChildKey, Manifest]
    pods: tuple[PodView, ...]

    @property
    def namespace(self) -> str:
        """Of the service and its children."""
        return str(self.service["metadata"]["namespace"])

    @property
    def name(self) -> str:
        """Of the service."""
        return str(self.service["metadata"]["name"])

    @property
    def generation(self) -> int:
        """Of the spec."""
        return int(self.service["metadata"].get("generation", 0))

    @property
    def status(self) -> dict[str, Any]:
        """The live status; empty for a new service."""
        return self.service.get("status") or {}

    @property
    def conditions(self) -> list[dict[str, Any]]:
        """The live conditions, of every owner."""
        return self.status.get("conditions") or []

    @property
    def deployment(self) -> Manifest | None:
        """The live Deployment."""
        return self.children.get((DEPLOYMENT.kind, f"{self.name}-engine"))

    @property
    def recommendation(self) -> RecommendationStatus | None:
        """The recommendation in the status; None when there is none, or one of an API that is no longer understood."""
        recorded = self.status.get("recommendation")
        try:
            return RecommendationStatus.model_validate(recorded) if recorded else None
        except ValidationError:
            return None


async def observe(api: KubeApi, service: Manifest, *, monitors: bool) -> Observed:
    """Read a service's children and pods.

    Args:
        api: where to read.
        service: the LLMService as just read.
        monitors: whether the API server knows PodMonitors.

    Raises:
        ApiError: something cannot be read; what is not known must not be acted on.
    """
    metadata = service["metadata"]
    selector = f"{names.SERVICE_LABEL}={metadata['name']}"
    kinds = [resource for resource in CHILD_RESOURCES if monitors or resource != POD_MONITOR]

    async def listed(resource: Resource) -> list[Manifest]:
        return (await api.list(resource, metadata["namespace"], label_selector=selector)).items

    *found, pods = await asyncio.gather(*(listed(resource) for resource in kinds), listed(POD))
    children = controlled((item for items in found for item in items), metadata.get("uid", ""))
    views = await with_causes(api, metadata["namespace"], live_pods(pods))
    return Observed(service, children, views)


def controlled(items: Iterable[Manifest], uid: str) -> dict[ChildKey, Manifest]:
    """The objects that one service controls: a label alone does not make an object ours to change or delete."""
    return {
        (resource_of(item).kind, item["metadata"]["name"]): item
        for item in items
        if any(
            owner.get("controller") and owner.get("uid") == uid
            for owner in item["metadata"].get("ownerReferences") or []
        )
    }


def parse_spec(service: Manifest) -> LLMServiceSpec:
    """The spec of an LLMService.

    Raises:
        InvalidSpecError: the models refuse what the API server let pass (an object of an older schema).
    """
    try:
        return LLMServiceSpec.model_validate(service.get("spec") or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("spec", *first["loc"]))
        text = f"{where}: {str(first['msg']).removeprefix('Value error, ')}"
        raise InvalidSpecError(Reason.INVALID_SPEC, text) from None

"""What the children of a service are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plimsoll_api import names
from plimsoll_api.v1alpha1 import EngineConfigStatus, LLMServiceSpec


@dataclass(frozen=True)
class ServiceInputs:
    """What the children of a service are made from.

    Attributes:
        namespace: of the service and its children.
        name: of the service.
        uid: of the service, for the owner reference.
        spec: what a person asked for.
        config: the engine configuration in force.
        default_image: engine image of services that name none.
        scrape_interval: of the PodMonitor, as a Prometheus duration.
        monitors: whether the API server knows PodMonitors.
    """

    namespace: str
    name: str
    uid: str
    spec: LLMServiceSpec
    config: EngineConfigStatus
    default_image: str
    scrape_interval: str = "15s"
    monitors: bool = True

    @property
    def image(self) -> str:
        """Image of the engine."""
        return engine_image(self.spec, self.default_image)

    @property
    def engine_name(self) -> str:
        """Name of the Deployment and of what guards it."""
        return f"{self.name}-engine"

    @property
    def claim_name(self) -> str:
        """Name of the volume claim that keeps the weights."""
        return f"{self.name}-weights"

    @property
    def selector(self) -> dict[str, str]:
        """Labels that select the service's pods."""
        return {names.SERVICE_LABEL: self.name}

    @property
    def labels(self) -> dict[str, str]:
        """Labels of every child and pod."""
        return {
            names.LABEL_NAME: names.APP_NAME,
            names.LABEL_INSTANCE: self.name,
            names.LABEL_COMPONENT: names.COMPONENT_ENGINE,
            names.LABEL_PART_OF: names.APP_NAME,
            names.LABEL_MANAGED_BY: names.MANAGED_BY,
            names.SERVICE_LABEL: self.name,
        }

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.config.tensor_parallel_size * self.config.pipeline_parallel_size

    def metadata(self, name: str) -> dict[str, Any]:
        """Metadata of a child: identity, labels, and the reference by which garbage collection removes it."""
        owner = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
        return {"name": name, "namespace": self.namespace, "labels": self.labels, "ownerReferences": [owner]}


def engine_image(spec: LLMServiceSpec, default: str) -> str:
    """The image that a service's engine runs, which `spec.podTemplate` has the last word on."""
    containers = (spec.pod_template.get("spec") or {}).get("containers")
    named = [item for item in containers if isinstance(item, dict)] if isinstance(containers, list) else []
    templated = next((item.get("image") for item in named if item.get("name") == names.ENGINE_CONTAINER), None)
    return str(templated or spec.engine.image or default)

"""Every name that two components must agree on: group, labels, field managers, conditions, reasons.

Nothing here computes anything; a name that appears in two components is defined here and nowhere else.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

GROUP: Final = "plimsoll.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "LLMService"
PLURAL: Final = "llmservices"
SINGULAR: Final = "llmservice"
SHORT_NAMES: Final = ("llm",)

# Labels on every child. `SERVICE_LABEL` is the one selectors and Prometheus use.
SERVICE_LABEL: Final = f"{GROUP}/service"
LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_INSTANCE: Final = "app.kubernetes.io/instance"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_PART_OF: Final = "app.kubernetes.io/part-of"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
APP_NAME: Final = "plimsoll"
COMPONENT_ENGINE: Final = "engine"
MANAGED_BY: Final = "plimsoll-operator"

# Annotations.
CONFIG_HASH_ANNOTATION: Final = f"{GROUP}/config-hash"
REVISION_ANNOTATION: Final = f"{GROUP}/revision"
"""Of a pod: which template it was made from."""
POD_DELETION_COST_ANNOTATION: Final = "controller.kubernetes.io/pod-deletion-cost"

# What GPU feature discovery puts on nodes, and the resource the device plugin advertises.
GPU_PRODUCT_LABEL: Final = "nvidia.com/gpu.product"
GPU_MEMORY_LABEL: Final = "nvidia.com/gpu.memory"
GPU_COUNT_LABEL: Final = "nvidia.com/gpu.count"
GPU_RESOURCE: Final = "nvidia.com/gpu"

# The labels a scraped series carries besides the engine's own.
SERIES_NAMESPACE: Final = "namespace"
SERIES_SERVICE: Final = "llmservice"
SERIES_POD: Final = "pod"

MAX_NAME_LENGTH: Final = 63 - len("-weights")
"""Characters in an LLMService's name: its longest child's name must still be a DNS label (RFC 1035: 63)."""

ENGINE_CONTAINER: Final = "engine"
ENGINE_PORT_NAME: Final = "http"
ENGINE_PORT: Final = 8000


class FieldManager(StrEnum):
    """Server-side-apply field managers: who owns which fields."""

    OPERATOR = "plimsoll-operator"
    """Children and the operator's part of the status."""
    OPERATOR_REPLICAS = "plimsoll-operator-replicas"
    """`spec.replicas` of the workload, and nothing else."""
    OPERATOR_SEED = "plimsoll-operator-seed"
    """The first `spec.replicas` of a new LLMService, applied on the object itself, never a later one."""
    DETECTOR = "plimsoll-detector"
    """`/scale` of the LLMService."""
    DETECTOR_STATUS = "plimsoll-detector-status"
    """The detector's part of the status."""
    LOAD = "plimsoll-load"
    """The last load-test record."""


class ConditionType(StrEnum):
    """Status conditions of an LLMService. All but `Progressing` and `Degraded` are positive when all is well."""

    ACCEPTED = "Accepted"
    CONFIG_RECOMMENDED = "ConfigRecommended"
    AVAILABLE = "Available"
    PROGRESSING = "Progressing"
    METRICS_AVAILABLE = "MetricsAvailable"
    SCALING_ACTIVE = "ScalingActive"
    OBJECTIVES_MET = "ObjectivesMet"
    DEGRADED = "Degraded"


OPERATOR_CONDITIONS: Final = (
    ConditionType.ACCEPTED,
    ConditionType.CONFIG_RECOMMENDED,
    ConditionType.AVAILABLE,
    ConditionType.PROGRESSING,
)
DETECTOR_CONDITIONS: Final = (
    ConditionType.METRICS_AVAILABLE,
    ConditionType.SCALING_ACTIVE,
    ConditionType.OBJECTIVES_MET,
    ConditionType.DEGRADED,
)

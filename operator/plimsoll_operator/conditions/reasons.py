"""Every reason that a condition of the operator may have."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """CamelCase words that people and alerts match on; each is given by one check."""

    # Accepted=False: a person must change the spec, or something the spec refers to.
    INVALID_SPEC = "InvalidSpec"
    INVALID_POD_TEMPLATE = "InvalidPodTemplate"
    UNKNOWN_MODEL = "UnknownModel"
    MODEL_CONFIG_MISSING = "ModelConfigMissing"
    UNKNOWN_ACCELERATOR = "UnknownAccelerator"
    NO_ACCELERATOR = "NoAccelerator"
    NOT_SUPPORTED = "NotSupported"
    INFEASIBLE = "Infeasible"

    ACCEPTED = "Accepted"
    NOT_ACCEPTED = "NotAccepted"

    # ConfigRecommended
    RECOMMENDED = "Recommended"
    KEPT = "Kept"

    # Available
    SERVING = "Serving"
    SCALED_TO_ZERO = "ScaledToZero"
    NO_REPLICA_READY = "NoReplicaReady"
    NOT_CREATED = "NotCreated"

    # Progressing
    PAUSED = "Paused"
    NAME_TAKEN = "NameTaken"
    REFUSED = "ChildRefused"
    PODS_REFUSED = "PodsRefused"
    UNSCHEDULABLE = "Unschedulable"
    OUT_OF_GPU_MEMORY = "OutOfGpuMemory"
    OUT_OF_MEMORY = "OutOfMemory"
    IMAGE_PULL = "ImagePullFailed"
    START_FAILED = "StartFailed"
    ROLLING_OUT = "RollingOut"
    STARTING = "Starting"
    DRAINING = "Draining"
    COMPLETE = "Complete"

"""Where a model's weights are, as the engine and its pod see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from plimsoll_api.v1alpha1 import Model

MODELS_ROOT: Final = "/models"
CACHE_MOUNT: Final = "/models/cache"
"""Where the volume claim of `spec.model.cache` is mounted."""


@dataclass(frozen=True)
class ModelSource:
    """A model in a pod.

    Attributes:
        argument: what follows `vllm serve`.
        arguments: further engine arguments that the source needs.
        volume: the volume that holds the weights; None when the engine fetches them.
        mount: where the volume goes.
        offline: the weights are there, so the hub must not be asked.
    """

    argument: str
    arguments: tuple[str, ...] = ()
    volume: dict[str, Any] | None = None
    mount: str = ""
    offline: bool = True


def model_source(model: Model) -> ModelSource:
    """How the engine reads the model of a spec, by the scheme of its URI."""
    scheme, _, rest = model.uri.partition("://")
    if scheme == "hf":
        revision = (f"--revision={model.revision}",) if model.revision else ()
        return ModelSource(argument=rest, arguments=revision, offline=False)
    if scheme == "file":
        return ModelSource(
            argument=rest, volume={"name": "model", "hostPath": {"path": rest, "type": "Directory"}}, mount=rest
        )
    if scheme == "pvc":
        claim, _, path = rest.partition("/")
        mount = f"{MODELS_ROOT}/{claim}"
        volume = {"name": "model", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        return ModelSource(argument=f"{mount}/{path}", volume=volume, mount=mount)
    if scheme == "oci":
        mount = f"{MODELS_ROOT}/image"
        volume = {"name": "model", "image": {"reference": rest, "pullPolicy": "IfNotPresent"}}
        return ModelSource(argument=mount, volume=volume, mount=mount)
    # s3: vLLM streams the weights from the bucket itself.
    return ModelSource(argument=model.uri, arguments=("--load-format=runai_streamer",))

"""The serving pod: one vLLM that starts slowly, drains before it stops, and may write only where it must."""

from __future__ import annotations

import math
from typing import Any, Final

from plimsoll_api import names
from plimsoll_api.v1alpha1 import parse_duration
from plimsoll_operator.manifests.inputs import ServiceInputs
from plimsoll_operator.manifests.model_source import CACHE_MOUNT, ModelSource, model_source

PRE_STOP_S: Final = 10
"""Between leaving the endpoints and SIGTERM: vLLM 0.32 answers requests that arrive while it drains with HTTP 500 and
stays ready, so every proxy must have forgotten the pod by then. KServe and llm-d wait 15 s; endpoints are left within
a few seconds."""

TEARDOWN_S: Final = 15
"""After the last stream: workers take up to 5 s (15 s on ROCm) to end (vLLM's VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS)."""

STARTUP_PROBE_S: Final = 5
"""Between looks at a starting engine; the number of looks follows from `spec.rollout.startupTimeout`."""

HOME: Final = "/home/vllm"
USER_ID: Final = 2000
"""The user `vllm` of vLLM's images, prepared for running without root in group 0."""

SHARED_MEMORY: Final = "4Gi"
"""Of /dev/shm: the message ring of vLLM needs 160 MiB and NCCL more; with Kubernetes' 64 MiB, TP 2 does not start."""

CPUS_BESIDE_GPUS: Final = 2
"""CPUs that the API server and the engine core keep busy, besides one spinning worker for each GPU."""

_CACHE: Final = f"{HOME}/.cache"
_WRITABLE: Final = {
    "VLLM_CACHE_ROOT": f"{_CACHE}/vllm",
    "VLLM_CONFIG_ROOT": f"{HOME}/.config/vllm",
    "XDG_CACHE_HOME": _CACHE,
    "TRITON_CACHE_DIR": f"{_CACHE}/triton",
    "TORCHINDUCTOR_CACHE_DIR": f"{_CACHE}/torchinductor",
    "FLASHINFER_WORKSPACE_BASE": f"{_CACHE}/flashinfer",
    "NUMBA_CACHE_DIR": f"{_CACHE}/numba",
}
"""Where vLLM and its libraries write, all below the one writable home."""

_KEPT: Final = {
    "HF_HOME": f"{CACHE_MOUNT}/huggingface",
    "VLLM_CACHE_ROOT": f"{CACHE_MOUNT}/vllm",
    "TRITON_CACHE_DIR": f"{CACHE_MOUNT}/triton",
    "TORCHINDUCTOR_CACHE_DIR": f"{CACHE_MOUNT}/torchinductor",
}
"""What the next replica can find again: downloaded weights, and what the engine compiled."""


def pod_template(inputs: ServiceInputs) -> dict[str, Any]:
    """The pod template of a service, before `spec.podTemplate` is merged in."""
    source = model_source(inputs.spec.model)
    drain = math.ceil(parse_duration(inputs.spec.rollout.drain_timeout))
    return {
        "metadata": {"labels": inputs.labels},
        "spec": {
            "automountServiceAccountToken": False,
            # A Service named `vllm` would otherwise set VLLM_PORT to an address, and vLLM refuses to start.
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": PRE_STOP_S + drain + TEARDOWN_S,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER_ID,
                "runAsGroup": 0,
                "fsGroup": USER_ID,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "affinity": _affinity(inputs.config.accelerator),
            "tolerations": [{"key": names.GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule"}],
            "containers": [_container(inputs, source)],
            "volumes": _volumes(inputs, source),
        },
    }


def engine_arguments(inputs: ServiceInputs, source: ModelSource) -> list[str]:
    """Arguments of `vllm serve`: the model, what is recommended or pinned, and what a person adds."""
    spec, config = inputs.spec, inputs.config
    drain = math.ceil(parse_duration(spec.rollout.drain_timeout))
    return [
        source.argument,
        *source.arguments,
        f"--served-model-name={spec.model.served_name or inputs.name}",
        f"--port={names.ENGINE_PORT}",
        f"--tensor-parallel-size={config.tensor_parallel_size}",
        f"--pipeline-parallel-size={config.pipeline_parallel_size}",
        f"--max-num-seqs={config.max_num_seqs}",
        f"--max-num-batched-tokens={config.max_num_batched_tokens}",
        f"--gpu-memory-utilization={config.gpu_memory_utilization}",
        f"--max-model-len={config.max_model_len}",
        f"--kv-cache-dtype={config.kv_cache_dtype}",
        # Without it vLLM drops its streams at SIGTERM and their clients hang.
        f"--shutdown-timeout={drain}",
        *spec.engine.extra_args,
    ]


def _container(inputs: ServiceInputs, source: ModelSource) -> dict[str, Any]:
    return {
        "name": names.ENGINE_CONTAINER,
        "image": inputs.image,
        "command": ["vllm", "serve"],
        "args": engine_arguments(inputs, source),
        "env": _environment(inputs, source),
        "ports": [{"name": names.ENGINE_PORT_NAME, "containerPort": names.ENGINE_PORT, "protocol": "TCP"}],
        "resources": {
            "limits": {names.GPU_RESOURCE: str(inputs.gpus)},
            "requests": {"cpu": str(CPUS_BESIDE_GPUS + inputs.gpus), names.GPU_RESOURCE: str(inputs.gpus)},
        },
        **_probes(inputs),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_S}}},
        # The end of the log says why a start failed; the status quotes it.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": _mounts(inputs, source),
    }


def _probes(inputs: ServiceInputs) -> dict[str, Any]:
    """`/health` answers on the event loop that serves requests: short timeouts would kill a busy engine."""
    health = {"httpGet": {"path": "/health", "port": names.ENGINE_PORT_NAME}}
    looks = math.ceil(parse_duration(inputs.spec.rollout.startup_timeout) / STARTUP_PROBE_S)
    return {
        "startupProbe": {**health, "periodSeconds": STARTUP_PROBE_S, "timeoutSeconds": 5, "failureThreshold": looks},
        "readinessProbe": {**health, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3},
        # 150 s: compiling after readiness stalls an engine for up to 70 s, and a dead one ends by itself.
        "livenessProbe": {**health, "periodSeconds": 15, "timeoutSeconds": 15, "failureThreshold": 10},
    }


def _environment(inputs: ServiceInputs, source: ModelSource) -> list[dict[str, Any]]:
    startup = math.ceil(parse_duration(inputs.spec.rollout.startup_timeout))
    plain = {
        "HOME": HOME,
        **_WRITABLE,
        "HF_HOME": f"{_CACHE}/huggingface",
        **(_KEPT if inputs.spec.model.cache else {}),
        # Its default of 600 s would end a load that the startup probe still waits for.
        "VLLM_ENGINE_READY_TIMEOUT_S": str(startup),
        "VLLM_NO_USAGE_STATS": "1",
    }
    if source.offline:
        plain["HF_HUB_OFFLINE"] = "1"
    environment: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in plain.items()]
    if inputs.spec.model.credentials_secret:
        reference = {"name": inputs.spec.model.credentials_secret, "key": "token"}
        environment.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": reference}})
    return environment


def _volumes(inputs: ServiceInputs, source: ModelSource) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [
        {"name": "home", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": SHARED_MEMORY}},
    ]
    if source.volume:
        volumes.append(source.volume)
    if inputs.spec.model.cache:
        volumes.append({"name": "weights", "persistentVolumeClaim": {"claimName": inputs.claim_name}})
    return volumes


def _mounts(inputs: ServiceInputs, source: ModelSource) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {"name": "home", "mountPath": HOME},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (the container's own)
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
    ]
    if source.volume:
        mounts.append({"name": "model", "mountPath": source.mount, "readOnly": True})
    if inputs.spec.model.cache:
        mounts.append({"name": "weights", "mountPath": CACHE_MOUNT})
    return mounts


def _affinity(product: str) -> dict[str, Any]:
    """Only nodes with the accelerator that the configuration is for."""
    term = {"matchExpressions": [{"key": names.GPU_PRODUCT_LABEL, "operator": "In", "values": [product]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}

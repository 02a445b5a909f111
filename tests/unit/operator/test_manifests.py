"""What the children of a service are, down to the flags."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll_api import names
from plimsoll_api.v1alpha1 import Model
from plimsoll_operator.manifests import children_of
from plimsoll_operator.manifests.deployment import deployment
from plimsoll_operator.manifests.model_source import model_source


def pod_spec(inputs: Any, spec: dict[str, Any] | None = None, **config: Any) -> dict[str, Any]:
    found: dict[str, Any] = deployment(inputs(spec, **config))["spec"]["template"]["spec"]
    return found


def engine(inputs: Any, spec: dict[str, Any] | None = None, **config: Any) -> dict[str, Any]:
    found: dict[str, Any] = pod_spec(inputs, spec, **config)["containers"][0]
    return found


def test_the_engines_command(inputs: Any) -> None:
    container = engine(inputs, tensor_parallel_size=2)
    assert container["command"] == ["vllm", "serve"]
    assert container["args"] == [
        "meta-llama/Llama-3.1-8B-Instruct",
        "--served-model-name=chat",
        "--port=8000",
        "--tensor-parallel-size=2",
        "--pipeline-parallel-size=1",
        "--max-num-seqs=256",
        "--max-num-batched-tokens=8192",
        "--gpu-memory-utilization=0.92",
        "--max-model-len=16384",
        "--kv-cache-dtype=auto",
        "--shutdown-timeout=120",
    ]


@pytest.mark.parametrize(
    ("uri", "argument", "mount"),
    [
        ("hf://org/name", "org/name", ""),
        ("file:///models/llama", "/models/llama", "/models/llama"),
        ("pvc://claim/a/b", "/models/claim/a/b", "/models/claim"),
        ("oci://registry.example/llama:1", "/models/image", "/models/image"),
        ("s3://bucket/llama", "s3://bucket/llama", ""),
    ],
)
def test_where_models_are(uri: str, argument: str, mount: str) -> None:
    source = model_source(Model(uri=uri))
    assert (source.argument, source.mount) == (argument, mount)
    assert source.offline is not uri.startswith("hf://")


def test_a_revision_is_passed_on() -> None:
    assert model_source(Model(uri="hf://org/name", revision="v1")).arguments == ("--revision=v1",)


def test_s3_is_streamed(inputs: Any) -> None:
    assert "--load-format=runai_streamer" in engine(inputs, {"model": {"uri": "s3://bucket/llama"}})["args"]


def test_a_claim_is_mounted_read_only(inputs: Any) -> None:
    spec = pod_spec(inputs, {"model": {"uri": "pvc://claim/a"}})
    assert {"name": "model", "persistentVolumeClaim": {"claimName": "claim", "readOnly": True}} in spec["volumes"]
    mounts = {mount["mountPath"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts["/models/claim"]["readOnly"]


def test_an_image_volume(inputs: Any) -> None:
    volumes = pod_spec(inputs, {"model": {"uri": "oci://registry.example/llama:1"}})["volumes"]
    image = {"reference": "registry.example/llama:1", "pullPolicy": "IfNotPresent"}
    assert {"name": "model", "image": image} in volumes


def test_the_cache_claim_holds_the_hubs_files_and_what_was_compiled(inputs: Any) -> None:
    spec = {"model": {"uri": "hf://org/name", "cache": {"size": "100Gi", "storageClassName": "fast"}}}
    claim = next(c for c in children_of(inputs(spec)) if c["kind"] == "PersistentVolumeClaim")
    assert claim["metadata"]["name"] == "chat-weights"
    assert claim["spec"]["resources"]["requests"]["storage"] == "100Gi"
    assert claim["spec"]["storageClassName"] == "fast"
    env = {item["name"]: item.get("value") for item in engine(inputs, spec)["env"]}
    assert env["HF_HOME"] == "/models/cache/huggingface"
    assert env["VLLM_CACHE_ROOT"] == "/models/cache/vllm"


def test_credentials_only_by_reference(inputs: Any) -> None:
    env = engine(inputs, {"model": {"uri": "hf://org/name", "credentialsSecret": "hf"}})["env"]
    token = next(item for item in env if item["name"] == "HF_TOKEN")
    assert token["valueFrom"] == {"secretKeyRef": {"name": "hf", "key": "token"}}


def test_time_to_stop_covers_endpoints_drain_and_teardown(inputs: Any) -> None:
    spec = pod_spec(inputs, {"rollout": {"drainTimeout": "1m30s"}})
    sleep = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] == sleep + 90 + 15
    assert "--shutdown-timeout=90" in spec["containers"][0]["args"]


def test_the_start_has_the_time_it_was_given(inputs: Any) -> None:
    child = deployment(inputs({"rollout": {"startupTimeout": "1h"}}))
    probe = child["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 3600
    assert child["spec"]["progressDeadlineSeconds"] > 3600


@pytest.mark.parametrize(("strategy", "surge", "unavailable"), [("SurgeThenDrain", 1, 0), ("DrainThenReplace", 0, 1)])
def test_rollout(inputs: Any, strategy: str, surge: int, unavailable: int) -> None:
    rolling = deployment(inputs({"rollout": {"strategy": strategy}}))["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": surge, "maxUnavailable": unavailable}


def test_the_pod_may_write_only_into_its_volumes(inputs: Any) -> None:
    container = engine(inputs)
    assert container["securityContext"]["readOnlyRootFilesystem"]
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    paths = [item["value"] for item in container["env"] if item["name"].endswith(("_ROOT", "HOME", "_DIR", "_BASE"))]
    assert paths
    assert all(any(path.startswith(mount) for mount in mounts) for path in paths)


def test_replicas_belong_to_somebody_else(inputs: Any) -> None:
    assert "replicas" not in deployment(inputs())["spec"]


def test_a_pod_template_cannot_take_the_selectors_labels(inputs: Any) -> None:
    labels = {"mine": "1", names.SERVICE_LABEL: "other"}
    template = deployment(inputs({"podTemplate": {"metadata": {"labels": labels}}}))["spec"]["template"]
    assert template["metadata"]["labels"]["mine"] == "1"
    assert template["metadata"]["labels"][names.SERVICE_LABEL] == "chat"


def test_series_carry_namespace_pod_and_service(inputs: Any) -> None:
    monitor = next(child for child in children_of(inputs()) if child["kind"] == "PodMonitor")
    relabelings = monitor["spec"]["podMetricsEndpoints"][0]["relabelings"]
    assert {entry["targetLabel"]: entry["sourceLabels"] for entry in relabelings} == {
        "namespace": ["__meta_kubernetes_namespace"],
        "pod": ["__meta_kubernetes_pod_name"],
        "llmservice": ["__meta_kubernetes_pod_label_plimsoll_dev_service"],
    }


def test_names_and_owners(inputs: Any) -> None:
    children = children_of(inputs({"model": {"uri": "hf://org/name", "cache": {"size": "1Gi"}}}))
    assert {(child["kind"], child["metadata"]["name"]) for child in children} == {
        ("Deployment", "chat-engine"),
        ("Service", "chat"),
        ("PodDisruptionBudget", "chat-engine"),
        ("NetworkPolicy", "chat-engine"),
        ("PersistentVolumeClaim", "chat-weights"),
        ("PodMonitor", "chat-engine"),
    }
    for child in children:
        metadata = child["metadata"]
        assert metadata["labels"][names.SERVICE_LABEL] == "chat"
        assert metadata["ownerReferences"][0]["uid"] == "uid-1"
        assert metadata["annotations"][names.CONFIG_HASH_ANNOTATION]


@settings(max_examples=50)
@given(
    sequences=st.integers(1, 4096),
    tensor=st.sampled_from([1, 2, 4, 8]),
    drain=st.integers(0, 3600),
    extra=st.lists(st.sampled_from(["--seed=1", "--enable-lora", "--dtype=half"]), unique=True, max_size=3),
)
def test_same_input_same_manifest_and_hash(
    inputs: Any, sequences: int, tensor: int, drain: int, extra: list[str]
) -> None:
    spec = {"rollout": {"drainTimeout": f"{drain}s"}, "engine": {"extraArgs": extra}}
    one = children_of(inputs(spec, max_num_seqs=sequences, tensor_parallel_size=tensor))
    two = children_of(inputs(spec, max_num_seqs=sequences, tensor_parallel_size=tensor))
    assert json.dumps(one) == json.dumps(two)
    container = one[0]["spec"]["template"]["spec"]["containers"][0]
    assert container["args"][-len(extra) :] == extra or not extra
    assert container["resources"]["limits"][names.GPU_RESOURCE] == str(tensor)
    other = children_of(inputs(spec, max_num_seqs=sequences + 1, tensor_parallel_size=tensor))
    hashes = [child["metadata"]["annotations"][names.CONFIG_HASH_ANNOTATION] for child in (one[0], other[0])]
    assert hashes[0] != hashes[1]

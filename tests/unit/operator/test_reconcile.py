"""One service from its first event on, against a cluster in memory."""

from __future__ import annotations

from typing import Any

import pytest

from plimsoll_api import names
from plimsoll_kube.errors import ApiUnavailable, Forbidden
from plimsoll_kube.resources import (
    CONFIG_MAP,
    DEPLOYMENT,
    LLM_SERVICE,
    NODE,
    PERSISTENT_VOLUME_CLAIM,
    POD_MONITOR,
    SERVICE,
)
from plimsoll_operator.errors import InvalidSpecError
from plimsoll_operator.reconciler import first_replicas

CHILDREN = {
    "Deployment/ml/chat-engine",
    "NetworkPolicy/ml/chat-engine",
    "PodDisruptionBudget/ml/chat-engine",
    "PodMonitor/ml/chat-engine",
    "Service/ml/chat",
}


def children(harness: Any) -> set[str]:
    return {key for key in harness.kube.snapshot() if not key.startswith(("LLMService", "Node", "Pod/", "ConfigMap"))}


async def test_a_new_service_gets_its_children(harness: Any, service: Any) -> None:
    created = harness.kube.put(service())
    await harness.settle()
    assert children(harness) == CHILDREN
    deployment = harness.kube.see(DEPLOYMENT, "ml", "chat-engine")
    owner = deployment["metadata"]["ownerReferences"][0]
    assert (owner["uid"], owner["controller"]) == (created["metadata"]["uid"], True)
    assert deployment["spec"]["replicas"] == 2
    status = harness.kube.see(LLM_SERVICE, "ml", "chat")["status"]
    assert status["url"] == "http://chat.ml.svc:8000"
    assert status["selector"] == "plimsoll.dev/service=chat"
    assert harness.condition("Accepted")[:2] == ("True", "Accepted")
    assert harness.condition("ConfigRecommended")[:2] == ("True", "Recommended")


async def test_the_children_of_a_new_service_come_first(harness: Any, service: Any) -> None:
    harness.kube.put(service())
    outcome = await harness.reconciler.reconcile(("ml", "chat"))
    assert outcome.result == "created"
    assert outcome.requeue_after == 0.0
    assert {kind for _, kind, _, _ in harness.kube.writes} == {key.split("/")[0] for key in CHILDREN}


async def test_an_unchanged_service_costs_no_write(harness: Any, service: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    written = len(harness.kube.writes)
    for _ in range(3):
        await harness.reconciler.reconcile(("ml", "chat"))
    assert len(harness.kube.writes) == written


async def test_a_restart_costs_no_write_and_no_sizing(harness: Any, service: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    written, asked = len(harness.kube.writes), len(harness.asked)
    harness.restarted()
    await harness.reconciler.reconcile(("ml", "chat"))
    assert (len(harness.kube.writes), len(harness.asked)) == (written, asked)


async def test_the_first_replicas_are_seeded_once(harness: Any, service: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    assert harness.kube.see(LLM_SERVICE, "ml", "chat")["spec"]["replicas"] == 2
    harness.kube.put(LLM_SERVICE.manifest("ml", "chat", spec={"replicas": 5}), "plimsoll-detector")
    await harness.settle()
    seeds = [write for write in harness.kube.writes if write[3] == names.FieldManager.OPERATOR_SEED]
    assert len(seeds) == 1
    assert harness.kube.see(DEPLOYMENT, "ml", "chat-engine")["spec"]["replicas"] == 5


async def test_scaling_writes_the_replicas_and_nothing_else_of_the_children(harness: Any, service: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    written = len(harness.kube.writes)
    harness.kube.put(LLM_SERVICE.manifest("ml", "chat", spec={"replicas": 4}), "kubectl")
    await harness.settle()
    new = [write for write in harness.kube.writes[written:] if write[1] != "Event"]
    assert new == [
        ("apply", "Deployment", "chat-engine", names.FieldManager.OPERATOR_REPLICAS),
        ("apply", "LLMService", "chat", names.FieldManager.OPERATOR),
    ]


async def test_a_later_apply_does_not_reset_the_replicas(harness: Any, service: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    harness.kube.put(LLM_SERVICE.manifest("ml", "chat", spec={"replicas": 6}), "kubectl")
    await harness.settle()
    seen = []
    harness.kube.after = lambda *_: seen.append(harness.kube.see(DEPLOYMENT, "ml", "chat-engine")["spec"]["replicas"])
    harness.kube.put(service(rollout={"drainTimeout": "30s"}))
    await harness.settle()
    assert "--shutdown-timeout=30" in _arguments(harness)
    assert set(seen) == {6}


async def test_removed_replicas_do_not_scale_what_runs(harness: Any, service: Any) -> None:
    harness.kube.put(service(replicas=5))
    await harness.settle()
    harness.kube.put(service())
    await harness.settle()
    assert harness.kube.see(LLM_SERVICE, "ml", "chat")["spec"]["replicas"] == 5
    assert harness.kube.see(DEPLOYMENT, "ml", "chat-engine")["spec"]["replicas"] == 5


@pytest.mark.parametrize(("bounds", "replicas"), [((1, 8), 2), ((3, 8), 3), ((1, 1), 1)])
def test_first_replicas_are_what_the_workload_needs_within_the_bounds(
    inputs: Any, recommended: Any, bounds: tuple[int, int], replicas: int
) -> None:
    spec = inputs({"scaling": {"minReplicas": bounds[0], "maxReplicas": bounds[1]}}).spec
    assert first_replicas(spec, recommended(), None) == replicas


async def test_a_persons_edit_of_a_child_is_repaired(harness: Any, service: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    edited = harness.kube.see(SERVICE, "ml", "chat")
    edited["spec"]["selector"][names.SERVICE_LABEL] = "other"
    harness.kube.put(edited, "kubectl-edit")
    await harness.settle()
    assert harness.kube.see(SERVICE, "ml", "chat")["spec"]["selector"] == {names.SERVICE_LABEL: "chat"}


async def test_a_deleted_child_comes_back(harness: Any, service: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    harness.kube.remove(SERVICE, "ml", "chat")
    await harness.settle()
    assert children(harness) == CHILDREN


async def test_a_child_that_is_no_longer_wanted_goes(harness: Any, service: Any) -> None:
    harness.kube.put(service(model={"uri": "hf://meta-llama/Llama-3.1-8B-Instruct", "cache": {"size": "100Gi"}}))
    await harness.settle()
    assert harness.kube.see(PERSISTENT_VOLUME_CLAIM, "ml", "chat-weights")
    harness.kube.put(service())
    await harness.settle()
    assert children(harness) == CHILDREN


async def test_an_object_with_our_label_that_is_not_ours_stays(harness: Any, service: Any) -> None:
    theirs = PERSISTENT_VOLUME_CLAIM.manifest("ml", "theirs", metadata={"labels": {names.SERVICE_LABEL: "chat"}})
    harness.kube.put(theirs)
    harness.kube.put(service())
    await harness.settle()
    assert "PersistentVolumeClaim/ml/theirs" in children(harness)


async def test_somebody_elses_service_of_that_name_is_not_taken(harness: Any, service: Any) -> None:
    harness.kube.put(SERVICE.manifest("ml", "chat", spec={"selector": {"app": "shop"}, "type": "NodePort"}), "helm")
    harness.kube.put(service())
    outcome = await harness.settle()
    assert outcome.result == "blocked"
    assert harness.condition("Progressing")[:2] == ("False", "NameTaken")
    assert harness.kube.see(SERVICE, "ml", "chat")["spec"]["selector"] == {"app": "shop"}


async def test_a_child_that_a_quota_forbids_holds_back_no_other(harness: Any, service: Any) -> None:
    message = 'persistentvolumeclaims "chat-weights" is forbidden: exceeded quota: team'

    def quota(number: int, verb: str, kind: str, name: str) -> None:
        if verb == "apply" and kind == PERSISTENT_VOLUME_CLAIM.kind:
            raise Forbidden(403, "Forbidden", message)

    harness.kube.before = quota
    model = service()["spec"]["model"]
    harness.kube.put(service(model={**model, "cache": {"size": "200Gi"}}))
    outcome = await harness.settle()
    assert outcome.result == "blocked"
    assert children(harness) == CHILDREN
    status, reason, text = harness.condition("Progressing")
    assert (status, reason) == ("False", "ChildRefused")
    assert message in text


async def test_no_pod_monitor_where_its_api_is_absent(harness: Any, service: Any) -> None:
    harness.kube.unserved.add(POD_MONITOR)
    harness.kube.put(service())
    await harness.settle()
    assert children(harness) == CHILDREN - {"PodMonitor/ml/chat-engine"}


async def test_a_paused_service_is_left_alone(harness: Any, service: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    harness.kube.put(service(paused=True, rollout={"drainTimeout": "30s"}))
    await harness.settle()
    assert "--shutdown-timeout=120" in _arguments(harness)
    assert harness.condition("Progressing")[:2] == ("False", "Paused")


async def test_a_new_service_that_is_paused_gets_nothing(harness: Any, service: Any) -> None:
    harness.kube.put(service(paused=True))
    await harness.settle()
    assert children(harness) == set()


async def test_a_service_that_is_gone_or_going_is_not_touched(harness: Any, service: Any) -> None:
    assert (await harness.reconciler.reconcile(("ml", "none"))).result == "gone"
    going = service()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    harness.kube.put(going)
    assert (await harness.reconciler.reconcile(("ml", "chat"))).result == "gone"
    assert harness.kube.writes == []


async def test_a_refused_spec_creates_nothing(harness: Any, service: Any) -> None:
    harness.answer = _refuse("model needs 141 GiB, 2 x 80 GiB given")
    harness.kube.put(service())
    outcome = await harness.settle()
    assert outcome.result == "refused"
    assert children(harness) == set()
    assert harness.condition("Accepted") == ("False", "Infeasible", "model needs 141 GiB, 2 x 80 GiB given")
    assert harness.condition("Available")[:2] == ("False", "NotCreated")


async def test_what_ran_before_a_refused_change_goes_on(harness: Any, service: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    before = {key: value for key, value in harness.kube.snapshot().items() if not key.startswith("LLMService")}
    harness.answer = _refuse("does not fit")
    harness.kube.put(service(engine={"tensorParallelSize": 2}))
    await harness.settle()
    after = {key: value for key, value in harness.kube.snapshot().items() if not key.startswith("LLMService")}
    assert after == before
    assert harness.condition("Accepted")[:2] == ("False", "Infeasible")
    assert harness.condition("ConfigRecommended")[:2] == ("True", "Kept")


async def test_scaling_goes_on_after_a_refused_change(harness: Any, service: Any) -> None:
    """What runs keeps its configuration, not its replicas: else all that scaling did meanwhile came at once."""
    harness.kube.put(service())
    await harness.settle()
    revision = harness.kube.see(LLM_SERVICE, "ml", "chat")["status"]["revision"]
    harness.answer = _refuse("does not fit")
    harness.kube.put(service(engine={"tensorParallelSize": 2}))
    await harness.settle()
    harness.kube.put(LLM_SERVICE.manifest("ml", "chat", spec={"replicas": 5}), "plimsoll-detector")
    await harness.settle()
    assert harness.kube.see(DEPLOYMENT, "ml", "chat-engine")["spec"]["replicas"] == 5
    assert harness.kube.see(LLM_SERVICE, "ml", "chat")["status"]["revision"] == revision
    harness.kube.put(service(engine={"tensorParallelSize": 2}, paused=True))
    harness.kube.put(LLM_SERVICE.manifest("ml", "chat", spec={"replicas": 3}), "plimsoll-detector")
    await harness.settle()
    assert harness.kube.see(DEPLOYMENT, "ml", "chat-engine")["spec"]["replicas"] == 5


async def test_scaling_that_a_policy_forbids_is_told(harness: Any, service: Any) -> None:
    harness.kube.put(service())
    await harness.settle()

    def policy(number: int, verb: str, kind: str, name: str) -> None:
        if verb == "apply" and kind == DEPLOYMENT.kind:
            raise Forbidden(403, "Forbidden", "admission webhook denied the request: frozen until Monday")

    harness.kube.before = policy
    harness.kube.put(LLM_SERVICE.manifest("ml", "chat", spec={"replicas": 5}), "plimsoll-detector")
    await harness.settle()
    status, reason, text = harness.condition("Progressing")
    assert (status, reason) == ("False", "ChildRefused")
    assert "frozen until Monday" in text


async def test_the_status_names_the_revision_that_its_recommendation_is_of(harness: Any, service: Any) -> None:
    """The same that pods say they were made from, so that the load line is held against those it is of."""
    harness.kube.put(service())
    await harness.settle()
    seen = []
    for sequences in (None, 64):
        if sequences:
            harness.kube.put(service(engine={"maxNumSeqs": sequences}))
            await harness.settle()
        template = harness.kube.see(DEPLOYMENT, "ml", "chat-engine")["spec"]["template"]
        status = harness.kube.see(LLM_SERVICE, "ml", "chat")["status"]
        assert status["revision"] == template["metadata"]["annotations"][names.REVISION_ANNOTATION]
        seen.append(status["revision"])
    assert seen[0] != seen[1]


async def test_the_detectors_part_of_the_status_is_its_own(harness: Any, service: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    degraded = {"type": "Degraded", "status": "False", "reason": "Normal", "message": "", "lastTransitionTime": "t"}
    theirs = LLM_SERVICE.manifest("ml", "chat", status={"diagnosis": {"kind": "Normal"}, "conditions": [degraded]})
    harness.kube.put_status(theirs, names.FieldManager.DETECTOR_STATUS)
    harness.kube.put(service(rollout={"drainTimeout": "30s"}))
    await harness.settle()
    status = harness.kube.see(LLM_SERVICE, "ml", "chat")["status"]
    assert status["diagnosis"] == {"kind": "Normal"}
    assert len(status["conditions"]) == 5


async def test_an_api_server_that_fails_leaves_everything_as_it_is(harness: Any, service: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    before = harness.kube.snapshot()

    def storm(number: int, verb: str, kind: str, name: str) -> None:
        if number % 3 == 0:
            raise ApiUnavailable(429, "TooManyRequests", "slow down")

    harness.kube.before = storm
    for _ in range(10):
        with pytest.raises(ApiUnavailable):
            await harness.reconciler.reconcile(("ml", "chat"))
    assert harness.kube.snapshot() == before


async def test_a_node_that_comes_does_not_replace_what_runs(harness: Any, service: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    harness.kube.put(NODE.manifest(None, "cheap", metadata={"labels": {names.GPU_PRODUCT_LABEL: "NVIDIA-L4"}}))
    harness.kube.put_status(NODE.manifest(None, "cheap", status={"capacity": {names.GPU_RESOURCE: "8"}}))
    harness.restarted()
    written = len(harness.kube.writes)
    await harness.reconciler.reconcile(("ml", "chat"))
    assert len(harness.kube.writes) == written


async def test_without_any_gpu_the_service_waits(harness: Any, service: Any) -> None:
    harness.kube.remove(NODE, "", "gpu-1")
    harness.kube.put(service())
    outcome = await harness.settle()
    assert outcome.requeue_after == 30.0
    assert harness.condition("Accepted")[:2] == ("False", "NoAccelerator")


async def test_parallelism_over_several_nodes_is_refused_with_numbers(harness: Any, service: Any) -> None:
    harness.kube.put(service(engine={"tensorParallelSize": 8, "pipelineParallelSize": 2}))
    await harness.settle()
    status, reason, message = harness.condition("Accepted")
    assert (status, reason) == ("False", "NotSupported")
    assert "needs 16 GPUs in one node" in message
    assert "has 8 of" in message


async def test_an_unknown_model_says_what_to_set(harness: Any, service: Any) -> None:
    harness.kube.put(service(model={"uri": "pvc://models/mine"}))
    await harness.settle()
    status, reason, message = harness.condition("Accepted")
    assert (status, reason) == ("False", "UnknownModel")
    assert "model.baseModel" in message


async def test_a_missing_config_map_is_waited_for(harness: Any, service: Any) -> None:
    harness.kube.put(service(model={"uri": "pvc://models/mine", "configMap": "mine"}))
    outcome = await harness.settle()
    assert harness.condition("Accepted")[:2] == ("False", "ModelConfigMissing")
    assert outcome.requeue_after == 15.0
    config = (
        '{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":4096,"intermediate_size":14336,'
        '"num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":8,"vocab_size":128256,'
        '"max_position_embeddings":8192,"torch_dtype":"bfloat16","tie_word_embeddings":false}'
    )
    harness.kube.put(CONFIG_MAP.manifest("ml", "mine", data={"config.json": config}))
    await harness.settle()
    assert harness.condition("Accepted")[:2] == ("True", "Accepted")


async def test_equal_services_are_sized_once(harness: Any, service: Any) -> None:
    for name in ("a", "b", "c"):
        harness.kube.put(service(name))
        await harness.settle(name)
    assert len(harness.asked) == 1


def _refuse(text: str) -> Any:
    def answer(_: Any) -> Any:
        raise InvalidSpecError("Infeasible", text)

    return answer


def _arguments(harness: Any) -> list[str]:
    template = harness.kube.see(DEPLOYMENT, "ml", "chat-engine")["spec"]["template"]
    arguments: list[str] = template["spec"]["containers"][0]["args"]
    return arguments

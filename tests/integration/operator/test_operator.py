"""One service on a real API server: created, kept, scaled, repaired, refused, handed over."""

from __future__ import annotations

import urllib.error
from typing import Any

import pytest

from plimsoll_api import names

pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("operator"), pytest.mark.timeout(300)]

CHILDREN = {
    "Deployment/chat-engine",
    "NetworkPolicy/chat-engine",
    "PodDisruptionBudget/chat-engine",
    "PodMonitor/chat-engine",
    "Service/chat",
}


@pytest.fixture
def chat(eventually: Any, operator: Any, services: Any) -> Any:
    """A service that the operator has dealt with."""
    services.apply()
    eventually(lambda: services.children() == CHILDREN)
    services.run("wait", "--for=condition=ConfigRecommended", "llm/chat", "--timeout=45s")
    eventually(services.settled)
    return services


def quiet(eventually: Any, operator: Any, services: Any, rounds: int = 3) -> list[str]:
    """Writes during some further reconciles of everything."""
    eventually(services.settled)
    further(eventually, operator, 1)  # the reconcile that wrote the status goes on to its events
    eventually(services.at_rest)  # the echoes of what came before
    before = len(services.writes())
    further(eventually, operator, rounds)
    found: list[str] = services.writes()[before:]
    return found


def further(eventually: Any, operator: Any, rounds: int) -> None:
    """Wait until so many reconciles have ended; what was under way is one of them."""
    done = operator.reconciles()
    eventually(lambda: operator.reconciles() >= done + rounds)


def test_children_are_owned_and_the_status_says_so(chat: Any) -> None:
    service = chat.get("llm", "chat")
    deployment = chat.get("deployment", "chat-engine")
    owner = deployment["metadata"]["ownerReferences"][0]
    assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (service["metadata"]["uid"], True, True)
    assert chat.condition("Accepted") == ("True", "Accepted")
    assert service["status"]["recommendation"]["config"]["accelerator"] == "NVIDIA-H100-80GB-HBM3"
    assert service["spec"]["replicas"] == deployment["spec"]["replicas"] == 1
    assert "Recommended" in chat.run("get", "events")


def test_who_owns_what(eventually: Any, chat: Any) -> None:
    def owners(item: dict[str, Any], *path: str) -> set[str]:
        found = set()
        for entry in item["metadata"]["managedFields"]:
            node = entry["fieldsV1"]
            for part in path:
                node = node.get(f"f:{part}", {}) if node is not None else {}
            if node != {} or path[-1] in _keys(entry["fieldsV1"], path[:-1]):
                found.add(entry["manager"])
        return found

    chat.run("scale", "llm/chat", "--replicas=2")
    eventually(lambda: chat.get("deployment", "chat-engine")["spec"]["replicas"] == 2)
    deployment = chat.get("deployment", "chat-engine")
    assert owners(deployment, "spec", "replicas") == {names.FieldManager.OPERATOR_REPLICAS}
    assert owners(deployment, "spec", "template") == {names.FieldManager.OPERATOR}
    managers = {
        entry["manager"]: entry.get("subresource", "") for entry in chat.get("llm", "chat")["metadata"]["managedFields"]
    }
    assert managers[names.FieldManager.OPERATOR] == "status"


def _keys(fields: dict[str, Any], path: tuple[str, ...]) -> set[str]:
    for part in path:
        fields = fields.get(f"f:{part}", {})
    return {key.removeprefix("f:") for key in fields}


def test_a_second_reconcile_writes_nothing(eventually: Any, operator: Any, chat: Any) -> None:
    assert quiet(eventually, operator, chat) == []


def test_scale_moves_the_replicas_and_nothing_else(eventually: Any, operator: Any, chat: Any) -> None:
    quiet(eventually, operator, chat)
    before = len(chat.writes())
    chat.run("scale", "llm/chat", "--replicas=4")
    eventually(lambda: chat.get("deployment", "chat-engine")["spec"]["replicas"] == 4)
    eventually(chat.settled)
    eventually(chat.at_rest)  # a status can be read before the audit log has who wrote it
    written = [entry for entry in chat.writes()[before:] if "events" not in entry]
    assert written == ["patch deployments/ chat-engine", "patch llmservices/status chat"]


def test_drift_is_repaired(eventually: Any, chat: Any) -> None:
    chat.run("scale", "deployment/chat-engine", "--replicas=7")
    chat.run("delete", "poddisruptionbudget", "chat-engine")
    chat.run("patch", "service", "chat", "--type=merge", "-p", '{"spec":{"selector":{"plimsoll.dev/service":"other"}}}')
    eventually(lambda: chat.get("deployment", "chat-engine")["spec"]["replicas"] == 1)
    eventually(lambda: chat.children() == CHILDREN)
    eventually(lambda: chat.get("service", "chat")["spec"]["selector"] == {names.SERVICE_LABEL: "chat"})


def test_every_spec_settles(eventually: Any, operator: Any, services: Any) -> None:
    """What the API server defaults or writes shorter is not taken for drift."""
    services.apply(
        model={"uri": "hf://Qwen/Qwen3-8B", "cache": {"size": "102400Mi"}, "credentialsSecret": "hf"},
        engine={"extraArgs": ["--seed=1"], "image": "example/vllm:v0.32.0"},
        rollout={"strategy": "DrainThenReplace", "drainTimeout": "0s"},
        podTemplate={
            "metadata": {"annotations": {"a": "b"}},
            "spec": {
                "containers": [
                    {"name": "engine", "resources": {"requests": {"cpu": "4000m", "memory": "65536Mi"}}},
                    {"name": "proxy", "image": "proxy:1", "ports": [{"containerPort": 9000}]},
                ],
                "topologySpreadConstraints": [
                    {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
                ],
            },
        },
    )
    eventually(lambda: services.children() == {*CHILDREN, "PersistentVolumeClaim/chat-weights"})
    assert quiet(eventually, operator, services) == []


def test_a_child_that_is_no_longer_wanted_goes(eventually: Any, chat: Any) -> None:
    chat.apply(model={"uri": "hf://meta-llama/Llama-3.1-8B-Instruct", "cache": {"size": "10Gi"}})
    eventually(lambda: "PersistentVolumeClaim/chat-weights" in chat.children())
    chat.apply()
    claim = "persistentvolumeclaim/chat-weights"

    def going() -> bool:
        # Its protection finalizer is a controller's to remove, and none runs here.
        shown = chat.run("get", claim, "--ignore-not-found", "-o", "jsonpath={.metadata.deletionTimestamp}")
        return bool(shown) or "PersistentVolumeClaim/chat-weights" not in chat.children()

    eventually(going)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"podTemplate": {"spec": {"containers": [{"name": "Engine!"}]}}}, "InvalidPodTemplate"),
        ({"engine": {"tensorParallelSize": 8, "pipelineParallelSize": 2}}, "NotSupported"),
        ({"engine": {"tensorParallelSize": 3}}, "Infeasible"),
        ({"accelerators": [{"product": "NVIDIA-X9000"}]}, "UnknownAccelerator"),
        ({"model": {"uri": "pvc://claim/unknown"}}, "UnknownModel"),
    ],
)
def test_what_ran_before_a_refused_change_goes_on(
    eventually: Any, chat: Any, change: dict[str, Any], reason: str
) -> None:
    before = chat.get("deployment", "chat-engine")["metadata"]["generation"]
    chat.apply(**change)
    eventually(lambda: chat.condition("Accepted") == ("False", reason))
    assert chat.children() == CHILDREN
    assert chat.get("deployment", "chat-engine")["metadata"]["generation"] == before
    chat.apply()
    eventually(lambda: chat.condition("Accepted") == ("True", "Accepted"))


def test_a_refused_service_gets_nothing(operator: Any, services: Any) -> None:
    services.apply(accelerators=[{"product": "NVIDIA-X9000"}])
    services.run("wait", "--for=condition=Accepted=False", "llm/chat", "--timeout=45s")
    assert services.children() == set()


def test_somebody_elses_service_is_left_alone(eventually: Any, operator: Any, services: Any) -> None:
    services.run("create", "service", "clusterip", "chat", "--tcp=80:80")
    services.apply()
    eventually(lambda: "Deployment/chat-engine" in services.children())
    eventually(lambda: services.condition("Progressing") == ("False", "NameTaken"))
    assert services.get("service", "chat")["spec"]["selector"] == {"app": "chat"}
    assert "PodDisruptionBudget/chat-engine" in services.children()


def test_a_paused_service_is_left_alone(eventually: Any, operator: Any, chat: Any) -> None:
    chat.apply(paused=True)
    eventually(lambda: chat.condition("Progressing") == ("False", "Paused"))
    chat.run("delete", "service", "chat")
    further(eventually, operator, 3)  # at least two of them began without it
    assert "Service/chat" not in chat.children()


def test_it_says_that_it_lives(eventually: Any, operator: Any) -> None:
    # With a resync of a second here, one that is a second late on a busy machine counts as overdue until the next.
    eventually(lambda: operator.fetch("health", "/healthz") == "ok")
    assert operator.fetch("health", "/readyz") == "ok"
    metrics = operator.fetch("metrics", "/metrics")
    assert "plimsoll_leader 1.0" in metrics
    assert 'plimsoll_api_requests_total{code="200",verb="get"}' in metrics
    with pytest.raises(urllib.error.HTTPError):
        operator.fetch("health", "/nothing")


def test_no_request_was_forbidden(operator: Any, chat: Any) -> None:
    """The rights that are installed are those that are used."""
    assert 'code="403"' not in operator.fetch("metrics", "/metrics")

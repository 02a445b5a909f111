"""A release's whole life on a real API server: what a person made survives all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from plimsoll_api import names

Cluster = Any
CRD = f"crd/{names.PLURAL}.{names.GROUP}"
NAMESPACE = "plimsoll-system"
SERVICE = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {"name": "chat", "namespace": "default"},
    "spec": {"model": {"uri": "hf://meta-llama/Llama-3.1-8B-Instruct"}},
}
PREVIOUS_VALUES = Path(__file__).with_name("values-0.2.0.yaml")

# A test runs helm up to seven times.
pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("bare-cluster"), pytest.mark.timeout(300)]


@pytest.fixture
def cluster(bare_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, and nothing of ours in it before and after."""
    yield bare_cluster
    kubectl = bare_cluster.plane.kubectl
    bare_cluster.helm.attempt("uninstall", "plimsoll", f"--namespace={NAMESPACE}")
    kubectl("delete", CRD, "--ignore-not-found", timeout=120)
    kubectl("wait", CRD, "--for=delete", "--timeout=90s", timeout=120)


def make_service(cluster: Cluster) -> str:
    """A service with a child and a pod, as an operator and a controller would have made them; the service's uid."""
    kubectl = cluster.plane.kubectl
    kubectl.await_definitions(yaml.safe_dump({"metadata": {"name": CRD.partition("/")[2]}}))
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(SERVICE))
    uid = str(kubectl.json("get", "llm", "chat", "-n", "default")["metadata"]["uid"])
    kubectl.attempt("create", "serviceaccount", "default", "-n", "default")
    owner = {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": "chat", "uid": uid, "controller": True}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "chat-engine-1", "namespace": "default", "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "engine", "image": "vllm/vllm-openai:v0.32.0"}]},
    }
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(pod))
    return uid


def survives(cluster: Cluster, uid: str) -> bool:
    """Whether the very same service is there and its pod is not leaving."""
    kubectl = cluster.plane.kubectl
    service = kubectl.json("get", "llm", "chat", "-n", "default")
    pod = kubectl.json("get", "pod", "chat-engine-1", "-n", "default")
    return service["metadata"]["uid"] == uid and "deletionTimestamp" not in pod["metadata"]


def knows_rollout(cluster: Cluster) -> bool:
    """Whether the definition has the field that the older one lacks."""
    told = cluster.plane.kubectl.attempt("get", CRD, "-o", "yaml").stdout
    spec = yaml.safe_load(told)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return "rollout" in spec["properties"]


def objects(cluster: Cluster) -> set[str]:
    """The release's namespaced objects that only the newer chart has."""
    listed = cluster.plane.kubectl("get", "pdb", "-n", NAMESPACE, "-o", "name").split()
    return set(listed)


def test_upgrade_rollback_and_uninstall_leave_services_alone(cluster: Cluster, older_chart: Path) -> None:
    """From an older version to this one, back, forth again, and away."""
    cluster.release(chart=older_chart)
    assert not knows_rollout(cluster)
    uid = make_service(cluster)

    upgraded = cluster.release()
    assert upgraded["info"]["status"] == "deployed"
    assert knows_rollout(cluster), "the definition is upgraded with the chart"
    assert objects(cluster) == {f"poddisruptionbudget.policy/plimsoll-{c}" for c in ("operator", "detector")}
    assert survives(cluster, uid)

    cluster.helm("rollback", "plimsoll", "1", f"--namespace={NAMESPACE}")
    assert not knows_rollout(cluster)
    assert objects(cluster) == set()
    assert survives(cluster, uid)

    cluster.release()
    cluster.uninstall()
    assert cluster.plane.kubectl("get", "deployments,serviceaccounts,leases", "-n", NAMESPACE, "-o", "name") == ""
    assert knows_rollout(cluster), "the definition is kept"
    assert survives(cluster, uid)

    cluster.release()  # what was kept is no obstacle
    assert survives(cluster, uid)


def test_without_the_keep_policy_services_would_go(cluster: Cluster) -> None:
    """Control: the API server deletes every object of a definition that is deleted."""
    cluster.release(values={"crds": {"keep": False}})
    make_service(cluster)
    cluster.uninstall()
    kubectl = cluster.plane.kubectl
    kubectl("wait", CRD, "--for=delete", "--timeout=90s", timeout=120)
    assert kubectl.attempt("get", "llm", "chat", "-n", "default").returncode != 0


def test_the_values_of_the_last_version_are_still_taken(cluster: Cluster) -> None:
    """A value that is renamed needs a release that knows both names."""
    values = yaml.safe_load(PREVIOUS_VALUES.read_text(encoding="utf-8"))
    assert cluster.release(values=values)["info"]["status"] == "deployed"


def test_a_bad_value_changes_nothing(cluster: Cluster) -> None:
    """The release that is there goes on."""
    cluster.release()
    done = cluster.helm.attempt(
        "upgrade", "plimsoll", str(cluster.chart), f"--namespace={NAMESPACE}", values={"operator": {"replica": 3}}
    )
    assert done.returncode != 0
    assert "replica" in done.stderr
    deployment = cluster.plane.kubectl.json("get", "deployment", "plimsoll-operator", "-n", NAMESPACE)
    assert deployment["spec"]["replicas"] == 2
    assert deployment["metadata"]["generation"] == 1


def test_a_definition_of_somebody_else_is_not_taken_in_silence(cluster: Cluster) -> None:
    """Helm says so; `--take-ownership` takes it, and its services stay."""
    from plimsoll_cli.sandbox import definitions

    cluster.plane.kubectl.install_definitions(definitions.llm_service())
    uid = make_service(cluster)
    done = cluster.helm.attempt(
        "install", "plimsoll", str(cluster.chart), f"--namespace={NAMESPACE}", "--create-namespace"
    )
    assert done.returncode != 0
    assert CRD.partition("/")[2] in done.stderr
    # Helm 4 applies on the server's side, where the definition's fields have an owner; Helm 3 does not ask.
    force = ["--force-conflicts"] if 'Version:"v4' in cluster.helm("version") else []
    cluster.release("--take-ownership", *force)
    assert survives(cluster, uid)


def test_two_namespaced_releases_live_side_by_side(cluster: Cluster) -> None:
    """With one definition, and no object of the same name."""
    kubectl = cluster.plane.kubectl
    for namespace in ("team-a", "team-b"):
        kubectl.attempt("create", "namespace", namespace)
        values = {"watchNamespaces": [namespace], "crds": {"install": namespace == "team-a"}}
        arguments = ("upgrade", "--install", "plimsoll", str(cluster.chart), f"--namespace={namespace}")
        cluster.helm(*arguments, values=values)
    roles = kubectl("get", "clusterroles", "-o", "name")
    assert "team-a-plimsoll-operator" in roles
    assert "team-b-plimsoll-operator" in roles
    for namespace in ("team-a", "team-b"):
        cluster.helm("uninstall", "plimsoll", f"--namespace={namespace}")


def test_the_notes_tell_the_next_command(cluster: Cluster) -> None:
    """And the command works as it is printed."""
    cluster.release()
    notes = cluster.helm("get", "notes", "plimsoll", f"--namespace={NAMESPACE}")
    manifest = notes.split("<<'YAML'\n")[1].split("YAML")[0]
    cluster.plane.kubectl.await_definitions(yaml.safe_dump({"metadata": {"name": CRD.partition("/")[2]}}))
    told = cluster.plane.kubectl("apply", "-f", "-", "-n", "default", stdin=manifest)
    assert "llmservice.plimsoll.dev/chat created" in told

"""The roles that the chart grants, against what operator and detector really ask for in a whole sandbox.

Sufficient: not one request is forbidden. Minimal: every verb is used, and without it its use is denied.
"""

from __future__ import annotations

import asyncio
import copy
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from plimsoll_api import names
from plimsoll_cli.chart import sandbox_release
from plimsoll_cli.chart.location import NAMESPACE, RELEASE
from plimsoll_cli.sandbox.kubectl import Kubectl
from plimsoll_cli.sandbox.sandbox import Sandbox
from plimsoll_detector.kube import FleetApi
from plimsoll_detector.service import Rules
from plimsoll_kube.client import KubeClient
from plimsoll_kube.events import EventRecorder
from plimsoll_kube.kubelet_client import KubeletClient
from plimsoll_kube.resources import LLM_SERVICE, POD, Resource
from plimsoll_operator.actuate import Actuator
from plimsoll_operator.pods import live_pods

pytestmark = [
    pytest.mark.api_server,
    pytest.mark.slow,
    pytest.mark.timeout(480),
    pytest.mark.xdist_group("chart-sandbox"),
]

Manifest = dict[str, Any]
Need = tuple[str, str, str, str]
"""Component, API group, resource (with subresource) and verb."""

COMPONENTS = ("operator", "detector")
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{RELEASE}-"
CLUSTER_ROLE = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)
ROLE = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")
REVIEW = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False)
FINALIZERS: Need = ("operator", "plimsoll.dev", "llmservices/finalizers", "update")
"""Never a request of its own: admission asks whether the writer of an owner reference would be allowed."""
CHILDREN = (
    "deployment/chat-engine",
    "service/chat",
    "poddisruptionbudget/chat-engine",
    "networkpolicy/chat-engine",
    "persistentvolumeclaim/chat-weights",
    "podmonitor/chat-engine",
)
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
}


def service() -> Manifest:
    """A service that needs everything a service can need."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "chat", "namespace": "default"},
        "spec": {
            "model": {
                "uri": "hf://meta-llama/Llama-3.1-8B-Instruct",
                "servedName": "chat",
                "configMap": "acme",
                "cache": {"size": "1Gi"},
            },
            "scaling": {"minReplicas": 1, "maxReplicas": 3},
        },
    }


def leftovers(uid: str) -> list[Manifest]:
    """A child of each kind that the service no longer should have, as an older operator may have left it."""
    owner = {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": "chat", "uid": uid, "controller": True}
    selector = {"matchLabels": {"app": "old"}}
    template = {"metadata": {"labels": {"app": "old"}}, "spec": {"containers": [{"name": "a", "image": "localhost/a"}]}}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    specs: list[tuple[str, str, Manifest]] = [
        ("apps/v1", "Deployment", {"replicas": 0, "selector": selector, "template": template}),
        ("v1", "Service", {"selector": {"app": "old"}, "ports": [{"port": 80}]}),
        ("policy/v1", "PodDisruptionBudget", {"minAvailable": 1, "selector": selector}),
        ("networking.k8s.io/v1", "NetworkPolicy", {"podSelector": selector}),
        ("v1", "PersistentVolumeClaim", claim),
        ("monitoring.coreos.com/v1", "PodMonitor", {"selector": selector, "podMetricsEndpoints": [{"port": "http"}]}),
    ]
    labels = {names.SERVICE_LABEL: "chat"}
    metadata = {"name": "chat-old", "namespace": "default", "labels": labels, "ownerReferences": [owner]}
    return [{"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec} for version, kind, spec in specs]


def until(happened: Callable[[], bool], what: str, seconds: float = 90.0) -> None:
    """Wait for something that operator or detector does."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.2)


@dataclass(frozen=True)
class Story:
    """A sandbox in which everything happened that needs a right, and what was asked of its API server."""

    sandbox: Sandbox
    used: frozenset[Need]
    forbidden: tuple[str, ...]


@pytest.fixture(scope="module")
def story(installed: Sandbox) -> Story:
    """A service is sized, served, repaired, pruned and scaled."""
    kubectl, began = installed.kubectl, installed.audit_log.stat().st_size
    kubectl("create", "configmap", "acme", f"--from-literal=config.json={json.dumps(CONFIG)}")
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(service()))
    try:
        # The release may have been installed a moment ago: first the operator starts, then the engine.
        kubectl("wait", "--for=condition=Available", "llm/chat", "--timeout=120s", timeout=150.0)
        kubectl("label", *CHILDREN, "app.kubernetes.io/part-of=other", "--overwrite")
        until(lambda: "other" not in kubectl("get", *CHILDREN, "--show-labels"), "children are repaired")
        uid = str(kubectl.json("get", "llm", "chat")["metadata"]["uid"])
        kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(leftovers(uid)))
        old = [f"{child.partition('/')[0]}/chat-old" for child in CHILDREN]
        until(lambda: not kubectl("get", *old, "--ignore-not-found", "-o", "name"), "leftovers are pruned")
        kubectl("patch", "llm", "chat", "--type=merge", "-p", '{"spec":{"scaling":{"minReplicas":2}}}')
        until(lambda: kubectl.json("get", "llm", "chat")["spec"]["replicas"] == 2, "the detector scales")
        kubectl("wait", "--for=jsonpath={.status.readyReplicas}=2", "--timeout=120s", "llm/chat", timeout=150.0)
        asyncio.run(what_is_rare(installed))
        until(lambda: settled(kubectl), "the replica that was replaced is gone, and its successor serves")
    except BaseException:
        for component in COMPONENTS:
            print(kubectl.attempt("logs", f"deployment/{RELEASE}-{component}", "-n", NAMESPACE, "--tail=20").stdout)
        raise
    return Story(installed, *audited(installed, began))


def settled(kubectl: Kubectl) -> bool:
    """Whether two replicas serve and none leaves."""
    pods = live_pods(kubectl.json("get", "pods", "-l", f"{names.SERVICE_LABEL}=chat")["items"])
    return [(pod.ready, pod.terminating) for pod in pods] == [(True, False)] * 2


async def what_is_rare(sandbox: Sandbox) -> None:
    """The product's own code under its own accounts, where the occasion would take minutes: an event that was told by
    a process that has ended, a start whose cause is in its log, a replica that is stalled, and a service that changed
    while its replicas were decided."""
    for component in COMPONENTS:
        account = sandbox.plane.kubeconfig_for(NAMESPACE, f"{RELEASE}-{component}")
        async with await KubeClient.connect(account, user_agent="test") as api:
            chat = await api.get(LLM_SERVICE, "default", "chat")
            assert chat is not None
            for _ in range(2):
                assert await EventRecorder(api, component).post(chat, "Normal", "Tested", "twice")
            if component == "operator":
                pods = live_pods((await api.list(POD, "default", label_selector=f"{names.SERVICE_LABEL}=chat")).items)
                log = await api.log(
                    "default", pods[0].name, names.ENGINE_CONTAINER, previous=False, tail_lines=1, limit_bytes=1000
                )
                assert log
                assert await Actuator(api).replace("default", pods[0])
            if component == "detector":
                fleet = FleetApi(api, Rules(60.0, 15.0))
                [known] = (await fleet.snapshot()).services
                known.manifest["metadata"]["resourceVersion"] = "1"
                await fleet.scale(known, 2)


def audited(sandbox: Sandbox, began: int) -> tuple[frozenset[Need], tuple[str, ...]]:
    """What the two accounts were allowed since the sandbox began, and what they were refused since the story did.

    An earlier release's pods lost their rights with it: `helm uninstall` does not wait for them to give up the Lease.
    """
    used: set[Need] = set()
    forbidden: list[str] = []
    place = 0
    *whole, _unfinished = sandbox.audit_log.read_bytes().split(b"\n")
    for line in whole:
        entry, place = json.loads(line), place + len(line) + 1
        user = entry["user"]["username"]
        if not user.startswith(ACCOUNT) or "objectRef" not in entry or "resource" not in entry["objectRef"]:
            continue
        component, about = user.removeprefix(ACCOUNT), entry["objectRef"]
        resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
        code = entry.get("responseStatus", {}).get("code", 0)
        verbs = [entry["verb"], *(["create"] if entry["verb"] == "patch" and code == 201 else [])]
        if code in (401, 403) and place > began:
            forbidden.append(f"{component}: {entry['verb']} {entry['requestURI']}: {code}")
        elif code not in (401, 403):
            used |= {(component, about.get("apiGroup", ""), resource, verb) for verb in verbs}
    return frozenset(used), tuple(forbidden)


@dataclass(frozen=True)
class Grant:
    """One verb on one resource, in one role."""

    component: str
    role: Resource
    name: str
    group: str
    resource: str
    verb: str
    object_name: str

    @property
    def need(self) -> Need:
        """What it allows."""
        return (self.component, self.group, self.resource, self.verb)

    @property
    def namespace(self) -> str | None:
        """Where its role is."""
        return NAMESPACE if self.role.namespaced else None


def grants(sandbox: Sandbox) -> list[Grant]:
    """Every verb that the release grants to its two accounts."""
    found = []
    for component in COMPONENTS:
        for resource, suffix in ((CLUSTER_ROLE, ""), (ROLE, "-leader")):
            name = f"{RELEASE}-{component}{suffix}"
            for rule in sandbox.kubectl.json("get", resource.plural, name, "-n", NAMESPACE)["rules"]:
                found += [
                    Grant(component, resource, name, group, plural, verb, ",".join(rule.get("resourceNames", [])))
                    for group in rule["apiGroups"]
                    for plural in rule["resources"]
                    for verb in rule["verbs"]
                ]
    return found


def test_nothing_is_forbidden(story: Story) -> None:
    """In a whole life of a service; and the accounts did ask for something."""
    assert story.forbidden == ()
    assert {need[0] for need in story.used} == set(COMPONENTS)


def test_every_verb_is_used(story: Story) -> None:
    """What no request needs is not granted."""
    granted = {grant.need for grant in grants(story.sandbox)}
    assert granted - story.used - {FINALIZERS} == set()


def test_every_use_is_granted_by_the_chart(story: Story) -> None:
    """Nothing works by a right that only the sandbox would give."""
    assert story.used - {grant.need for grant in grants(story.sandbox)} == set()


@asynccontextmanager
async def administrator(sandbox: Sandbox) -> AsyncIterator[KubeletClient]:
    """A client that may change roles."""
    async with await KubeletClient.connect(sandbox.kubeconfig, user_agent="test") as client:
        yield client


async def allowed(client: KubeletClient, grant: Grant) -> bool:
    """Whether the API server would let the account do what a grant is for."""
    resource, _, subresource = grant.resource.partition("/")
    asked = {
        "group": grant.group,
        "resource": resource,
        "subresource": subresource,
        "verb": grant.verb,
        "name": grant.object_name,
        "namespace": NAMESPACE,
    }
    spec = {"user": ACCOUNT + grant.component, "resourceAttributes": asked}
    answer = await client.create_of(REVIEW, REVIEW.manifest(None, "", metadata={"name": None}, spec=spec))
    return bool(answer["status"]["allowed"])


async def becomes(client: KubeletClient, grant: Grant, wanted: bool) -> bool:
    """Wait until the API server's view of the roles is that of the last change."""
    ends = time.monotonic() + 30.0
    while await allowed(client, grant) is not wanted:
        if time.monotonic() > ends:
            return False
        await asyncio.sleep(0.005)
    return True


def without(rules: list[Manifest], grant: Grant) -> list[Manifest]:
    """A role's rules with one verb on one resource taken out."""
    kept: list[Manifest] = []
    for rule in copy.deepcopy(rules):
        named = ",".join(rule.get("resourceNames", [])) == grant.object_name
        if not (named and grant.group in rule["apiGroups"] and grant.resource in rule["resources"]):
            kept.append(rule)
            continue
        others = [resource for resource in rule["resources"] if resource != grant.resource]
        verbs = [verb for verb in rule["verbs"] if verb != grant.verb]
        kept += [{**rule, "resources": others}] if others else []
        kept += [{**rule, "resources": [grant.resource], "verbs": verbs}] if verbs else []
    return kept


def test_without_any_verb_something_is_denied(story: Story) -> None:
    """Each is taken away in turn; what was done with it before is then denied, and allowed again with it."""

    async def take_each_away() -> list[Grant]:
        superfluous = []
        async with administrator(story.sandbox) as client:
            for grant in grants(story.sandbox):
                role = await client.get(grant.role, grant.namespace, grant.name)
                assert role is not None
                less = {"rules": without(role["rules"], grant)}
                await client.patch(grant.role, grant.namespace, grant.name, less)
                if not await becomes(client, grant, False):
                    superfluous.append(grant)
                await client.patch(grant.role, grant.namespace, grant.name, {"rules": role["rules"]})
                assert await becomes(client, grant, True)
        return superfluous

    assert asyncio.run(take_each_away()) == []


def test_an_owner_reference_needs_the_right_to_finalizers(story: Story) -> None:
    """With the rule the operator may write a child as it does; without it admission refuses."""
    kubectl = story.sandbox.kubectl
    uid = str(kubectl.json("get", "llm", "chat")["metadata"]["uid"])
    child = leftovers(uid)[1]
    child["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] = True
    text = yaml.safe_dump(child)
    attempt = ("create", "--dry-run=server", f"--as={ACCOUNT}operator", "-f", "-")
    assert kubectl.attempt(*attempt, stdin=text).returncode == 0
    role = kubectl.json("get", "clusterrole", f"{RELEASE}-operator")
    [grant] = [grant for grant in grants(story.sandbox) if grant.need == FINALIZERS]
    kubectl(
        "patch", "clusterrole", f"{RELEASE}-operator", "--type=merge",
        "-p", json.dumps({"rules": without(role["rules"], grant)}),
    )  # fmt: skip
    try:
        until(lambda: "cannot set blockOwnerDeletion" in kubectl.attempt(*attempt, stdin=text).stderr, "refused")
    finally:
        kubectl(
            "patch", "clusterrole", f"{RELEASE}-operator", "--type=merge", "-p", json.dumps({"rules": role["rules"]})
        )


def test_serving_goes_on_through_upgrade_rollback_and_uninstall(story: Story) -> None:
    """The same pods answer all the way, and an operator that comes back touches nothing."""
    sandbox, kubectl = story.sandbox, story.sandbox.kubectl

    def pods() -> set[tuple[str, int]]:
        found = kubectl.json("get", "pods", "-n", "default", "-l", f"{names.SERVICE_LABEL}=chat")["items"]
        return {(pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]) for pod in found}

    before = pods()
    steps: list[Callable[[], object]] = [
        lambda: sandbox.helm(
            "upgrade", RELEASE, str(sandbox_release.chart_directory()), f"--namespace={NAMESPACE}", "--reuse-values",
            "--set=operator.resync=9m",
        ),
        lambda: sandbox_release.await_ready(kubectl, "operator"),
        lambda: sandbox.helm("rollback", RELEASE, f"--namespace={NAMESPACE}"),
        lambda: sandbox_release.await_ready(kubectl, "operator"),
        lambda: sandbox.helm("uninstall", RELEASE, f"--namespace={NAMESPACE}"),
        lambda: kubectl("wait", "pod", "--all", "--for=delete", "-n", NAMESPACE, "--timeout=120s", timeout=150.0),
        lambda: sandbox_release.install(sandbox.helm, sandbox.options, sandbox.prometheus_url),
        lambda: sandbox_release.await_ready(kubectl, "operator"),
    ]  # fmt: skip
    for step in steps:
        step()
        assert answers(sandbox)
        assert pods() == before


def answers(sandbox: Sandbox) -> bool:
    """Whether a request to the service is answered."""
    spec = sandbox.kubectl.json("get", "service", "chat", "-n", "default")["spec"]
    body = json.dumps({"model": "chat", "prompt": "hello", "max_tokens": 2}).encode()
    url = f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}/v1/completions"
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bool(answer.status == 200)

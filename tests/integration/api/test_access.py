"""What the roles let operator and detector do, as the API server's authoriser answers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from plimsoll_api import names

pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("control_plane")]

MANIFESTS = Path(__file__).resolve().parents[3] / "cli" / "plimsoll_cli" / "manifests"
KNOWN_SECONDS = 30.0
"""The authoriser follows the roles within milliseconds; a busy machine may take its time."""

# verb, group, resource (with subresource), namespace; the first part of the name of an account.
MAY = [
    ("operator", "watch", "plimsoll.dev", "llmservices", "ml"),
    ("operator", "patch", "plimsoll.dev", "llmservices", "ml"),
    ("operator", "patch", "plimsoll.dev", "llmservices/status", "ml"),
    ("operator", "create", "apps", "deployments", "ml"),
    ("operator", "patch", "apps", "deployments", "ml"),
    ("operator", "delete", "", "services", "ml"),
    ("operator", "create", "policy", "poddisruptionbudgets", "ml"),
    ("operator", "create", "networking.k8s.io", "networkpolicies", "ml"),
    ("operator", "create", "monitoring.coreos.com", "podmonitors", "ml"),
    ("operator", "create", "", "persistentvolumeclaims", "ml"),
    ("operator", "list", "", "nodes", ""),
    ("operator", "list", "", "pods", "ml"),
    ("operator", "get", "", "configmaps", "ml"),
    ("operator", "create", "", "events", "ml"),
    ("operator", "create", "coordination.k8s.io", "leases", "plimsoll-system"),
    ("detector", "list", "plimsoll.dev", "llmservices", "ml"),
    ("detector", "patch", "plimsoll.dev", "llmservices/status", "ml"),
    ("detector", "patch", "plimsoll.dev", "llmservices/scale", "ml"),
    ("detector", "list", "", "pods", "ml"),
    ("detector", "create", "", "events", "ml"),
    ("detector", "create", "coordination.k8s.io", "leases", "plimsoll-system"),
]
MAY_NOT = [
    ("operator", "create", "plimsoll.dev", "llmservices", "ml"),
    ("operator", "delete", "plimsoll.dev", "llmservices", "ml"),
    ("operator", "update", "plimsoll.dev", "llmservices", "ml"),
    ("operator", "get", "", "secrets", "ml"),
    ("operator", "list", "", "configmaps", "ml"),
    ("operator", "create", "", "pods", "ml"),
    ("operator", "create", "", "pods/exec", "ml"),
    ("operator", "create", "apps", "statefulsets", "ml"),
    ("operator", "patch", "", "nodes", ""),
    ("operator", "create", "coordination.k8s.io", "leases", "kube-system"),
    ("operator", "create", "rbac.authorization.k8s.io", "clusterroles", ""),
    ("detector", "patch", "plimsoll.dev", "llmservices", "ml"),
    ("detector", "patch", "apps", "deployments", "ml"),
    ("detector", "get", "", "secrets", "ml"),
    ("detector", "get", "", "configmaps", "ml"),
    ("detector", "get", "coordination.k8s.io", "leases", "ml"),
]


@pytest.fixture(scope="module", autouse=True)
def roles(kubectl: Any, session_api: Any) -> None:
    """The roles of the manifests, on the server, once its authoriser knows them: until then nobody may do anything."""
    kubectl("apply", "--server-side", "-f", str(MANIFESTS))
    ends = time.monotonic() + KNOWN_SECONDS
    while not all(allowed(session_api, *act) for act in MAY) and time.monotonic() < ends:
        time.sleep(0.1)  # what is still denied then, its own test tells


def allowed(api: Any, account: str, verb: str, group: str, resource: str, namespace: str) -> bool:
    """Whether the authoriser lets an account of ours do something."""
    name, _, subresource = resource.partition("/")
    attributes = {"verb": verb, "group": group, "resource": name, "subresource": subresource, "namespace": namespace}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:plimsoll-system:plimsoll-{account}",
            "groups": ["system:authenticated", "system:serviceaccounts", "system:serviceaccounts:plimsoll-system"],
            "resourceAttributes": attributes,
        },
    }
    answer = api.request("POST", "apis/authorization.k8s.io/v1/subjectaccessreviews", json=review)
    assert answer.accepted, answer.message
    return bool(answer.body["status"]["allowed"])


@pytest.mark.parametrize("act", MAY, ids=" ".join)
def test_may(act: tuple[str, str, str, str, str], session_api: Any) -> None:
    assert allowed(session_api, *act)


@pytest.mark.parametrize("act", MAY_NOT, ids=" ".join)
def test_may_not(act: tuple[str, str, str, str, str], session_api: Any) -> None:
    assert not allowed(session_api, *act)


def test_the_detector_writes_its_status_and_not_the_spec(api: Any, api_as: Any, service: Any) -> None:
    made = api.create(service(), dry_run=False).body
    detector = api_as("plimsoll-detector")
    thing = {"apiVersion": made["apiVersion"], "kind": made["kind"], "metadata": {"name": "chat"}}
    refused = detector.apply({**thing, "spec": {"paused": True}}, names.FieldManager.DETECTOR)
    assert refused.code == 403
    written = detector.apply(
        {**thing, "status": {"observed": {"ttft": "1s"}}}, names.FieldManager.DETECTOR_STATUS, subresource="status"
    )
    assert written.accepted, written.message

"""The control plane is a real one: RBAC on, tokens from TokenRequest, requests in the audit log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plimsoll_cli.errors import CommandError
from plimsoll_cli.sandbox.control_plane import API_SERVER, ControlPlane
from plimsoll_cli.sandbox.kubectl import Kubectl

pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("control_plane")]


def as_service_account(plane: ControlPlane, namespace: str, name: str) -> Kubectl:
    """kubectl as a service account."""
    return Kubectl(plane.kubectl.program, plane.kubeconfig_for(namespace, name))


def test_a_service_account_may_do_nothing_that_no_rule_allows(control_plane: ControlPlane, namespace: str) -> None:
    """RBAC is on: without a rule a list of pods is refused, with one it is allowed."""
    reader = as_service_account(control_plane, namespace, "reader")
    refused = reader.attempt("get", "pods", "-n", namespace)
    assert refused.returncode == 1
    assert f'User "system:serviceaccount:{namespace}:reader" cannot list resource "pods"' in refused.stderr

    control_plane.kubectl("create", "role", "reads-pods", "--verb=list", "--resource=pods", "-n", namespace)
    control_plane.kubectl(
        "create", "rolebinding", "reader", "--role=reads-pods", f"--serviceaccount={namespace}:reader", "-n", namespace
    )
    assert "No resources found" in reader.attempt("get", "pods", "-n", namespace).stderr


def test_requests_are_in_the_audit_log(control_plane: ControlPlane, namespace: str) -> None:
    """Who asked for what is one JSON object per request, without bodies."""
    as_service_account(control_plane, namespace, "asker").attempt("get", "secrets", "-n", namespace)
    entries = [json.loads(line) for line in control_plane.audit_log.read_text().splitlines()]
    mine = [e for e in entries if e["user"]["username"] == f"system:serviceaccount:{namespace}:asker"]
    assert {(e["verb"], e["objectRef"]["resource"]) for e in mine if "objectRef" in e} == {("list", "secrets")}
    assert {e["responseStatus"]["code"] for e in mine if "objectRef" in e} == {403}
    assert all("requestObject" not in e for e in entries)


def test_services_get_loopback_addresses(control_plane: ControlPlane, namespace: str) -> None:
    """A cluster IP lies in 127.0.0.0/8, so this machine reaches it without any set-up."""
    control_plane.kubectl("create", "service", "clusterip", "chat", "--tcp=8000:8000", "-n", namespace)
    service = control_plane.kubectl.json("get", "service", "chat", "-n", namespace)
    assert service["spec"]["clusterIP"].startswith("127.")


def test_two_side_by_side(control_plane: ControlPlane, tmp_path: Path) -> None:
    """A second control plane has its own addresses and its own objects; ending it leaves the first alone."""
    with ControlPlane.start(tmp_path) as other:
        assert other.url != control_plane.url
        other.kubectl("create", "namespace", "only-there")
        assert "only-there" not in control_plane.kubectl("get", "namespaces")
    assert control_plane.healthy(API_SERVER)


def test_a_broken_start_names_the_component_and_shows_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which component ended and why, and nothing is left running."""
    monkeypatch.setattr("plimsoll_cli.sandbox.control_plane._AUDIT_POLICY", "kind: Nonsense\n")
    with pytest.raises(CommandError) as failure:
        ControlPlane.start(tmp_path)
    message = str(failure.value)
    assert "kube-apiserver ended with exit code 1" in message
    assert "audit policy" in message
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in read(path)]


def read(path: Path) -> bytes:
    """A file of /proc, empty when its process has ended meanwhile."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""

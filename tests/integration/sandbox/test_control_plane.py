"""The control plane is a real one: RBAC on, tokens from TokenRequest, requests in the audit log."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest

from plimsoll_cli.errors import CommandError
from plimsoll_cli.sandbox.control_plane import API_SERVER, FRONT_PROXY, ControlPlane
from plimsoll_cli.sandbox.kubectl import Kubectl

pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("control_plane")]

DEADLINE_SECONDS = 30.0
"""What the API server takes over from a watch is there within milliseconds on an idle machine."""


def as_service_account(plane: ControlPlane, namespace: str, name: str) -> Kubectl:
    """kubectl as a service account."""
    return Kubectl(plane.kubectl.program, plane.kubeconfig_for(namespace, name))


def until_it_works(kubectl: Kubectl, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run kubectl until it succeeds: the API server has its own rules and services from watches, moments later."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (answer := kubectl.attempt(*arguments)).returncode != 0:
        assert time.monotonic() < deadline, answer.stderr
        time.sleep(0.05)
    return answer


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
    assert "No resources found" in until_it_works(reader, "get", "pods", "-n", namespace).stderr


def test_requests_are_in_the_audit_log(control_plane: ControlPlane, namespace: str) -> None:
    """Who asked for what is one JSON object per request, without bodies."""
    as_service_account(control_plane, namespace, "asker").attempt("get", "secrets", "-n", namespace)
    # Whole lines: others may be writing the last.
    entries = [json.loads(line) for line in control_plane.audit_log.read_text().rpartition("\n")[0].splitlines()]
    mine = [e for e in entries if e["user"]["username"] == f"system:serviceaccount:{namespace}:asker"]
    assert {(e["verb"], e["objectRef"]["resource"]) for e in mine if "objectRef" in e} == {("list", "secrets")}
    assert {e["responseStatus"]["code"] for e in mine if "objectRef" in e} == {403}
    assert all("requestObject" not in e for e in entries)


def test_services_get_loopback_addresses(control_plane: ControlPlane, namespace: str) -> None:
    """A cluster IP lies in 127.0.0.0/8, so this machine reaches it without any set-up."""
    control_plane.kubectl("create", "service", "clusterip", "chat", "--tcp=8000:8000", "-n", namespace)
    service = control_plane.kubectl.json("get", "service", "chat", "-n", namespace)
    assert service["spec"]["clusterIP"].startswith("127.")


AGGREGATED = """
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: %(namespace)s}
spec: {type: ExternalName, externalName: %(address)s}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.echo.example}
spec:
  group: echo.example
  version: v1
  groupPriorityMinimum: 100
  versionPriority: 100
  service: {name: echo, namespace: %(namespace)s, port: %(port)d}
  caBundle: %(authority)s
"""


def test_an_api_service_is_reached_and_told_who_asks(control_plane: ControlPlane, namespace: str) -> None:
    """The aggregation layer works, and the server behind it can believe the headers: only the API server has a
    certificate of the front proxy's authority."""
    asked: list[tuple[str, str]] = []

    class Echo(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["X-Remote-User"]))
            body = (
                b'{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "echo.example/v1", "resources": []}'
            )
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    authority, address = control_plane.authority, control_plane.layout.block.control_address
    pair = authority.server("echo", (address,), (f"echo.{namespace}.svc",))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.directory / FRONT_PROXY / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(pair.certificate, pair.key)
    with http.server.ThreadingHTTPServer((address, 0), Echo) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        values = {
            "namespace": namespace,
            "address": address,
            "port": server.server_port,
            "authority": base64.b64encode(authority.certificate.read_bytes()).decode(),
        }
        control_plane.kubectl.apply(AGGREGATED % values)
        try:
            control_plane.kubectl("wait", "--for=condition=Available", "--timeout=30s", "apiservice/v1.echo.example")
            until_it_works(control_plane.kubectl, "get", "--raw", "/apis/echo.example/v1/things")
        finally:
            control_plane.kubectl("delete", "apiservice", "v1.echo.example")
            server.shutdown()
    assert ("/apis/echo.example/v1/things", "admin") in asked


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

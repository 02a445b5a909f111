"""A plain HTTP view of the real API server, so that a test sees exactly what the server says."""

from __future__ import annotations

import base64
import copy
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from plimsoll_api import names


@dataclass(frozen=True)
class Answer:
    """What the API server answered: the object, or the Status with a cause per broken constraint."""

    code: int
    body: dict[str, Any]

    @property
    def accepted(self) -> bool:
        """Whether the object was taken."""
        return self.code in (200, 201)

    @property
    def message(self) -> str:
        """The line that kubectl shows."""
        return str(self.body.get("message", ""))

    @property
    def causes(self) -> list[tuple[str, str]]:
        """Field and message of every broken constraint."""
        found = self.body.get("details", {}).get("causes", [])
        return [(cause.get("field", ""), cause.get("message", "")) for cause in found]


@dataclass
class ApiServer:
    """The real API server over HTTP, as admin, with the field validation that kubectl asks for."""

    url: str
    session: requests.Session
    namespace: str
    api_version: str = names.API_VERSION

    def of_group(self, api_version: str) -> ApiServer:
        """The same server and namespace, for LLMServices of another group."""
        return replace(self, api_version=api_version)

    def request(self, method: str, path: str, **arguments: Any) -> Answer:
        """One request; the body of the answer is JSON."""
        response = self.session.request(method, f"{self.url}/{path}", timeout=30, **arguments)
        return Answer(response.status_code, response.json())

    def create(self, service: dict[str, Any], *, dry_run: bool = True) -> Answer:
        """Create an LLMService; by default only try."""
        parameters = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return self.request("POST", self._path(), json=service, params=parameters)

    def update(self, service: dict[str, Any], *, subresource: str = "", dry_run: bool = True) -> Answer:
        """Replace an LLMService or one of its subresources; by default only try."""
        parameters = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return self.request(
            "PUT", self._path(service["metadata"]["name"], subresource), json=service, params=parameters
        )

    def apply(self, service: dict[str, Any], manager: str, *, subresource: str = "", force: bool = False) -> Answer:
        """Server-side apply."""
        return self.request(
            "PATCH",
            self._path(service["metadata"]["name"], subresource),
            data=yaml.safe_dump(service),
            headers={"Content-Type": "application/apply-patch+yaml"},
            params={"fieldManager": manager, "force": str(force).lower()},
        )

    def get(self, name: str, subresource: str = "") -> Answer:
        """Read an LLMService or one of its subresources."""
        return self.request("GET", self._path(name, subresource))

    def merge_scale(self, name: str, replicas: int, manager: str) -> Answer:
        """Write the replicas through /scale, as autoscalers do."""
        return self.request(
            "PATCH",
            self._path(name, "scale"),
            json={"spec": {"replicas": replicas}},
            headers={"Content-Type": "application/merge-patch+json"},
            params={"fieldManager": manager},
        )

    def delete(self, name: str) -> Answer:
        """Delete an LLMService."""
        return self.request("DELETE", self._path(name))

    def _path(self, name: str = "", subresource: str = "") -> str:
        services = f"apis/{self.api_version}/namespaces/{self.namespace}/{names.PLURAL}"
        return "/".join(part for part in (services, name, subresource) if part)


def connect(kubeconfig: Path, directory: Path) -> ApiServer:
    """The API server of a kubeconfig's current context, whose credentials may be a token or a certificate."""
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
    cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
    user = next(u["user"] for u in config["users"] if u["name"] == context["user"])

    def stored(owner: dict[str, Any], key: str) -> str | None:
        if f"{key}-data" in owner:
            path = directory / key
            path.write_bytes(base64.b64decode(owner[f"{key}-data"]))
            path.chmod(0o600)
            return str(path)
        return owner.get(key)

    session = requests.Session()
    session.trust_env = False
    session.verify = stored(cluster, "certificate-authority") or False
    if "token" in user:
        session.headers["Authorization"] = f"Bearer {user['token']}"
    elif certificate := stored(user, "client-certificate"):
        session.cert = (certificate, stored(user, "client-key") or certificate)
    return ApiServer(cluster["server"].rstrip("/"), session, namespace=f"api-{uuid.uuid4().hex[:10]}")


@pytest.fixture(scope="session")
def session_api(control_plane: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """The API server, in a namespace of this test process."""
    server = connect(Path(control_plane.admin_kubeconfig), tmp_path_factory.mktemp("credentials"))
    made = server.request("POST", "api/v1/namespaces", json={"metadata": {"name": server.namespace}})
    assert made.accepted, made.message
    yield server
    server.session.close()


@pytest.fixture
def api(session_api: ApiServer, namespace: str) -> ApiServer:
    """The API server, in a namespace of this test."""
    return ApiServer(session_api.url, session_api.session, namespace)


@pytest.fixture
def api_as(control_plane: Any, api: ApiServer, tmp_path: Path) -> Callable[[str], ApiServer]:
    """The API server in this test's namespace as one of our service accounts, with its own token."""

    def connect_as(account: str) -> ApiServer:
        kubeconfig = control_plane.kubeconfig_for("plimsoll-system", account)
        return replace(connect(Path(kubeconfig), tmp_path), namespace=api.namespace)

    return connect_as


def with_fields(document: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """A copy of a document with values at dotted paths; a null removes the field."""
    result = copy.deepcopy(document)
    for path, value in fields.items():
        node = result
        *parents, last = path.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        if value is None:
            node.pop(last, None)
        else:
            node[last] = value
    return result


ServiceMaker = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def service() -> ServiceMaker:
    """Makes an LLMService with only `model.uri`, and with the given spec fields at dotted paths."""

    def make(fields: dict[str, Any] | None = None, name: str = "chat") -> dict[str, Any]:
        spec = {"model": {"uri": "hf://meta-llama/Llama-3.1-8B-Instruct"}}
        return {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name},
            "spec": with_fields(spec, fields or {}),
        }

    return make


@pytest.fixture
def full_status() -> dict[str, Any]:
    """A status with every part."""
    status: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "status.yaml").read_text(encoding="utf-8"))
    return status

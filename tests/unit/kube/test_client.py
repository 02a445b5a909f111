"""The client against an HTTP server that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from plimsoll_kube.client import KubeClient
from plimsoll_kube.connection import NoClusterError, current_namespace
from plimsoll_kube.errors import ApiUnavailable, Conflict, Forbidden, Gone, Invalid, NotFound, error_of
from plimsoll_kube.events import EventRecorder
from plimsoll_kube.following import Change, follow
from plimsoll_kube.resources import CONFIG_MAP, DEPLOYMENT, EVENT, LLM_SERVICE, NODE, POD, resource_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Answers from a script, in order; the last answer repeats."""

    def __init__(self) -> None:
        self.script: list[Handler | tuple[int, Any] | tuple[int, Any, dict[str, str]]] = []
        self.requests: list[tuple[str, str, dict[str, str], dict[str, str], bytes]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append((request.method, request.path, dict(request.query), dict(request.headers), body))
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if callable(answer):
            return await answer(request)
        return web.json_response(answer[1], status=answer[0], headers=answer[2] if len(answer) > 2 else {})


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    scripted = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", scripted.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    write_kubeconfig(tmp_path / "config", f"http://127.0.0.1:{port}", "first")
    yield scripted
    await runner.cleanup()


def write_kubeconfig(path: Path, url: str, token: str) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(yaml.safe_dump(config))


@pytest.fixture
async def client(server: Server, tmp_path: Path) -> AsyncIterator[KubeClient]:
    async with await KubeClient.connect(tmp_path / "config", timeout=10.0, deadline=20.0) as api:
        yield api


def thing(name: str = "a", version: str = "1", **fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ml", "resourceVersion": version, "uid": name}, **fields}


async def test_a_missing_object_is_none(server: Server, client: KubeClient) -> None:
    server.script = [(404, {"reason": "NotFound", "message": "no"})]
    assert await client.get(POD, "ml", "a") is None
    assert await client.delete(POD, "ml", "a") is False


@pytest.mark.parametrize(
    ("status", "kind"), [(409, Conflict), (422, Invalid), (403, Forbidden), (410, Gone), (404, NotFound)]
)
async def test_refusals_are_not_repeated(server: Server, client: KubeClient, status: int, kind: type) -> None:
    server.script = [(status, {"reason": "Because", "message": "no way"})]
    with pytest.raises(kind, match="no way") as caught:
        await client.apply(CONFIG_MAP.manifest("ml", "a"), field_manager="m")
    assert (caught.value.status, caught.value.reason) == (status, "Because")
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_that_is_busy_is_asked_again(server: Server, client: KubeClient, status: int) -> None:
    server.script = [(status, {}), (status, {}), (200, thing())]
    assert (await client.apply(CONFIG_MAP.manifest("ml", "a"), field_manager="m"))["metadata"]["name"] == "a"
    assert len(server.requests) == 3


async def test_the_server_says_how_long_to_wait(server: Server, client: KubeClient) -> None:
    server.script = [(429, {}, {"Retry-After": "30"})]
    with pytest.raises(ApiUnavailable):
        await client.get(POD, "ml", "a")
    assert len(server.requests) == 1, "30 s are beyond the deadline of 20 s"


async def test_a_create_that_may_have_worked_is_not_repeated(server: Server, client: KubeClient) -> None:
    server.script = [(500, {})]
    with pytest.raises(ApiUnavailable):
        await client.create(CONFIG_MAP.manifest("ml", "a"))
    assert len(server.requests) == 1


async def test_a_token_that_was_replaced_is_read_again(server: Server, client: KubeClient, tmp_path: Path) -> None:
    config = yaml.safe_load((tmp_path / "config").read_text())
    write_kubeconfig(tmp_path / "config", config["clusters"][0]["cluster"]["server"], "second")
    server.script = [(401, {}), (200, thing())]
    assert await client.get(POD, "ml", "a")
    tokens = [headers["Authorization"] for _, _, _, headers, _ in server.requests]
    assert tokens == ["Bearer first", "Bearer second"]


async def test_nobody_answers(tmp_path: Path) -> None:
    write_kubeconfig(tmp_path / "config", "http://127.0.0.1:1", "t")
    seen = []
    async with await KubeClient.connect(tmp_path / "config", deadline=0.3, on_request=lambda *a: seen.append(a)) as api:
        with pytest.raises(ApiUnavailable, match="GET /api/v1/namespaces/ml/pods/a"):
            await api.get(POD, "ml", "a")
    assert {(verb, status) for verb, status, _ in seen} == {("get", 0)}


async def test_apply_and_scale_say_who_writes(server: Server, client: KubeClient) -> None:
    server.script = [(200, {**thing(), "spec": {"replicas": 3}})]
    await client.apply(DEPLOYMENT.manifest("ml", "a"), field_manager="me", subresource="status")
    assert await client.scale(LLM_SERVICE, "ml", "a", 3, field_manager="me", resource_version="7") == 3
    (apply, scale) = server.requests
    assert apply[:3] == (
        "PATCH",
        "/apis/apps/v1/namespaces/ml/deployments/a/status",
        {"fieldManager": "me", "force": "true"},
    )
    assert apply[3]["Content-Type"] == "application/apply-patch+yaml"
    assert scale[1].endswith("/llmservices/a/scale")
    assert json.loads(scale[4]) == {"spec": {"replicas": 3}, "metadata": {"resourceVersion": "7"}}


async def test_a_list_has_all_pages_and_says_what_its_items_are(server: Server, client: KubeClient) -> None:
    server.script = [
        (200, {"metadata": {"continue": "more", "resourceVersion": "5"}, "items": [thing("a")]}),
        (200, {"metadata": {"resourceVersion": "5"}, "items": [thing("b")]}),
    ]
    found = await client.list(POD, "ml", label_selector="a=b")
    assert [(item["kind"], item["metadata"]["name"]) for item in found.items] == [("Pod", "a"), ("Pod", "b")]
    assert found.resource_version == "5"
    assert server.requests[1][2]["continue"] == "more"


async def test_discovery(server: Server, client: KubeClient) -> None:
    server.script = [(200, {"resources": [{"name": "pods"}]}), (404, {})]
    assert await client.served(POD)
    assert not await client.served(POD)


def streamed(*lines: Any) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for line in lines:
            await response.write(json.dumps(line).encode() + b"\n")
        return response

    return handle


async def test_follow_resumes_and_reports_what_was_deleted_meanwhile(server: Server, client: KubeClient) -> None:
    server.script = [
        (200, {"metadata": {"resourceVersion": "1"}, "items": [thing("a"), thing("b")]}),
        streamed(
            {"type": "MODIFIED", "object": thing("a", "2")},
            {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "3"}}},
        ),
        streamed({"type": "ERROR", "object": {"code": 410, "message": "too old"}}),
        (200, {"metadata": {"resourceVersion": "9"}, "items": [thing("a", "8"), thing("c", "9")]}),
        streamed({"type": "DELETED", "object": thing("c", "10")}),
    ]
    changes: list[Change] = []
    async for change in follow(client, POD, "ml"):
        changes.append(change)
        if len(changes) == 9:
            break
    told = [(change.type, change.object.get("metadata", {}).get("name")) for change in changes]
    assert told == [
        ("ADDED", "a"),
        ("ADDED", "b"),
        ("SYNCED", None),
        ("MODIFIED", "a"),
        ("DELETED", "b"),
        ("MODIFIED", "a"),
        ("ADDED", "c"),
        ("SYNCED", None),
        ("DELETED", "c"),
    ]
    watches = [query["resourceVersion"] for _, _, query, _, _ in server.requests if query.get("watch")]
    assert watches == ["1", "3", "9"]


async def test_follow_does_not_wait_for_rights(server: Server, client: KubeClient) -> None:
    server.script = [(403, {"message": "may not list"})]
    with pytest.raises(Forbidden):
        async for _ in follow(client, POD):
            pass


async def test_an_event_is_posted_once_within_its_window(fake_kube: Any) -> None:
    now = [0.0]
    recorder = EventRecorder(fake_kube, "operator", lambda: now[0])
    about = {"apiVersion": "v1", "kind": "Pod", **thing()}
    assert await recorder.post(about, "Normal", "Ready", "1 of 1")
    assert not await recorder.post(about, "Normal", "Ready", "1 of 1")
    assert await recorder.post(about, "Normal", "Ready", "2 of 2")
    now[0] = 1000.0
    assert await recorder.post(about, "Normal", "Ready", "1 of 1")
    events = [item for item in (await fake_kube.list(EVENT, "ml")).items if item["message"] == "1 of 1"]
    assert [(event["count"], event["involvedObject"]["uid"]) for event in events] == [(2, "a")]


async def test_an_event_that_cannot_be_posted_stops_nothing(fake_kube: Any) -> None:
    def forbidden(*_: Any) -> None:
        raise Forbidden(403, "Forbidden", "no")

    fake_kube.before = forbidden
    about = {"apiVersion": "v1", "kind": "Pod", **thing()}
    assert not await EventRecorder(fake_kube, "operator").post(about, "Normal", "Ready", "1 of 1")


async def test_no_cluster_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(NoClusterError, match="--kubeconfig or set KUBECONFIG"):
        await KubeClient.connect()
    with pytest.raises(NoClusterError, match="none"):
        await KubeClient.connect(tmp_path / "none")


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "- a\n", "{", "clusters: 5\n", "a: b: c\n"])
async def test_a_file_that_is_no_kubeconfig_is_named(content: str, tmp_path: Path) -> None:
    """Whatever is in it: one line with the file's name, and no traceback."""
    file = tmp_path / "config.yaml"
    file.write_text(content, encoding="utf-8")
    for use in (KubeClient.connect(file), asyncio.to_thread(current_namespace, file)):
        with pytest.raises(NoClusterError, match=r"config\.yaml") as refused:
            await use
        assert "\n" not in str(refused.value)


def test_paths() -> None:
    assert POD.path("ml", "a") == "/api/v1/namespaces/ml/pods/a"
    assert DEPLOYMENT.path(None) == "/apis/apps/v1/deployments"
    assert NODE.path(None, "n", "status") == "/api/v1/nodes/n/status"
    assert resource_of({"apiVersion": "apps/v1", "kind": "Deployment"}) is DEPLOYMENT
    with pytest.raises(ValueError, match="needs a namespace"):
        POD.path(None, "a")
    with pytest.raises(ValueError, match="not a kind"):
        resource_of({"apiVersion": "v9", "kind": "Nothing"})


def test_an_answer_that_is_no_status_is_quoted() -> None:
    error = error_of(502, b"<html>bad gateway</html>", "GET /x")
    assert isinstance(error, ApiUnavailable)
    assert "bad gateway" in str(error)
    assert "GET /x was answered with HTTP 500" in str(error_of(500, b"", "GET /x"))

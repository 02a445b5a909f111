"""`plimsoll load --service` against a real API server: reads the service, records the result."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from plimsoll_cli.load.service import KEPT_RECORDS
from plimsoll_cli.sandbox.control_plane import ControlPlane
from plimsoll_cli.sandbox.kubectl import Kubectl

pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("control_plane")]

SERVICE = {
    "apiVersion": "plimsoll.dev/v1alpha1",
    "kind": "LLMService",
    "metadata": {"name": "chat"},
    "spec": {
        "model": {"uri": "hf://org/model", "servedName": "talk"},
        "workload": {"inputTokens": {"mean": 20}, "outputTokens": {"mean": 4}, "requestsPerSecond": "20"},
        "objectives": {"ttft": "5s", "tpot": "5s"},
    },
}


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """An endpoint that answers every request at once."""

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "talk"}]})

    async def completions(request: web.Request) -> web.Response:
        body = await request.json()
        events = [{"choices": [{"text": "a", "finish_reason": None}]} for _ in range(body["max_tokens"])]
        events[-1]["choices"][0]["finish_reason"] = "length"
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        return web.Response(text=text, content_type="text/event-stream")

    application = web.Application()
    application.add_routes([web.get("/v1/models", models), web.post("/v1/completions", completions)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def load(kubeconfig: Path, *arguments: str) -> tuple[int, str]:
    """(exit code, stderr) of `plimsoll load`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "plimsoll_cli", "load", "--kubeconfig", str(kubeconfig), *arguments,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    _, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, err.decode()


def create(kubectl: Kubectl, namespace: str, tmp_path: Path) -> None:
    manifest = tmp_path / "chat.yaml"
    manifest.write_text(yaml.safe_dump(SERVICE))
    kubectl("apply", "-n", namespace, "-f", str(manifest))


async def test_the_result_is_recorded_in_status_and_a_config_map(  # type: ignore[no-untyped-def]
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str, url: str, tmp_path: Path
):
    create(kubectl, namespace, tmp_path)
    arguments = ["--service", f"{namespace}/chat", "--url", url, "--duration", "1s"]
    code, err = await load(control_plane.admin_kubeconfig, *arguments)
    assert code == 0, err

    service = json.loads(kubectl("get", "llm", "chat", "-n", namespace, "-o", "json", "--show-managed-fields"))
    test = service["status"]["loadTest"]
    assert test["requests"] > 5
    assert (test["failed"], test["truncated"], test["attainment"]) == (0, 0, "1")
    assert test["ttft"].endswith("ms")
    managers = {
        entry["manager"] for entry in service["metadata"]["managedFields"] if entry.get("subresource") == "status"
    }
    assert managers == {"plimsoll-load"}

    selector = "plimsoll.dev/service=chat"
    records = json.loads(kubectl("get", "configmap", "-n", namespace, "-l", selector, "-o", "json"))["items"]
    assert [record["metadata"]["name"] for record in records] == [test["configMap"]]
    assert records[0]["metadata"]["ownerReferences"][0]["uid"] == service["metadata"]["uid"]
    summary = json.loads(records[0]["data"]["summary.json"])
    assert summary["model"] == "talk"
    assert summary["objectives"] == {"ttft": 5.0, "tpot": 5.0, "e2e": None, "percentile": 95, "attainment": 0.99}
    assert summary["summary"]["completed"] == test["requests"]


async def test_old_records_go(  # type: ignore[no-untyped-def]
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str, url: str, tmp_path: Path
):
    create(kubectl, namespace, tmp_path)
    labels = {"plimsoll.dev/service": "chat", "app.kubernetes.io/component": "load-test"}
    old = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"chat-load-2020010100000{i}", "labels": labels}}
        for i in range(KEPT_RECORDS)
    ]
    manifest = tmp_path / "old.yaml"
    manifest.write_text(yaml.safe_dump_all(old))
    kubectl("apply", "-n", namespace, "-f", str(manifest))
    code, err = await load(
        control_plane.admin_kubeconfig, "--service", f"{namespace}/chat", "--url", url, "--duration", "1s"
    )
    assert code == 0, err
    names = kubectl("get", "configmap", "-n", namespace, "-l", "plimsoll.dev/service=chat", "-o", "name").split()
    assert len(names) == KEPT_RECORDS
    assert "configmap/chat-load-20200101000000" not in names


async def test_no_record_is_written_when_not_wanted(  # type: ignore[no-untyped-def]
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str, url: str, tmp_path: Path
):
    create(kubectl, namespace, tmp_path)
    arguments = ["--service", f"{namespace}/chat", "--url", url, "--duration", "0.5s", "--no-record"]
    code, err = await load(control_plane.admin_kubeconfig, *arguments)
    assert code == 0, err
    assert "loadTest" not in kubectl("get", "llm", "chat", "-n", namespace, "-o", "json")


async def test_what_is_missing_is_named(  # type: ignore[no-untyped-def]
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str, tmp_path: Path
):
    code, err = await load(control_plane.admin_kubeconfig, "--service", f"{namespace}/absent", "--duration", "1s")
    assert (code, "there is no such LLMService" in err) == (2, True)
    create(kubectl, namespace, tmp_path)
    code, err = await load(control_plane.admin_kubeconfig, "--service", f"{namespace}/chat", "--duration", "1s")
    assert (code, "does not exist yet" in err) == (3, True)


async def test_a_cluster_that_is_not_there_is_exit_code_3(tmp_path: Path) -> None:
    code, err = await load_without_cluster(tmp_path)
    assert code == 3, err
    assert "Traceback" not in err


async def load_without_cluster(tmp_path: Path) -> tuple[int, str]:
    broken = tmp_path / "kubeconfig"
    broken.write_text("nonsense: true\n")
    return await load(broken, "--service", "ml/chat", "--duration", "1s")

"""What a person at a terminal sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plimsoll_cli.errors import CommandError

pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("control_plane")]


@pytest.fixture
def chat(api: Any, service: Any, kubectl: Any, full_status: dict[str, Any]) -> Any:
    """A service with a full status, and kubectl in its namespace."""
    made = api.create(service({"replicas": 2}), dry_run=False)
    assert made.accepted, made.message
    assert api.update({**made.body, "status": full_status}, subresource="status", dry_run=False).accepted

    def run(*arguments: str) -> str:
        return str(kubectl(*arguments, "-n", api.namespace))

    return run


def test_get_shows_the_columns(chat: Any) -> None:
    head, row = chat("get", "llm").splitlines()
    assert head.split() == ["NAME", "MODEL", "ACCELERATOR", "REPLICAS", "READY", "DIAGNOSIS", "TTFT", "AGE"]
    assert row.split()[:-1] == [
        "chat",
        "hf://meta-llama/Llama-3.1-8B-Instruct",
        "NVIDIA-L4",
        "2",
        "2",
        "Normal",
        "280ms",
    ]


def test_it_is_found_by_every_name(chat: Any) -> None:
    for name in ("llm", "llmservice", "llmservices", "llmservices.plimsoll.dev", "plimsoll"):
        assert "chat" in chat("get", name, "-o", "name")


def test_kubectl_scale_sets_the_replicas(chat: Any) -> None:
    assert "scaled" in chat("scale", "llm/chat", "--replicas=3")
    assert chat("get", "llm/chat", "-o", "jsonpath={.spec.replicas}") == "3"
    with pytest.raises(CommandError, match="Expected replicas to be 9, was 3"):
        chat("scale", "llm/chat", "--replicas=1", "--current-replicas=9")


def test_kubectl_wait_waits_for_a_condition(chat: Any) -> None:
    assert "condition met" in chat("wait", "--for=condition=Available", "llm/chat", "--timeout=45s")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("llmservice", ["A large language model served on this cluster", "spec\t<Object> -required-"]),
        (
            "llmservice.spec",
            ["What a person asks for", "model\t<Object> -required-", "cheapest that meets the objectives"],
        ),
        ("llmservice.spec.model", ["uri\t<string> -required-", "hf://org/name (Hugging Face hub)"]),
        ("llmservice.spec.model.cache.size", ["It can grow, not shrink"]),
        ("llmservice.spec.scaling.mode", ["ENUM: Auto Recommend Manual", "an HPA, KEDA or a person owns /scale"]),
        ("llmservice.spec.workload.requestsPerSecond", ["Mean request rate of the whole service"]),
        ("llmservice.spec.engine.extraArgs", ["<[]string>", "each --flag or --flag=value"]),
        ("llmservice.spec.podTemplate.spec", ["the engine's container is named `engine`"]),
        ("llmservice.status.recommendation.predicted", ["load line", "loadLineRequestsPerSecond"]),
    ],
)
def test_explain_reads_well(path: str, words: list[str], kubectl: Any) -> None:
    flowing = " ".join(kubectl("explain", path).split())
    for part in words:
        assert " ".join(part.split()) in flowing
    assert "<no description>" not in flowing


def test_a_refusal_reads_well(kubectl: Any, api: Any, tmp_path: Path, service: Any) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(service({"scaling.minReplicas": 9})), encoding="utf-8")
    with pytest.raises(
        CommandError, match=r"scaling\.minReplicas \(9\) must not be greater than scaling\.maxReplicas \(8\)"
    ):
        kubectl("apply", "-n", api.namespace, "-f", str(path))


def test_a_field_that_is_misspelt_is_named(kubectl: Any, api: Any, tmp_path: Path, service: Any) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(service({"scaling.maxReplica": 9})), encoding="utf-8")
    with pytest.raises(CommandError, match=r'unknown field "spec\.scaling\.maxReplica"'):
        kubectl("apply", "-n", api.namespace, "-f", str(path))

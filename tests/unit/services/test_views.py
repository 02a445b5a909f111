"""What `status`, `explain` and `top` say is what the object says, and nothing is made up."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from plimsoll_cli.services import views
from plimsoll_cli.services.figures import figures_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def service(name: str = "chat", **status: Any) -> dict[str, Any]:
    """An LLMService as the API server returns it."""
    return {
        "metadata": {"namespace": "ml", "name": name, "creationTimestamp": "2026-01-02T01:04:05Z"},
        "spec": {"model": {"uri": "hf://meta-llama/Llama-3.1-8B-Instruct"}, "replicas": 2},
        "status": status,
    }


SERVING = service(
    readyReplicas=2,
    replicas=2,
    observed={"requestsPerSecond": "12", "loadLine": "8", "ttft": "400ms", "tpot": "21ms", "attainment": "0.97"},
    diagnosis={"kind": "Overload", "message": "load of 1.5 replicas"},
    recommendation={
        "config": {"accelerator": "NVIDIA-L40S", "tensorParallelSize": 2, "pipelineParallelSize": 1},
        "predicted": {"ttft": "300ms", "tpot": "20ms", "loadLineRequestsPerSecond": "9"},
        "reasons": [{"field": "maxNumSeqs", "value": "128", "because": "the KV cache holds 130 requests"}],
        "ledger": {
            "weightsGib": "15",
            "activationPeakGib": "1",
            "nonTorchGib": "1",
            "cudaGraphsGib": "1",
            "kvCacheGib": "20",
            "totalGib": "44",
        },
        "confidence": "High",
        "alternatives": [{"summary": "1 x H100", "hourlyCost": "3.2", "rejectedBecause": "costs twice as much"}],
    },
    cost={"perHour": "3.2", "perMillionOutputTokens": "0.4", "gpus": 4},
    conditions=[{"type": "Available", "status": "True", "reason": "Serving", "message": "2 of 2 replicas serve"}],
    history=[{"at": "2026-01-02T02:00:00Z", "before": 1, "after": 2, "reason": "Load", "message": "more load"}],
)


def printed(view: Any) -> str:
    """As on a wide terminal without colour."""
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(view)
    return capture.get()


def test_a_line_per_service() -> None:
    text = printed(views.status_table([figures_of(SERVING, NOW)], namespaces=True))
    for word in ("ml", "chat", "meta-llama/Llama-3.1-8B-Instruct", "NVIDIA-L40S x2", "2/2", "Overload", "97 %", "2h"):
        assert word in text


def test_one_service_whole() -> None:
    text = printed(views.status_view(SERVING, figures_of(SERVING, NOW)))
    assert "75 % of the load line" in text
    assert "1 -> 2" in text
    assert "2 of 2 replicas serve" in text


def test_the_configuration_explained() -> None:
    text = printed(views.explain_view(SERVING, figures_of(SERVING, NOW)))
    for word in ("maxNumSeqs", "the KV cache holds 130 requests", "KV cache", "21ms", "costs twice as much"):
        assert word in text


def test_what_is_not_known_is_a_dash() -> None:
    """A service that nobody has looked at yet: no zero is claimed."""
    new = figures_of(service("new"), NOW)
    assert (new.load, new.ttft, new.attainment) == (None, None, None)
    assert " 0 %" not in printed(views.status_table([new], namespaces=False))
    assert "CONDITION" in printed(views.explain_view(service("new"), new))


def test_the_most_loaded_first() -> None:
    """And those whose load is not known at the end."""
    calm = service("calm", readyReplicas=2, observed={"requestsPerSecond": "1", "loadLine": "8"})
    found = [figures_of(one, NOW) for one in (service("aaa"), calm, SERVING)]
    assert [one.name for one in views.by_load(found)] == ["chat", "calm", "aaa"]


@pytest.mark.parametrize(("seconds", "text"), [(5, "5s"), (119, "119s"), (120, "2m"), (7200, "2h"), (200_000, "2d")])
def test_ages_read_as_kubectl_s(seconds: float, text: str) -> None:
    assert views.age(seconds) == text


def test_without_a_cluster_one_line_says_so(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback."""
    broken = tmp_path / "config"
    broken.write_text(json.dumps({"kind": "Config", "contexts": [], "clusters": [], "users": []}))
    result = CliRunner().invoke(_command(), ["--kubeconfig", str(broken)], standalone_mode=False)
    assert result.exception is not None
    assert "kubeconfig" in str(result.exception)
    assert "\n" not in str(result.exception).strip()


def _command() -> Any:
    from plimsoll_cli.services.commands import top

    return top


def test_brackets_in_what_the_cluster_says_are_no_markup() -> None:
    """The API server names containers so, and chat templates have tags that look like rich's own."""
    said = "containers with unready status: [engine]; it ends with [/INST]"
    conditions = [{"type": "Available", "status": "False", "reason": "NoReplicaReady", "message": said}]
    decision = {"message": said, "current": 1, "bounded": 1, "reason": "Blind"}
    one = {**SERVING, "status": {**SERVING["status"], "conditions": conditions, "decision": decision}}
    assert printed(views.status_view(one, figures_of(one, NOW))).count(said) == 2

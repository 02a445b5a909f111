"""The models and the API server give the same answer, and read the same object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from plimsoll_api.v1alpha1 import LLMServiceSpec, LLMServiceStatus

pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("control_plane")]

EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "examples").glob("*.yaml"))

# Per field, values that are right, wrong and on the border; what several fields say together is left to chance.
VALUES: dict[str, list[Any]] = {
    "model.uri": [
        "hf://a/b",
        "hf://a",
        "a/b",
        "pvc://c/p",
        "pvc://c",
        "s3://bucket/p",
        "file:///a/../b",
        "oci://r.io/i:1",
    ],
    "model.revision": ["main", "-x"],
    "model.servedName": ["chat", "a b", ""],
    "model.baseModel": ["a/b", "hf://a/b"],
    "model.configMap": ["c.d", "C"],
    "model.cache": [{"size": "1Gi"}, {"size": "1G"}, {}],
    "workload": [{}],
    "workload.requestsPerSecond": [1, "0.5", "0", 0, -1, "x", 1.5, "1000000", "1000000.1"],
    "workload.inputTokens": [{"mean": 5}, {"mean": 5, "p95": 4}, {"mean": 5, "p95": 5}, {"p95": 5}, {"mean": 0}],
    "workload.outputTokens": [{"mean": 10_000_000}],
    "objectives.ttft": ["1s", "0s", "1.5h", "25h", "5", "1h1h", "0.5ms"],
    "objectives.e2e": ["1s", "999ms", "24h", "soon"],
    "objectives.attainment": ["0.9", "1", "0", "1.1", "00.5"],
    "objectives.percentile": [50, 99, 49, 100],
    "accelerators": [
        [],
        [{"product": "L4"}],
        [{"product": "L4"}, {"product": "L4"}],
        [{"product": "L4", "maxCount": 2, "hourlyCost": "0"}],
        [{"product": "-"}],
        [{}],
    ],
    "engine.tensorParallelSize": [1, 2, 3, 65],
    "engine.pipelineParallelSize": [1, 2],
    "engine.maxNumSeqs": [64, 65, 0],
    "engine.maxNumBatchedTokens": [64, 8192],
    "engine.maxModelLen": [1249, 1250, 8192],
    "engine.kvCacheDtype": ["fp8", "int4"],
    "engine.image": ["vllm/vllm-openai:v0.32.0", "a b", "A/B"],
    "engine.extraArgs": [["--seed=1"], ["--port=1"], ["seed"], ["--max_model_len"], ["--a\nb"], []],
    "scaling.mode": ["Auto", "Recommend", "Manual", "auto"],
    "scaling.minReplicas": [0, 1, 8, 9, -1],
    "scaling.maxReplicas": [1, 8, 1000, 1001],
    "scaling.scaleToZeroAfter": ["30m", "1s"],
    "scaling.budgetPerHour": [1, "0.5", 0],
    "scaling.scaleInStabilization": ["0s", "24h", "24h1ms"],
    "rollout.drainTimeout": ["0s", "1h", "61m"],
    "rollout.startupTimeout": ["10s", "9s"],
    "rollout.strategy": ["DrainThenReplace", "Recreate"],
    "replicas": [0, 1000, 1001],
    "paused": [True, False],
    "podTemplate": [{"spec": {"a": 1}}, {"metadata": {"labels": {"a": "b"}}}, {"tolerations": []}],
    "unknown": [1],
}


@st.composite
def fields(draw: st.DrawFn) -> dict[str, Any]:
    """A few fields with a value each; parents before children, as a person would write them."""
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), unique=True, max_size=6))
    return {name: draw(st.sampled_from(VALUES[name])) for name in sorted(names)}


@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(fields=fields())
@pytest.mark.timeout(300)
def test_models_and_server_agree(fields: dict[str, Any], session_api: Any, service: Any) -> None:
    sent = service(fields)
    answer = session_api.create(sent)
    parsed = parse(sent["spec"])
    verdicts = ("accepted" if answer.accepted else answer.message, "accepted" if parsed else "refused by the models")
    assert answer.accepted == (parsed is not None), f"{fields}: {verdicts}"
    if parsed is not None:
        assert parse(answer.body["spec"]) == parsed, "the server's defaults are the models'"


def parse(spec: dict[str, Any]) -> LLMServiceSpec | None:
    """What the models make of a spec; None when they refuse it."""
    try:
        return LLMServiceSpec.model_validate(spec)
    except ValidationError:
        return None


def test_a_service_with_model_uri_alone_is_complete(session_api: Any, service: Any) -> None:
    answer = session_api.create(service())
    assert answer.accepted
    assert answer.body["spec"] == {
        "model": {"uri": "hf://meta-llama/Llama-3.1-8B-Instruct"},
        "workload": {
            "inputTokens": {"mean": 1000, "p95": 3000},
            "outputTokens": {"mean": 250, "p95": 700},
            "requestsPerSecond": "1",
            "burstiness": "1",
        },
        "objectives": {"ttft": "2s", "tpot": "100ms", "percentile": 95, "attainment": "0.99"},
        "engine": {"type": "vllm"},
        "scaling": {
            "mode": "Auto",
            "minReplicas": 1,
            "maxReplicas": 8,
            "scaleOutStabilization": "0s",
            "scaleInStabilization": "5m",
        },
        "rollout": {"strategy": "SurgeThenDrain", "drainTimeout": "120s", "startupTimeout": "30m"},
        "paused": False,
    }


@pytest.mark.parametrize("part", ["workload", "objectives", "scaling", "rollout", "engine"])
def test_a_part_that_is_given_empty_gets_its_defaults(part: str, session_api: Any, service: Any) -> None:
    assert session_api.create(service({part: {}})).body["spec"] == session_api.create(service()).body["spec"]


def test_what_the_models_write_the_server_takes(session_api: Any, service: Any) -> None:
    spec = LLMServiceSpec.model_validate(service({"accelerators": [{"product": "NVIDIA-L4"}]})["spec"])
    written = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    answer = session_api.create({**service(), "spec": written})
    assert answer.accepted, answer.message
    assert LLMServiceSpec.model_validate(answer.body["spec"]) == spec


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_taken_whole(path: Path, namespace: str, kubectl: Any) -> None:
    kubectl("apply", "--server-side", "-n", namespace, "-f", str(path))
    found = kubectl.json("get", "llm", "-n", namespace)["items"]
    assert len(found) == 1
    LLMServiceSpec.model_validate(found[0]["spec"])


def test_there_are_examples() -> None:
    assert {"minimal.yaml", "chat.yaml"} <= {path.name for path in EXAMPLES}


def test_a_full_status_reads_back_as_it_was_written(api: Any, service: Any, full_status: dict[str, Any]) -> None:
    made = api.create(service(), dry_run=False).body
    written = api.update({**made, "status": full_status}, subresource="status", dry_run=False)
    assert written.accepted, written.message
    assert written.body["status"] == full_status
    status = LLMServiceStatus.model_validate(written.body["status"])
    assert status.model_dump(mode="json", by_alias=True, exclude_unset=True) == full_status

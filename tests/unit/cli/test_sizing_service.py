"""A service's file is sized as the operator sizes the service, and a recommendation becomes such a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_api.v1alpha1 import LLMServiceSpec
from plimsoll_api.v1alpha1.base import to_camel
from plimsoll_cli.sizing.manifest import service_name
from plimsoll_operator.fleet import Fleet
from plimsoll_operator.model_facts import KnownModel
from plimsoll_operator.sizing import compute, sizing_inputs
from plimsoll_recommender import ModelFacts

EXAMPLES = Path(__file__).parents[3] / "examples"
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
LARGE = "meta-llama/Llama-3.1-70B-Instruct"
SMALL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "intermediate_size": 1024,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}


@pytest.mark.parametrize("name", ["chat.yaml", "long-context.yaml", "batch.yaml", "minimal.yaml"])
def test_a_file_is_sized_as_the_operator_would(plimsoll: Callable[..., Any], name: str) -> None:
    file = EXAMPLES / name
    spec = LLMServiceSpec.model_validate(yaml.safe_load(file.read_text())["spec"])
    nodes = () if spec.accelerators else ("-g", "NVIDIA-L4")
    fleet = Fleet({} if spec.accelerators else {"NVIDIA-L4": 8})
    status = compute(sizing_inputs(spec, KnownModel("test", ModelFacts.load(spec.model.uri)), fleet))

    found = json.loads(plimsoll("recommend", "-f", str(file), *nodes, "-o", "json").out)
    assert found["accelerator"] == status.config.accelerator
    assert found["replicas"] == status.config.replicas
    for field in ("tensor_parallel_size", "pipeline_parallel_size", "max_num_seqs", "max_model_len"):
        assert found["config"][field] == getattr(status.config, field)


ASKED = (
    *("recommend", "-m", MODEL, "-g", "H100=2.5", "-g", "L4", "--rps", "4", "--ttft", "800ms", "--tpot", "60ms"),
    *("--input-tokens", "1200", "--output-tokens", "300", "--max-model-len", "16384", "--max-replicas", "9"),
)


def test_a_manifest_asks_the_same_question(plimsoll: Callable[..., Any], tmp_path: Path) -> None:
    direct = json.loads(plimsoll(*ASKED, "-o", "json").out)
    file = tmp_path / "service.yaml"
    assert plimsoll(*ASKED, "--manifest", "--file", str(file)).code == 0
    again = json.loads(plimsoll("recommend", "--service", str(file), "-o", "json").out)
    for field in ("accelerator", "config", "replicas", "load_line_rps", "cost"):
        assert again[field] == direct[field]


def test_a_manifest_says_what_the_operator_will_choose(plimsoll: Callable[..., Any]) -> None:
    text = plimsoll(*ASKED, "--manifest").out
    found = json.loads(plimsoll(*ASKED, "-o", "json").out)
    for reason in found["reasons"]:
        assert f"#   {to_camel(reason['field'])}: {reason['value']}" in text
    assert yaml.safe_load(text)["spec"]["engine"] == {"maxModelLen": 16384}


def test_a_manifest_says_what_it_cannot_say(plimsoll: Callable[..., Any]) -> None:
    text = plimsoll(*ASKED, "--manifest", "--prefix-hit-ratio", "0.4", "--headroom", "0.3").out
    assert "prefix hit ratio of 0.4" in text
    assert "headroom of 0.3" in text


def test_a_manifest_names_the_stored_variant_and_the_allowed_kv_type(plimsoll: Callable[..., Any]) -> None:
    text = plimsoll(
        "recommend", "-m", MODEL, "-g", "H100", "--rps", "2", "--variant", "Qwen/Qwen3-0.6B",
        "--allow-kv-cache-dtype", "fp8", "--manifest",
    ).out  # fmt: skip
    spec = yaml.safe_load(text)["spec"]
    assert spec["model"]["uri"].startswith("hf://")
    assert spec.get("engine", {}).get("kvCacheDtype", "fp8") == "fp8"


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        (("-g", "L4", "--rps", "20", "--ttft", "800ms", "--tpot", "80ms", "--mix-accelerators"), "--mix-accelerators"),
        (("-m", LARGE, "--rps", "6", "--tpot", "40ms", "--variant", "fp8"), "--variant fp8"),
        (("-m", "deepseek-ai/DeepSeek-R1", "-g", "H100", "--rps", "1"), "--pipeline-parallel-size"),
    ],
)
def test_a_manifest_that_the_operator_would_not_follow_is_refused(
    plimsoll: Callable[..., Any], extra: tuple[str, ...], named: str
) -> None:
    ran = plimsoll("recommend", *(() if "-m" in extra else ("-m", MODEL)), "-g", "H100", *extra, "--manifest")
    assert ran.code == 2, ran
    assert named in ran.err


def test_a_manifest_of_your_own_weights_points_at_them(plimsoll: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    text = plimsoll("recommend", "-m", str(tmp_path), "-g", "L4", "--rps", "1", "--manifest").out
    assert yaml.safe_load(text)["spec"]["model"]["uri"] == f"file://{tmp_path}"


def test_a_config_map_in_the_file_is_read(plimsoll: Callable[..., Any], tmp_path: Path) -> None:
    service = {
        "apiVersion": "plimsoll.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": "own"},
        "spec": {
            "model": {"uri": "s3://models/own", "configMap": "own-model"},
            "accelerators": [{"product": "NVIDIA-L4"}],
        },
    }
    facts = {"kind": "ConfigMap", "metadata": {"name": "own-model"}, "data": {"config.json": json.dumps(SMALL)}}
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump_all([service, facts]))
    found = json.loads(plimsoll("recommend", "-f", str(file), "-o", "json").out)
    assert found["accelerator"] == "NVIDIA-L4"


def test_flags_are_the_engines(plimsoll: Callable[..., Any]) -> None:
    text = plimsoll("recommend", "-m", MODEL, "-g", "H100", "--rps", "2", "-tp", "2", "--flags").out
    assert f"vllm serve {MODEL}" in text
    assert "--tensor-parallel-size=2" in text
    assert "--max-num-seqs=" in text


@given(st.text(min_size=1, max_size=80))
def test_a_name_is_one_that_a_service_may_have(model: str) -> None:
    name = service_name(model)
    assert 0 < len(name) <= 40
    assert name[0].isascii()
    assert name[0].isalpha()
    assert all(c.isascii() and (c.isalnum() or c == "-") for c in name)
    assert not name.endswith("-")

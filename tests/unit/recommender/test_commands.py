"""`plimsoll recommend`, `memory` and `predict`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from plimsoll_cli.__main__ import plimsoll
from plimsoll_cli.errors import CommandError

MODEL = "meta-llama/Llama-3.1-8B-Instruct"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(plimsoll, arguments, catch_exceptions=False, env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    return result.output


def test_recommend_explains_every_field() -> None:
    text = run(
        "recommend", "-m", MODEL, "--gpu", "H100", "--gpu", "L4=0.45", "--rps", "4", "--ttft", "800ms", "--tpot", "60ms"
    )
    for word in ("max_num_seqs", "gpu_memory_utilization", "load line", "weights", "Considered"):
        assert word in text


@pytest.mark.parametrize(("form", "parse"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_documents_hold_the_whole_answer(form: str, parse: object) -> None:
    assert callable(parse)
    found = parse(run("recommend", "-m", MODEL, "--gpu", "H100", "--rps", "4", "-o", form))
    assert found["config"]["tensor_parallel_size"] >= 1
    assert found["ledger"]["fits"] is True
    assert found["reasons"][0]["field"] == "accelerator"


def test_the_page_stands_alone(tmp_path: Path) -> None:
    page = tmp_path / "answer.html"
    run("recommend", "-m", MODEL, "--gpu", "H100", "--rps", "4", "--tpot", "50ms", "-o", "html", "--file", str(page))
    text = page.read_text()
    assert "load line" in text
    assert "Memory of one GPU" in text


def test_memory_shows_the_ledger() -> None:
    assert "KV blocks" in run("memory", "-m", "openai/gpt-oss-20b", "--gpu", "H100", "-tp", "2")
    ledger = json.loads(run("memory", "-m", MODEL, "--gpu", "H100", "--weights-gib", "14.99", "-o", "json"))
    assert ledger["weights_gib"] == 14.99


def test_predict_shows_latencies() -> None:
    text = run("predict", "-m", "Qwen/Qwen3-32B", "--gpu", "H100", "-tp", "4", "--concurrency", "64", "--tpot", "30ms")
    assert "TTFT" in text
    assert "limited by" in text


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["recommend", "-m", "no/such", "--gpu", "H100"], 2, "no/such"),
        (["recommend", "-m", MODEL, "--gpu", "H9000"], 2, "H9000"),
        (["recommend", "-m", MODEL, "--gpu", "H100=cheap"], 2, "H100=cheap"),
        (["recommend", "-m", MODEL, "--gpu", "H100", "--rps", "-1"], 2, "requests_per_second"),
        (["recommend", "-m", MODEL, "--gpu", "H100", "--ttft", "1ms"], 1, "ttft"),
        (["recommend", "-m", MODEL, "--gpu", "H100", "-o", "html"], 2, "--file"),
        (["memory", "-m", MODEL, "--gpu", "H100", "-tp", "3"], 2, "tensor_parallel_size"),
        (["memory", "-m", MODEL, "--gpu", "T4"], 1, "GiB"),
        (["predict", "-m", MODEL, "--gpu", "H100", "--gpu-memory-utilization", "2"], 2, "gpu_memory_utilization"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], code: int, named: str) -> None:
    with pytest.raises(CommandError) as refused:
        CliRunner().invoke(plimsoll, arguments, catch_exceptions=False)
    assert refused.value.exit_code == code
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)

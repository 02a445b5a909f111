"""`plimsoll recommend`, `memory` and `predict`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from plimsoll_cli.__main__ import plimsoll

MODEL = "meta-llama/Llama-3.1-8B-Instruct"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(plimsoll, arguments, catch_exceptions=False, env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    return result.output


def test_recommend_explains_every_field() -> None:
    text = run(
        "recommend", "-m", MODEL, "--gpu", "H100", "--gpu", "L4=0.45", "--rps", "4", "--ttft", "800ms", "--tpot", "60ms"
    )
    for word in ("max_num_seqs", "gpu_memory_utilization", "load line", "weights", "Considered", "binds"):
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
    assert "Memory of every GPU" in text


def test_memory_shows_the_ledger() -> None:
    assert "KV blocks" in run("memory", "-m", "openai/gpt-oss-20b", "--gpu", "H100", "-tp", "2")
    ledger = json.loads(run("memory", "-m", MODEL, "--gpu", "H100", "--weights-gib", "14.99", "-o", "json"))
    assert ledger["weights_gib"] == 14.99


def test_predict_shows_latencies() -> None:
    text = run("predict", "-m", "Qwen/Qwen3-32B", "--gpu", "H100", "-tp", "4", "--concurrency", "64", "--tpot", "30ms")
    assert "TTFT" in text
    assert "limited by" in text

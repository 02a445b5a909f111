"""The command line says what the Python contract says: every field has an option, every answer its fields."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from plimsoll_cli.sizing.commands import memory, predict, recommend
from plimsoll_recommender import (
    EngineConfig,
    Limits,
    MemoryLedger,
    ModelFacts,
    Objectives,
    Prediction,
    Recommendation,
    Workload,
    accelerator,
    memory_ledger,
)
from plimsoll_recommender import predict as predict_replica
from plimsoll_recommender import recommend as recommend_fleet
from plimsoll_recommender.observation.corrections import Corrections
from plimsoll_recommender.observation.observe import observe

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
BY_PRODUCT = ("gpus_per_node", "max_gpus", "hourly_cost", "utilization_ceiling", "sequences_ceiling")
PAGE = Path(__file__).parents[3] / "docs" / "flows" / "sizing-report.md"


def names(kind: Any) -> set[str]:
    return {field.name for field in fields(kind)}


def options(command: click.Command) -> set[str]:
    return {parameter.name or "" for parameter in command.params}


@pytest.mark.parametrize(
    ("command", "kinds", "elsewhere"),
    [
        (memory, (EngineConfig,), set()),
        (predict, (EngineConfig, Workload, Objectives), set()),
        # A price is part of --gpu NAME=PRICE.
        (recommend, (Workload, Objectives, Limits), {"hourly_cost"}),
    ],
)
def test_every_field_has_an_option(command: click.Command, kinds: tuple[Any, ...], elsewhere: set[str]) -> None:
    wanted = set().union(*map(names, kinds))
    assert wanted - options(command) == elsewhere


@pytest.mark.parametrize("command", [memory, predict, recommend])
def test_options_are_spelt_as_fields(command: click.Command) -> None:
    known = names(EngineConfig) | names(Workload) | names(Objectives) | names(Limits)
    plural = {"allow_kv_cache_dtypes": "--allow-kv-cache-dtype", "variants": "--variant"}
    for parameter in command.params:
        if parameter.name in known:
            assert plural.get(parameter.name, f"--{parameter.name.replace('_', '-')}") in parameter.opts


def test_defaults_are_the_libraries() -> None:
    for command, kind in ((memory, EngineConfig), (predict, Workload), (recommend, Limits), (predict, Objectives)):
        parsed = dict(command.make_context("x", ["-m", MODEL, "-g", "H100"]).params)
        for field in fields(kind):
            if field.name in parsed and field.name not in ("engine_version", *BY_PRODUCT):
                assert parsed[field.name] == field.default, field.name


def test_memory_gives_the_ledger(plimsoll: Callable[..., Any]) -> None:
    found = json.loads(plimsoll("memory", "-m", MODEL, "-g", "H100", "-tp", "2", "-o", "json").out)
    ledger = memory_ledger(ModelFacts.load(MODEL), accelerator("H100"), EngineConfig(tensor_parallel_size=2))
    assert names(MemoryLedger) <= set(found)
    assert found["kv_cache_blocks"] == ledger.kv_cache_blocks
    assert found["kv_cache_gib"] == pytest.approx(ledger.kv_cache_gib, rel=1e-5)


def test_measured_values_reach_the_ledger(plimsoll: Callable[..., Any]) -> None:
    arguments = ("memory", "-m", MODEL, "-g", "H100", "--weights-gib", "14.99", "--gpu-total-gib", "79.1")
    found = json.loads(plimsoll(*arguments, "-o", "json").out)
    assert (found["weights_gib"], found["gpu_total_gib"]) == (14.99, 79.1)


def test_predict_gives_the_prediction(plimsoll: Callable[..., Any]) -> None:
    found = json.loads(plimsoll("predict", "-m", MODEL, "-g", "H100", "--concurrency", "32", "-o", "json").out)
    known = predict_replica(
        ModelFacts.load(MODEL), accelerator("H100"), EngineConfig(), Workload(concurrency=32), Objectives()
    )
    assert names(Prediction) <= set(found)
    assert found["tpot"]["p95"] == pytest.approx(known.tpot.p95, rel=1e-5)


def test_measured_weights_reach_a_prediction(plimsoll: Callable[..., Any]) -> None:
    arguments = ("predict", "-m", MODEL, "-g", "L4", "--max-model-len", "8192", "--rps", "0.1", "-o", "json")
    estimated = json.loads(plimsoll(*arguments).out)
    heavier = json.loads(plimsoll(*arguments, "--weights-gib", "17").out)
    assert heavier["kv_cache_usage"] > estimated["kv_cache_usage"]


@pytest.mark.parametrize(("form", "parse"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_recommend_gives_the_recommendation(plimsoll: Callable[..., Any], form: str, parse: Any) -> None:
    arguments = ("recommend", "-m", MODEL, "-g", "H100", "-g", "L4=0.4", "--rps", "4", "--tpot", "60ms", "-o", form)
    found = parse(plimsoll(*arguments).out)
    known = recommend_fleet(
        ModelFacts.load(MODEL),
        [accelerator("H100"), accelerator("L4")],
        Workload(requests_per_second=4),
        Objectives(tpot=0.06),
        Limits(hourly_cost={accelerator("L4").product: 0.4}),
    )
    assert names(Recommendation) <= set(found)
    assert found["accelerator"] == known.accelerator.product
    assert found["replicas"] == known.replicas
    assert found["load_line_rps"] == pytest.approx(known.load_line_rps, rel=1e-5)
    assert [reason["field"] for reason in found["reasons"]] == [reason.field for reason in known.reasons]
    assert found["asked"]["limits"]["hourly_cost"] == {"NVIDIA-L4": 0.4}


def test_limits_reach_the_search(plimsoll: Callable[..., Any]) -> None:
    arguments = ("recommend", "-m", MODEL, "-g", "H100", "--rps", "4", "-tp", "2", "--max-num-seqs", "64", "-o", "json")
    found = json.loads(plimsoll(*arguments, "--max-gpus", "H100=4", "--gpus-per-node", "4").out)
    assert (found["config"]["tensor_parallel_size"], found["config"]["max_num_seqs"]) == (2, 64)
    assert found["asked"]["limits"]["max_gpus"] == {"NVIDIA-H100-80GB-HBM3": 4}
    assert found["asked"]["limits"]["gpus_per_node"] == {"NVIDIA-H100-80GB-HBM3": 4}


def test_ceilings_reach_the_search(plimsoll: Callable[..., Any]) -> None:
    arguments = ("recommend", "-m", MODEL, "-g", "H100", "--rps", "4", "-o", "json")
    ceilings = ("--utilization-ceiling", "H100=0.83", "--sequences-ceiling", "H100=16")
    free, held = (json.loads(plimsoll(*arguments, *more).out)["config"] for more in ((), ceilings))
    assert free["gpu_memory_utilization"] > held["gpu_memory_utilization"] == 0.83
    assert free["max_num_seqs"] > held["max_num_seqs"] == 16


def test_every_field_of_an_answer_is_documented(plimsoll: Callable[..., Any]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for arguments in (
        ("memory", "-m", MODEL, "-g", "H100"),
        ("predict", "-m", MODEL, "-g", "H100", "--rps", "1"),
        ("recommend", "-m", MODEL, "-g", "H100", "-g", "L4", "--rps", "1", "--tpot", "90ms"),
    ):
        for path in paths(json.loads(plimsoll(*arguments, "-o", "json").out)):
            assert f"`{path}`" in text, f"{PAGE.name} does not tell of {path}"


def paths(document: Any) -> set[str]:
    """Names of the fields of an answer, at any depth; what was asked for is the input's, and so are its names."""
    if isinstance(document, list):
        return set().union(*map(paths, document))
    if not isinstance(document, dict):
        return set()
    inner = (paths(value) for name, value in document.items() if name not in ("asked", "config", "workload"))
    return set(document).union(*inner)


LOG = (
    "INFO 11-20 10:00:00 [gpu_model_runner.py:1] Model loading took 14.9889 GiB memory and 9.1 seconds\n"
    "INFO 11-20 10:00:01 [gpu_worker.py:1] Available KV cache memory: 50.00 GiB\n"
    "INFO 11-20 10:00:01 [kv_cache_utils.py:1] GPU KV cache size: 409,600 tokens\n"
)
"""An engine whose start-up took some GiB more than is predicted."""


@pytest.fixture
def log(tmp_path: Path) -> str:
    file = tmp_path / "engine.log"
    file.write_text(LOG)
    return str(file)


def test_an_engine_log_corrects_the_ledger(plimsoll: Callable[..., Any], log: str) -> None:
    arguments = ("memory", "-m", MODEL, "-g", "H100", "--engine-version", "0.19.0", "-o", "json")
    plain = json.loads(plimsoll(*arguments).out)
    corrected = json.loads(plimsoll(*arguments, "--observed", log).out)
    assert corrected["observed"]
    assert abs(corrected["kv_cache_gib"] - 50.0) < 0.5 * abs(plain["kv_cache_gib"] - 50.0)


def test_an_engine_log_corrects_a_recommendation_and_a_prediction(plimsoll: Callable[..., Any], log: str) -> None:
    for arguments, field in (
        (("recommend", "-m", MODEL, "-g", "H100", "--rps", "4", "--tpot", "50ms"), ("ledger", "kv_cache_gib")),
        (("predict", "-m", MODEL, "-g", "H100", "--rps", "4"), ("kv_cache_usage",)),
    ):
        values = []
        for extra in ((), ("--observed", log)):
            found = json.loads(plimsoll(*arguments, "--engine-version", "0.19.0", *extra, "-o", "json").out)
            for name in field:
                found = found[name]
            values.append(found)
        assert values[0] != values[1]


def test_corrections_of_before_are_read(plimsoll: Callable[..., Any], log: str, tmp_path: Path) -> None:
    facts, gpu = ModelFacts.load(MODEL), accelerator("H100")
    seen = observe(LOG, facts=facts, gpu=gpu, config=EngineConfig(engine_version="0.19.0"))
    file = tmp_path / "corrections.json"
    file.write_text(Corrections().with_observation(seen).dumps())
    arguments = ("memory", "-m", MODEL, "-g", "H100", "--engine-version", "0.19.0", "-o", "json")
    kept, direct = (json.loads(plimsoll(*arguments, "--observed", name).out) for name in (str(file), log))
    assert kept == direct


def test_a_log_needs_one_gpu_and_something_of_the_engine(
    plimsoll: Callable[..., Any], log: str, tmp_path: Path
) -> None:
    ran = plimsoll("recommend", "-m", MODEL, "-g", "H100", "-g", "L4", "--observed", log)
    assert (ran.code, "--observed" in ran.err) == (2, True)
    other = tmp_path / "other.log"
    for text in ("nothing to see\n", "{}", "{", '{"format": 9}'):
        other.write_text(text)
        ran = plimsoll("memory", "-m", MODEL, "-g", "H100", "--observed", str(other))
        assert (ran.code, "--observed" in ran.err, len(ran.err.splitlines())) == (2, True, 1)

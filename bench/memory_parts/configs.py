"""Every published config.json of the data set: read exactly, read in part, or refused."""

from __future__ import annotations

import json
from pathlib import Path

from bench.figures import Figure

from plimsoll_recommender import EngineConfig, ModelFacts, RecommenderError, accelerator, memory_ledger
from plimsoll_recommender.facts.quantization import with_quantization


def config_figures(data: Path) -> list[Figure]:
    """How many configurations are understood, and the reasons for those that are approximated."""
    files = [file for file in sorted((data / "model_configs").glob("*_config.json")) if "hf_quant" not in file.name]
    exact, approximated, refused = [], {}, {}
    for file in files:
        name = file.name.removesuffix("_config.json").replace("--", "/")
        try:
            facts = _facts(file, name)
            memory_ledger(
                facts, accelerator("H200"), EngineConfig(max_model_len=min(8192, facts.max_position_embeddings))
            )
        except RecommenderError as error:
            refused[name] = str(error)
            continue
        if facts.approximate:
            approximated[name] = facts.approximate
        else:
            exact.append(name)
    reasons = "; ".join(sorted(set(approximated.values()))) or "none"
    worst = next(iter(refused.values()), "none")
    detail = f"of {len(files)} config.json"
    return [
        Figure("published configurations read exactly", len(exact), "configs", None, ">=", detail),
        Figure("published configurations read in part", len(approximated), "configs", None, "<=", reasons),
        Figure("published configurations refused", len(refused), "configs", 0, "==", worst),
    ]


def _facts(file: Path, name: str) -> ModelFacts:
    beside = file.with_name(file.name.replace("_config.json", "_hf_quant_config.json"))
    quantization = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else None
    return ModelFacts.from_hf_config(
        with_quantization(json.loads(file.read_text(encoding="utf-8")), quantization), name=name
    )

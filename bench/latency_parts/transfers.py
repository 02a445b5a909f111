"""Predictions for GPUs and engines that no run of the fit was measured on."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from plimsoll_recommender import (
    EngineConfig,
    ModelFacts,
    RecommenderError,
    StepTimeModel,
    Workload,
    accelerator,
    predict,
)

ARGONNE: Final = {
    "Nvidia A100 GPU": "A100-40GB",
    "Nvidia H100 GPU": "H100",
    "Nvidia GH200 GPU": "GH200",
    "AMD MI300X GPU": "MI300X",
    "AMD MI250 GPU": "MI250X",
}
"""Hardware of LLM-Inference-Bench and its accelerator; Argonne's A100 nodes have 40 GB."""

RELEASE_2024: Final = "0.6.0"
"""vLLM of the runs of 2024: host and GPU take turns."""

MOST_BANDWIDTH: Final = 1.0
"""Rows that would have read the weights faster than the datasheet's bandwidth are no measurements of vLLM."""


@dataclass(frozen=True)
class Check:
    """A figure predicted and measured, in seconds, of one kind of machine."""

    source: str
    machine: str
    what: str
    predicted: float
    measured: float


def _load(name: str, known: dict[str, ModelFacts | None]) -> ModelFacts | None:
    if name not in known:
        try:
            known[name] = ModelFacts.load(name)
        except RecommenderError:
            known[name] = None
    return known[name]


def argonne(data: Path) -> Iterator[Check]:
    """Latency of fixed batches, all prompts and then all outputs of one length (LLM-Inference-Bench, vLLM of 2024)."""
    known: dict[str, ModelFacts | None] = {}
    with (data / "perf" / "llm_inference_bench" / "All_results.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            product, facts = ARGONNE.get(row["Hardware"]), _load(row["Model"], known)
            if row["Framework"] != "vLLM" or product is None or facts is None or not row["Latency"]:
                continue
            batch, length, ranks = int(row["Batch Size"]), int(row["Input Output Length"]), int(row["Num of Hardware"])
            gpu, measured = accelerator(product), float(row["Latency"])
            config = EngineConfig(tensor_parallel_size=ranks, engine_version=RELEASE_2024)
            try:
                model = StepTimeModel.for_engine(facts, gpu, config)
            except RecommenderError:
                continue
            read = 2 * facts.active_parameters * length / measured / ranks
            if read > MOST_BANDWIDTH * gpu.memory_bandwidth:
                continue
            decode = length * model.mixed_seconds(0.0, 0.0, batch, 1.5 * length)
            yield Check(
                "LLM-Inference-Bench",
                product,
                "batch latency",
                model.mixed_seconds(batch * length, length / 2, 0.0, 0.0, batch) + decode,
                measured,
            )


def splitwise(data: Path) -> Iterator[Check]:
    """Prompt and token times of one batch (Splitwise's performance model, Llama-2-70B, vLLM of 2023)."""
    facts = ModelFacts.load("meta-llama/Llama-2-70b-hf")
    machines = {"a100-80gb": "A100", "h100-80gb": "H100"}
    with (data / "perf" / "splitwise" / "perf_model.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["model"] != "llama2-70b" or row["hardware"] not in machines:
                continue
            product = machines[row["hardware"]]
            config = EngineConfig(tensor_parallel_size=int(row["tensor_parallel"]), engine_version=RELEASE_2024)
            model = StepTimeModel.for_engine(facts, accelerator(product), config)
            batch, prompt, output = int(row["batch_size"]), int(row["prompt_size"]), int(row["token_size"])
            token = model.mixed_seconds(0.0, 0.0, batch, prompt + output / 2)
            whole = model.mixed_seconds(batch * prompt, prompt / 2, 0.0, 0.0, batch)
            yield Check("Splitwise", product, "token time", token, float(row["token_time"]) / 1000)
            yield Check("Splitwise", product, "prompt time", whole, float(row["prompt_time"]) / 1000)


def kaito(data: Path) -> Iterator[Check]:
    """TPOT of Phi-4-mini under Poisson arrivals on one A10 (KAITO's GuideLLM runs); saturated runs are left out."""
    facts = ModelFacts.load("microsoft/Phi-4-mini-instruct")
    file = data / "perf" / "kaito" / "kaito_phi4mini_a10_a100_guidellm_summary.csv"
    with file.open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if not row["tpot_ms"] or row["gpu"] != "a10":
                continue
            prompt, output = float(row["in_tok"]), float(row["out_tok"])
            workload = Workload(
                prompt,
                output,
                requests_per_second=float(row["rps"]),
                input_tokens_p95=prompt,
                output_tokens_p95=output,
            )
            found = predict(
                facts, accelerator("A10"), EngineConfig(engine_version="0.9.0", max_model_len=4096), workload
            )
            if not found.saturated and float(row["rps"]) > 0.9 * float(row["name"].partition("@")[2]):
                yield Check("KAITO", "A10", "TPOT", found.tpot.mean, float(row["tpot_ms"]) / 1000)


def by_machine(checks: Sequence[Check]) -> dict[tuple[str, str, str], list[float]]:
    """ln(predicted / measured) by source, machine and quantity."""
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for check in checks:
        found[check.source, check.machine, check.what].append(math.log(check.predicted / check.measured))
    return found

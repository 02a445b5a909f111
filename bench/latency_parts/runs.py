"""The measured runs of vLLM, as they were launched, and how far a prediction of each is off."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from plimsoll_recommender import Accelerator, EngineConfig, ModelFacts, RecommenderError, Workload, accelerator
from plimsoll_recommender.latency.efficiency import Efficiency
from plimsoll_recommender.latency.predict import closed_loop
from plimsoll_recommender.latency.replica import Replica
from plimsoll_recommender.memory.ledger import MemoryLedger

SYSTEMS: Final = {"h100_sxm": "H100", "b200_sxm": "B200"}
"""Systems of the data set that vLLM was measured on."""

MEAN_LENGTH: Final = 0.9
P95_LENGTH: Final = 0.99
"""Mean and 95th percentile of lengths over those stated: drawn evenly from 0.8 to 1 (`--random-range-ratio 0.8`)."""

FIXED_LENGTHS: Final = "Qwen/Qwen3-32B"
"""The model whose runs are not InferenceMAX's: their requests are all as long as stated."""


@dataclass(frozen=True)
class Launch:
    """How the runs of a model were launched (InferenceMAX's launch scripts, Apache-2.0).

    Args:
        checkpoint: the model that was served.
        release: release of vLLM that does by default what the flags asked for; empty when it is the row's own.
        kv_cache_dtype: type of the KV cache.
        gpu_memory_utilization: share of the memory given to vLLM.
    """

    checkpoint: str
    release: str = ""
    kv_cache_dtype: str = "auto"
    gpu_memory_utilization: float = 0.9


SYNTHETIC_FP4: Final = "meta-llama/Llama-3.1-70B in NVFP4"
"""A checkpoint whose config.json is not among the data: Llama-3.1-70B's, quantised as NVIDIA quantises to NVFP4."""

LAUNCHES: Final = {
    ("h100_sxm", "Qwen/Qwen3-32B", ""): Launch("Qwen/Qwen3-32B"),
    # Asynchronous scheduling was asked for before it was the default.
    ("h100_sxm", "meta-llama/Llama-3.1-70B", "fp8"): Launch("nvidia/Llama-3.1-70B-Instruct-FP8", "0.14.0", "fp8"),
    # And on B200 all-reduces fused with the norms, too.
    ("b200_sxm", "meta-llama/Llama-3.1-70B", "fp8"): Launch("nvidia/Llama-3.1-70B-Instruct-FP8", "0.19.0", "fp8"),
    ("b200_sxm", "meta-llama/Llama-3.1-70B", "fp4"): Launch(SYNTHETIC_FP4, "0.19.0", "fp8"),
    ("b200_sxm", "openai/gpt-oss-120b", "fp4"): Launch("openai/gpt-oss-120b", "0.19.0", "fp8"),
    ("h100_sxm", "MiniMaxAI/MiniMax-M2.5", "fp8"): Launch("MiniMaxAI/MiniMax-M2.5"),
    ("b200_sxm", "MiniMaxAI/MiniMax-M2.5", "fp8"): Launch("MiniMaxAI/MiniMax-M2.5", gpu_memory_utilization=0.95),
    ("b200_sxm", "MiniMaxAI/MiniMax-M2.5", "fp4"): Launch("nvidia/MiniMax-M2.5-NVFP4"),
}

NIGHTLY: Final = "0.19.0"
"""The release after the nightly build that some runs used."""


@dataclass(frozen=True)
class Run:
    """One measured run and what is needed to predict it; times in seconds."""

    model: str
    system: str
    release: str
    gpu: Accelerator
    facts: ModelFacts
    config: EngineConfig
    workload: Workload
    ledger: MemoryLedger
    ttft: float
    tpot: float

    def residuals(self, efficiency: Efficiency | None) -> tuple[float, float | None]:
        """ln(predicted / measured) of TPOT and TTFT; no TTFT where requests wait for a slot."""
        replica = Replica.of(
            self.facts, self.gpu, self.config, self.workload, ledger=self.ledger, efficiency=efficiency
        )
        assert self.workload.concurrency is not None
        found = closed_loop(replica, self.workload.concurrency, 0.0)
        ttft = None if found.saturated else math.log(found.ttft.mean / self.ttft)
        return math.log(found.tpot.mean / self.tpot), ttft


def measured_runs(data: Path, skipped: list[str], *, data_parallel: bool = False) -> list[Run]:
    """Runs of vLLM that are predicted, those with data-parallel attention only when asked for."""
    runs, unused = [], 0
    models: dict[str, ModelFacts] = {}
    with (data / "perf" / "measured_ttft_tpot.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["backend"] != "vllm":
                continue
            run = _run_of(row, data, models)
            if run is None or (run.config.data_parallel_size > 1 and not data_parallel):
                unused += 1
            else:
                runs.append(run)
    without = "" if data_parallel else "data-parallel attention, "
    skipped.append(f"{unused} vLLM rows: {without}several replicas behind a router, or that we say do not fit")
    return runs


def _facts(checkpoint: str, data: Path) -> ModelFacts:
    if checkpoint != SYNTHETIC_FP4:
        return ModelFacts.load(checkpoint)
    file = data / "model_configs" / "meta-llama--Meta-Llama-3.1-70B_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    settings = {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "group_size": 16, "exclude_modules": ["lm_head"]}
    return ModelFacts.from_hf_config(config | {"quantization_config": {"quantization": settings}}, name=checkpoint)


def _run_of(row: dict[str, str], data: Path, models: dict[str, ModelFacts]) -> Run | None:
    launch = LAUNCHES.get((row["system"], row["model_path"], row["precision"]))
    # An expert-parallel size of 0 marks runs of a whole deployment.
    if launch is None or row["moe_ep_size"] == "0":
        return None
    facts = models.get(launch.checkpoint) or models.setdefault(launch.checkpoint, _facts(launch.checkpoint, data))
    mean, p95 = (1.0, 1.0) if row["model_path"] == FIXED_LENGTHS else (MEAN_LENGTH, P95_LENGTH)
    prompt, output = int(row["isl"]), int(row["osl"])
    ranks = int(row["attention_dp_size"] or 1)
    gpu = accelerator(SYSTEMS[row["system"]])
    release = row["backend_version"] if row["backend_version"].startswith("0.") else NIGHTLY
    config = EngineConfig(
        # With data-parallel attention the size stated is that of the group: its ranks are single GPUs.
        tensor_parallel_size=1 if ranks > 1 else int(row["tp_size"]),
        data_parallel_size=ranks,
        expert_parallel=int(row["moe_ep_size"] or 1) > 1,
        engine_version=launch.release or release,
        max_model_len=prompt + output + 200,
        max_num_seqs=1024,
        max_num_batched_tokens=8192,
        gpu_memory_utilization=launch.gpu_memory_utilization,
        kv_cache_dtype=launch.kv_cache_dtype,
    )
    workload = Workload(
        prompt * mean,
        output * mean,
        concurrency=int(row["batch_size"]),
        input_tokens_p95=prompt * p95,
        output_tokens_p95=output * p95,
    )
    try:
        replica = Replica.of(facts, gpu, config, workload)
    except RecommenderError:
        return None
    ttft, tpot = float(row["silicon_ttft_ms"]) / 1000, float(row["silicon_tpot_ms"]) / 1000
    version = row["backend_version"] or "unknown"
    return Run(
        launch.checkpoint, row["system"], version, gpu, facts, replica.config, workload, replica.ledger, ttft, tpot
    )

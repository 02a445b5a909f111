"""Runs in vLLM's own environment: its code lays out the KV caches of the cases on stdin, and says what it would log.

Each case is JSON: `layers` (with the stage each is on), `available` (bytes per stage), `max_model_len`, `in_flight`,
`speculative`. Answers, one per case: blocks, tokens and concurrency as logged, or the refusal.
"""

from __future__ import annotations

import json
import math
import re
import sys
from types import SimpleNamespace
from typing import Any

import torch
from vllm.model_executor.layers.mamba.mamba_utils import MambaStateShapeCalculator as Shapes
from vllm.v1.core import kv_cache_utils
from vllm.v1.kv_cache_interface import (
    ChunkedLocalAttentionSpec,
    FullAttentionSpec,
    MambaSpec,
    MLAAttentionSpec,
    SlidingWindowSpec,
)
from vllm.v1.kv_cache_layout import KVCacheLayout

TYPES = {1: torch.uint8, 2: torch.bfloat16, 4: torch.float32}


def state_spec(layer: dict[str, Any], tensor: int, drafted: int) -> MambaSpec:
    """The recurrent layer's spec, its shapes from vLLM's own calculator."""
    given = layer["shape"]
    if layer["state"] == "delta":
        shapes = Shapes.gated_delta_net_state_shape(tensor, **given, num_spec=drafted)
    else:
        shapes = Shapes.mamba2_state_shape(tensor, **given, num_spec=drafted)
    types = (torch.bfloat16, TYPES[layer["state_bytes"]])
    return MambaSpec(
        block_size=16, shapes=shapes, dtypes=types, mamba_cache_mode="align", num_speculative_blocks=drafted
    )


def token_spec(layer: dict[str, Any], block: int) -> Any:
    """An attention layer's spec."""
    common = {"block_size": block, "dtype": TYPES[layer["bytes"]], "num_kv_heads": layer["heads"]}
    if layer["kind"] == "mla":
        return MLAAttentionSpec(**common, head_size=layer["key"], state_content_bytes=layer.get("content"))
    sizes = {"head_size": layer["key"], "head_size_v": layer["value"]}
    if layer["kind"] == "sliding":
        return SlidingWindowSpec(**common, **sizes, sliding_window=layer["window"])
    if layer["kind"] == "chunked":
        return ChunkedLocalAttentionSpec(**common, **sizes, attention_chunk_size=layer["window"])
    return FullAttentionSpec(**common, **sizes)


def block_of(case: dict[str, Any], states: list[MambaSpec]) -> int:
    """Tokens of an attention block, by the rule of `Platform._align_hybrid_block_size`."""
    block = 64 if any(layer["kind"] == "mla" and layer.get("sparse") for layer in case["layers"]) else 16
    attention = [layer for layer in case["layers"] if layer["kind"] in ("full", "mla")]
    if not states or not attention:
        return block
    one: int = token_spec(attention[0], 1).page_size_bytes
    align: int = max(block, 128 if attention[0]["kind"] == "mla" else 16)
    largest: int = max(state.page_size_bytes for state in states)
    return max(block, align * math.ceil(largest / (align * one)))


def specs_of(case: dict[str, Any]) -> list[dict[str, Any]]:
    """The specs of every stage, recurrent pages padded to those of attention as the platform does."""
    states = [state_spec(x, case["tensor"], case["speculative"]) for x in case["layers"] if x["kind"] == "state"]
    block = block_of(case, states)
    padded = 0
    if states:
        attention = [layer for layer in case["layers"] if layer["kind"] in ("full", "mla")]
        padded = token_spec(attention[0], block).page_size_bytes
    stages: list[dict[str, Any]] = [{} for _ in case["available"]]
    for number, layer in enumerate(case["layers"]):
        if layer["kind"] == "state":
            spec = state_spec(layer, case["tensor"], case["speculative"])
            object.__setattr__(spec, "page_size_padded", padded)
            object.__setattr__(spec, "block_size", block)
        else:
            spec = token_spec(layer, block)
        stages[layer["stage"]][f"layers.{number}.attn"] = spec
        if layer.get("sparse"):
            indexer = MLAAttentionSpec(block_size=block, num_kv_heads=1, head_size=layer["sparse"], dtype=torch.uint8)
            stages[layer["stage"]][f"layers.{number}.indexer"] = indexer
    return stages


def answer(case: dict[str, Any]) -> dict[str, Any]:
    """What vLLM would log of a case."""
    config: Any = SimpleNamespace(
        scheduler_config=SimpleNamespace(disable_hybrid_kv_cache_manager=False),
        attention_config=SimpleNamespace(hisparse_config=None),
        cache_config=SimpleNamespace(
            get_resolved_kv_cache_layout=lambda: KVCacheLayout.LBNHC,
            num_gpu_blocks_override=None,
            prefix_cache_retention_interval=None,
            mamba_cache_mode="align",
        ),
        model_config=SimpleNamespace(max_model_len=case["max_model_len"], original_max_model_len=case["max_model_len"]),
        parallel_config=SimpleNamespace(
            decode_context_parallel_size=1, tensor_parallel_size=case["tensor"], pipeline_parallel_size=1
        ),
        speculative_config=None,
        num_prefill_lookahead_tokens=0,
        max_in_flight_tokens=case["in_flight"],
    )
    try:
        made = kv_cache_utils.get_kv_cache_configs(config, specs_of(case), case["available"])
    except ValueError as error:
        longest = re.search(r"estimated maximum model length is (\d+)", str(error))
        return {"refused": int(longest.group(1)) if longest else 0}
    tokens, concurrency = kv_cache_utils.get_kv_cache_capacity(config, made[0])
    return {"blocks": made[0].num_blocks, "tokens": tokens, "concurrency": concurrency}


def main() -> None:
    """Answer every case."""
    answers = [answer(case) for case in json.load(sys.stdin)]
    sys.stdout.write("\n" + json.dumps(answers) + "\n")


if __name__ == "__main__":
    main()

"""Runs in vLLM's own environment: its model classes say what they hold and cache, its code lays the caches out.

Models are built on torch's meta device, where tensors have shapes and no memory, so the largest takes a second. What
depends on the CPU build (block sizes, the type of recurrent states) is set to what GPUs have. Cases are JSON on stdin:
`config` (a config.json), `tensor`, `available` (bytes for the KV cache); a line of JSON per case comes back.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from vllm.config import get_layers_from_vllm_config, set_current_vllm_config
from vllm.distributed import parallel_state
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.model_executor.models import registry
from vllm.platforms import current_platform
from vllm.utils.torch_utils import set_default_torch_dtype
from vllm.v1.attention.backend import MultipleOf
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend
from vllm.v1.core import kv_cache_utils

BLOCK = 16
BATCHED_TOKENS = 8192

# The CPU build keeps states of gated delta nets in float32 where the processor has instructions for it.
torch.cpu._is_avx512_bf16_supported = lambda: False
# Model classes are looked at in this process: another would import everything anew for each.
registry._run_in_subprocess = lambda look: look()
# Block sizes of GPUs: multiples of 16.
type(current_platform)._find_non_ssm_backends = classmethod(lambda cls, config: [])
CPUAttentionBackend.get_supported_kernel_block_sizes = staticmethod(lambda *backend: [MultipleOf(BLOCK)])


class GpuBackend:
    """What the layout asks an attention backend: the sizes of blocks that its kernels take."""

    @staticmethod
    def get_supported_kernel_block_sizes() -> list[int]:
        """Multiples of this."""
        return [BLOCK]

    @staticmethod
    def customize_spec(spec: Any) -> Any:
        """The spec as it is."""
        return spec


def settings(config: dict[str, Any], tensor: int, folder: Path) -> Any:
    """vLLM's configuration of a model."""
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    arguments = EngineArgs(
        model=str(folder),
        skip_tokenizer_init=True,
        load_format="dummy",
        dtype="bfloat16",
        enforce_eager=True,
        block_size=BLOCK,
        max_num_batched_tokens=BATCHED_TOKENS,
    )
    made = arguments.create_engine_config()
    made.parallel_config.tensor_parallel_size = tensor
    made.cache_config.block_size = BLOCK
    made.cache_config.kv_cache_layout = "LBNHC"
    made.scheduler_config.disable_hybrid_kv_cache_manager = False
    return made


def answer(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Bytes of parameters on one GPU, and the KV cache that the memory holds."""
    made = settings(case["config"], case["tensor"], folder)
    with set_current_vllm_config(made):
        if parallel_state._TP is None:
            parallel_state.init_distributed_environment(1, 0, f"file://{folder}/group", 0, "gloo")
            parallel_state.initialize_model_parallel(1, 1)
            # It is made with the first model only when that has experts.
            parallel_state._EP = parallel_state._EP or parallel_state._DP
        parallel_state._TP.world_size = case["tensor"]
        if made.model_config.is_hybrid:
            current_platform._align_hybrid_block_size(made, GpuBackend)
        with set_default_torch_dtype(torch.bfloat16), torch.device("meta"):
            model = initialize_model(made)
        layers = get_layers_from_vllm_config(made, AttentionLayerBase)
        kept = {
            name: layer for name, layer in layers.items() if not getattr(layer, "kv_sharing_target_layer_name", None)
        }
        specs = {name: layer.get_kv_cache_spec(made) for name, layer in kept.items()}
        cache = kv_cache_utils.get_kv_cache_configs(made, [specs], [case["available"]])[0]
    held = {id(one): one.numel() * one.element_size() for one in model.parameters()}
    return {
        "weights": sum(held.values()),
        "blocks": cache.num_blocks,
        "tokens_per_block": [group.kv_cache_spec.block_size for group in cache.kv_cache_groups],
        "layers_per_group": [len(group.layer_names) for group in cache.kv_cache_groups],
    }


def main() -> None:
    """Answer every case."""
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(json.load(sys.stdin)):
            place = Path(folder) / str(number)
            place.mkdir()
            print(json.dumps(answer(case, place)), flush=True)


if __name__ == "__main__":
    main()

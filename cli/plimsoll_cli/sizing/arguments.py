"""A recommended configuration as the engine's own command line."""

from __future__ import annotations

import json
import shlex
from typing import Final

from plimsoll_recommender import EngineConfig

_VALUES: Final = (
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "max_num_seqs",
    "max_num_batched_tokens",
    "gpu_memory_utilization",
    "max_model_len",
    "dtype",
    "quantization",
    "kv_cache_dtype",
    "block_size",
)
"""Fields that are a flag of the same name with a value."""

_SILENT: Final = {"pipeline_parallel_size": 1, "data_parallel_size": 1, "dtype": "auto"}
"""Values that the engine has by itself and that say nothing."""


def engine_arguments(config: EngineConfig) -> list[str]:
    """vLLM's flags of a configuration, each `--flag=value`."""
    arguments = []
    for name in _VALUES:
        value = getattr(config, name)
        if value is not None and _SILENT.get(name) != value:
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            arguments.append(f"--{name.replace('_', '-')}={shown}")
    if config.expert_parallel:
        arguments.append("--enable-expert-parallel")
    if config.enforce_eager:
        arguments.append("--enforce-eager")
    if config.max_loras:
        arguments += ["--enable-lora", f"--max-loras={config.max_loras}", f"--max-lora-rank={config.max_lora_rank}"]
    if not config.enable_prefix_caching:
        arguments.append("--no-enable-prefix-caching")
    if config.mm_encoder_tp_mode != "weights":
        arguments.append(f"--mm-encoder-tp-mode={config.mm_encoder_tp_mode}")
    if config.num_speculative_tokens:
        drafter = {"method": config.speculative_method} if config.speculative_method else {}
        drafter_settings = {**drafter, "num_speculative_tokens": config.num_speculative_tokens}
        arguments.append(f"--speculative-config={json.dumps(drafter_settings)}")
    return arguments


def serve_command(model: str, config: EngineConfig) -> str:
    """The command that starts one replica, quoted for a shell."""
    return " \\\n  ".join([f"vllm serve {shlex.quote(model)}", *map(shlex.quote, engine_arguments(config))])


def short_name(text: str) -> str:
    """A text with accelerators named without their maker, where room is short."""
    return text.replace("NVIDIA-", "").replace("AMD-", "")

"""Labels of `vllm:cache_config_info`: every field of vLLM 0.32's CacheConfig, as text."""

from __future__ import annotations

from plimsoll_runtime.engine.settings import Settings
from plimsoll_runtime.engine.sizing import Plan


def labels(settings: Settings, plan: Plan) -> dict[str, str]:
    """The labels, in vLLM's order; what the simulation has no notion of has its default."""
    values: dict[str, object] = {
        "_block_size_resolved": True,
        "block_size": plan.scheduler.block_size,
        "cache_dtype": settings.kv_cache_dtype,
        "cache_hit_alignment_tokens": None,
        "effective_attention_block_size": plan.scheduler.block_size,
        "enable_mamba_shared_prefix_checkpoint": False,
        "enable_prefix_caching": settings.enable_prefix_caching,
        "gpu_memory_utilization": plan.config.gpu_memory_utilization,
        "hash_block_size": None,
        "is_attention_free": False,
        "kv_cache_dtype_skip_layers": [],
        "kv_cache_layout": None,
        "kv_cache_max_concurrency": plan.max_concurrency,
        "kv_cache_memory_bytes": None,
        "kv_cache_size_tokens": plan.kv_cache_tokens,
        "kv_offloading_backend": "native",
        "kv_offloading_size": None,
        "kv_sharing_fast_prefill": False,
        "mamba_block_size": None,
        "mamba_cache_dtype": "auto",
        "mamba_cache_mode": "none",
        "mamba_page_size_padded": None,
        "mamba_ssm_cache_dtype": "auto",
        "num_cpu_blocks": None,
        "num_gpu_blocks": plan.total_blocks,
        "num_gpu_blocks_override": settings.num_gpu_blocks_override,
        "prefix_cache_retention_interval": 0,
        "prefix_caching_hash_algo": "sha256",
        "prefix_match_unit": None,
        "replayssm_buffer_len": 16,
        "skip_page_size_padded": None,
        "sliding_window": None,
        "swa_bounded_replay": True,
        "use_kda_recoverssm": False,
        "use_replayssm": False,
        "user_specified_block_size": settings.block_size is not None,
    }
    return {name: str(value) for name, value in values.items()}

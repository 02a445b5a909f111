"""The engine arguments that decide memory and speed, as vLLM names them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Final

from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.facts.fields import is_real, shown

DEFAULT_ENGINE_VERSION: Final = "0.32.0"
"""vLLM release assumed when none is named: the oldest without a known advisory for untrusted clients."""

KV_CACHE_DTYPES: Final = (
    "auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2", "int8", "nvfp4", "fp8_per_token_head",
    "int8_per_token_head", "int4_per_token_head", "fp8_ds_mla", "nvfp4_ds_mla",
)  # fmt: skip
"""Values of --kv-cache-dtype that are understood."""

SPECULATIVE_METHODS: Final = (None, "mtp", "eagle", "eagle3", "draft_model", "ngram")
"""Drafters that are told apart: the model's own layers, a head on the model, a model of its own, no model."""

MOST_SETTING: Final = 1_000_000_000
"""No whole-number setting can be larger: it would be a typing error."""

ENCODER_MODES: Final = ("weights", "data")
"""Values of --mm-encoder-tp-mode."""

DTYPES: Final = ("auto", "bfloat16", "float16", "half", "float32", "float")
"""Values of --dtype that are understood."""


def version_of(text: str) -> tuple[int, int, int]:
    """(major, minor, patch) of a release such as `0.19.0`, `v0.32.0rc1` or `0.21`.

    Raises:
        RecommenderError: when it does not start with two numbers.
    """
    if not isinstance(text, str):
        raise RecommenderError(f"engine_version must be a text such as {DEFAULT_ENGINE_VERSION}, got {shown(text)}")
    return _numbers(text)


@lru_cache(maxsize=256)
def _numbers(text: str) -> tuple[int, int, int]:
    """`version_of` a text; a search asks for the same one thousands of times."""
    parts = text.strip().removeprefix("v").split(".")
    numbers: list[int] = []
    for part in parts[:3]:
        digits = ""
        for character in part:
            if not character.isdigit():
                break
            digits += character
        if not digits:
            break
        numbers.append(int(digits))
    if len(numbers) < 2:
        raise RecommenderError(
            f"engine_version {shown(text)} is not a release: write it as in {DEFAULT_ENGINE_VERSION}"
        )
    return (numbers[0], numbers[1], numbers[2] if len(numbers) > 2 else 0)


@dataclass(frozen=True)
class EngineConfig:
    """Engine arguments; every one is optional, and None means what the engine itself would choose on that GPU.

    Args:
        tensor_parallel_size: GPUs each layer is split over.
        pipeline_parallel_size: stages the layers are split into.
        data_parallel_size: copies of the model inside one replica.
        expert_parallel: place whole experts on GPUs instead of splitting every expert.
        max_num_seqs: most sequences in one step.
        max_num_batched_tokens: most tokens in one step.
        gpu_memory_utilization: share of the GPU's memory that the engine may take (0 to 1).
        max_model_len: longest prompt plus output, in tokens.
        dtype: type of weights and activations; `auto` is the checkpoint's.
        quantization: quantisation done at load time (such as `fp8`); None keeps the checkpoint's.
        kv_cache_dtype: type of the KV cache; `auto` is the model's.
        enforce_eager: no CUDA graphs.
        block_size: tokens of a KV block.
        max_loras, max_lora_rank: adapters resident at once, and their rank; 0 adapters is none.
        num_speculative_tokens: tokens drafted per step.
        speculative_method: which drafter; None is the model's own layers where it has them.
        draft_weights_gib: weights of the drafter, GiB per GPU, when known.
        enable_prefix_caching: keep what prompts have in common; recurrent layers then keep a second state each.
        mm_encoder_tp_mode: image encoder divided over the GPUs (`weights`) or whole on each (`data`).
        engine: `vllm`.
        engine_version: release of the engine, which decides several memory rules.

    Raises:
        RecommenderError: a value that the engine would refuse whatever the model.
    """

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    expert_parallel: bool = False
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float | None = None
    max_model_len: int | None = None
    dtype: str = "auto"
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    enforce_eager: bool = False
    block_size: int | None = None
    max_loras: int = 0
    max_lora_rank: int = 16
    num_speculative_tokens: int = 0
    speculative_method: str | None = None
    draft_weights_gib: float = 0.0
    enable_prefix_caching: bool = True
    mm_encoder_tp_mode: str = "weights"
    engine: str = "vllm"
    engine_version: str = DEFAULT_ENGINE_VERSION

    def __post_init__(self) -> None:
        for field in ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"):
            _at_least(field, getattr(self, field), 1)
        for field in ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "block_size"):
            value = getattr(self, field)
            if value is not None:
                _at_least(field, value, 1)
        for field in ("max_loras", "max_lora_rank", "num_speculative_tokens"):
            _at_least(field, getattr(self, field), 0)
        share = self.gpu_memory_utilization
        if share is not None and not (is_real(share) and 0 < share <= 1):
            raise RecommenderError(f"gpu_memory_utilization must be above 0 and at most 1, got {shown(share)}: try 0.9")
        if not (is_real(self.draft_weights_gib) and self.draft_weights_gib >= 0):
            raise RecommenderError(f"draft_weights_gib must not be negative, got {shown(self.draft_weights_gib)}")
        for field in ("expert_parallel", "enforce_eager", "enable_prefix_caching"):
            if not isinstance(getattr(self, field), bool):
                raise RecommenderError(f"{field} must be true or false, got {shown(getattr(self, field))}")
        if self.quantization is not None and not isinstance(self.quantization, str):
            raise RecommenderError(f"quantization must be a name such as fp8, got {shown(self.quantization)}")
        _one_of("dtype", self.dtype, DTYPES)
        _one_of("kv_cache_dtype", self.kv_cache_dtype, KV_CACHE_DTYPES)
        _one_of("speculative_method", self.speculative_method, SPECULATIVE_METHODS)
        _one_of("mm_encoder_tp_mode", self.mm_encoder_tp_mode, ENCODER_MODES)
        _one_of("engine", self.engine, ("vllm",))
        version_of(self.engine_version)
        _batch_order(self.max_num_batched_tokens, self.max_num_seqs)

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.tensor_parallel_size * self.pipeline_parallel_size * self.data_parallel_size

    @property
    def version(self) -> tuple[int, int, int]:
        """Release of the engine as numbers."""
        return version_of(self.engine_version)


@dataclass(frozen=True)
class ResolvedConfig(EngineConfig):
    """An `EngineConfig` in which nothing is left to the engine: every value is the one it will run with."""

    # Frozen fields may be narrowed: nothing can write None into them.
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    gpu_memory_utilization: float = 0.9
    max_model_len: int = 2048


def resolved_with(config: EngineConfig, **values: Any) -> ResolvedConfig:
    """A `ResolvedConfig` of a config's values, with some replaced."""
    return ResolvedConfig(**{field.name: getattr(config, field.name) for field in fields(config)} | values)


def _at_least(field: str, value: int, least: int) -> None:
    # Callers without type checking pass strings, floats and truth values.
    if type(value) is not int or not least <= value <= MOST_SETTING:
        raise RecommenderError(f"{field} must be a whole number from {least} to {MOST_SETTING:,}, got {shown(value)}")


def _one_of(field: str, value: object, allowed: tuple[str | None, ...]) -> None:
    if not isinstance(value, str | None) or value not in allowed:
        known = ", ".join(name for name in allowed if name is not None)
        raise RecommenderError(f"{field} {shown(value)} is not known: use one of {known}")


def _batch_order(tokens: int | None, sequences: int | None) -> None:
    # vLLM's SchedulerConfig refuses it: every sequence of a batch needs a token in a step.
    if tokens is not None and sequences is not None and tokens < sequences:
        raise RecommenderError(
            f"max_num_batched_tokens ({tokens}) must not be less than max_num_seqs ({sequences}): "
            f"raise it to {sequences} or lower max_num_seqs to {tokens}"
        )

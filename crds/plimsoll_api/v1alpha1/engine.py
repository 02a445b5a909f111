"""`LLMService.spec.engine`: the engine's settings, each obeyed when set and recommended when absent."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import Field

from plimsoll_api.v1alpha1.base import ApiModel, Rule, matching
from plimsoll_api.v1alpha1.quantities import Fraction

OWNED_FLAGS: Final = {
    "--model": "spec.model.uri",
    "--revision": "spec.model.revision",
    "--served-model-name": "spec.model.servedName",
    "--hf-token": "spec.model.credentialsSecret",
    "--tensor-parallel-size": "spec.engine.tensorParallelSize",
    "--pipeline-parallel-size": "spec.engine.pipelineParallelSize",
    "--data-parallel-size": "spec.scaling, one replica per pod",
    "--max-num-seqs": "spec.engine.maxNumSeqs",
    "--max-num-batched-tokens": "spec.engine.maxNumBatchedTokens",
    "--gpu-memory-utilization": "spec.engine.gpuMemoryUtilization",
    "--max-model-len": "spec.engine.maxModelLen",
    "--kv-cache-dtype": "spec.engine.kvCacheDtype",
    "--shutdown-timeout": "spec.rollout.drainTimeout",
    "--host": "the operator, which also writes the probes and the Service",
    "--port": "the operator, which also writes the probes and the Service",
    "--config": "spec.engine, field by field",
    "--api-key": "spec.podTemplate, as the environment variable VLLM_API_KEY from a Secret",
}
"""vLLM flags that something else in the spec sets, and what: a second value would win or lose silently."""

_FLAG_CEL: Final = "self.split('=')[0].replace('_', '-')"
"""The flag of an argument as vLLM's parser reads it: `--max_num_seqs=8` is `--max-num-seqs`."""


def _flag(argument: str) -> str:
    return argument.split("=", 1)[0].replace("_", "-")


# JSON's list and object literals are CEL's.
_NOT_OWNED: Final = Rule(
    cel=f"!({_FLAG_CEL} in {json.dumps(list(OWNED_FLAGS))})",
    message="is a flag that another field of the spec sets: use that field",
    holds=lambda argument: _flag(argument) not in OWNED_FLAGS,
    explain="'%s is set by %s: remove it from extraArgs'"
    f".format([{_FLAG_CEL}, {json.dumps(OWNED_FLAGS)}[{_FLAG_CEL}]])",
    explain_python=lambda argument: (
        f"{_flag(argument)} is set by {OWNED_FLAGS[_flag(argument)]}: remove it from extraArgs"
    ),
)

ExtraArgument = Annotated[
    str,
    Field(max_length=1024),
    matching(r"^--[a-z0-9](.|\n)*$", "must be one flag that starts with --; write its value after '=', as in --seed=1"),
    _NOT_OWNED,
]
"""One engine argument, `--flag` or `--flag=value`."""

ImageReference = Annotated[
    str,
    Field(max_length=512),
    matching(
        r"^[a-zA-Z0-9][a-zA-Z0-9._-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@sha256:[a-f0-9]{64})?$",
        "must be a container image, such as vllm/vllm-openai:v0.32.0 or one ending in @sha256:DIGEST",
    ),
]
"""A container image with tag or digest."""


class EngineType(StrEnum):
    """Inference engines the operator can run."""

    VLLM = "vllm"


class KvCacheDtype(StrEnum):
    """Storage type of the KV cache, as vLLM names it."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FP8 = "fp8"
    FP8_E4M3 = "fp8_e4m3"
    FP8_E5M2 = "fp8_e5m2"


class Engine(ApiModel):
    """Engine settings. What is set here is obeyed; what is absent is recommended."""

    rules: ClassVar[tuple[Rule, ...]] = (
        # vLLM 0.32 refuses to start otherwise (SchedulerConfig: max_num_batched_tokens >= max_num_seqs).
        Rule(
            cel="!has(self.maxNumBatchedTokens) || !has(self.maxNumSeqs) || "
            "self.maxNumBatchedTokens >= self.maxNumSeqs",
            message="engine.maxNumBatchedTokens ({self.maxNumBatchedTokens}) must not be less than engine.maxNumSeqs "
            "({self.maxNumSeqs}): every sequence of a batch needs a token in a step",
            holds=lambda engine: (
                engine.max_num_batched_tokens is None
                or engine.max_num_seqs is None
                or engine.max_num_batched_tokens >= engine.max_num_seqs
            ),
            field="maxNumBatchedTokens",
        ),
    )

    type: EngineType = Field(default=EngineType.VLLM, description="Inference engine.")
    image: ImageReference | None = Field(
        default=None, description="Container image; the operator's default when absent."
    )
    tensor_parallel_size: int | None = Field(
        default=None, ge=1, le=64, description="GPUs each layer is split over (vLLM --tensor-parallel-size)."
    )
    pipeline_parallel_size: int | None = Field(
        default=None, ge=1, le=64, description="Stages the layers are split into (vLLM --pipeline-parallel-size)."
    )
    max_num_seqs: int | None = Field(
        default=None, ge=1, le=65_536, description="Most sequences in one batch (vLLM --max-num-seqs)."
    )
    max_num_batched_tokens: int | None = Field(
        default=None, ge=1, le=1_048_576, description="Most tokens in one step (vLLM --max-num-batched-tokens)."
    )
    gpu_memory_utilization: Fraction | None = Field(
        default=None,
        description='Share of GPU memory the engine may take, such as "0.9" (vLLM --gpu-memory-utilization).',
    )
    max_model_len: int | None = Field(
        default=None, ge=1, le=100_000_000, description="Longest prompt plus output (vLLM --max-model-len)."
    )
    kv_cache_dtype: KvCacheDtype | None = Field(
        default=None, description="Storage type of the KV cache (vLLM --kv-cache-dtype)."
    )
    extra_args: list[ExtraArgument] = Field(
        default=[],
        max_length=64,
        description=(
            "Further engine arguments, each --flag or --flag=value, appended as they are. "
            "A flag that another field sets is refused."
        ),
    )

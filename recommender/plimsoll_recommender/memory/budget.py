"""What start-up takes besides weights and KV cache: activation peak, non-torch memory, CUDA graphs.

Coefficients were fitted on 59 starts of vLLM 0.19.0 on H100 (llm-d-planner pull request 205, Apache-2.0) and four of
0.15 to 0.18; `python -m bench recommender` prints the error of the fit with each model left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import ResolvedConfig
from plimsoll_recommender.facts.feed_forward import widest
from plimsoll_recommender.facts.layers import Layer
from plimsoll_recommender.facts.model import GIB, ModelFacts

Version = tuple[int, int, int]

SAMPLER_CHANGED: Final[Version] = (0, 17, 0)
"""From this release the sampler's peak is two thirds smaller: top-k/top-p without a full sort."""

NON_TORCH_GREW: Final[Version] = (0, 18, 0)
"""From this release workspaces for fused all-reduce are allocated at start."""

GRAPHS_BUDGETED: Final[Version] = (0, 21, 0)
"""From this release the memory of CUDA graphs is taken from the KV cache by default."""

LAST_CALIBRATED: Final[Version] = (0, 19, 99)
"""Later releases have no published start-up tables: their interval is wider."""

SAMPLER_FP32_COPIES: Final = 2.99
"""Copies of the logits in fp32 at the sampler's peak; with one in the model's type 3.49 x R x V x 4 B in bf16."""

SAMPLER_OLD_FP32_COPIES: Final = 9.15
"""The same before `SAMPLER_CHANGED` (9.65 x R x V x 4 B in bf16)."""

RESIDENT_GIB: Final = 0.21
"""Activations that live through the sampler: hidden states and buffers of the profile run."""

VISION_GIB: Final = 0.14
"""More with an image encoder: its embeddings of the profile run stay allocated."""

FORWARD_RESIDENT_GIB: Final = 0.12
"""Buffers beside the widest layer's intermediates at the peak of the forward pass."""

NON_TORCH_GIB: Final = 0.25
"""Non-torch memory of one GPU since 0.18 (0.13 before)."""
NON_TORCH_OLD_GIB: Final = 0.13
FUSED_ALL_REDUCE_GIB: Final = 1.85
"""More with tensor parallelism since 0.18 on GPUs with fused all-reduce (compute capability 9 and later)."""
COLLECTIVE_GIB: Final = 0.42
"""More with tensor parallelism otherwise: NCCL buffers (0.55 in all at TP 2 in 0.11)."""

GRAPH_BASE_GIB: Final = 0.38
GRAPH_PER_LAYER_GIB: Final = 0.0165
"""CUDA graphs of 51 piecewise and 51 full sizes: a base, and a part per layer."""

FUSED_ALL_REDUCE_ARCHITECTURES: Final = frozenset({"hopper", "blackwell"})
"""GPU generations on which vLLM fuses all-reduce with normalisation."""

CONTEXT_GIB: Final = 0.51
COLLECTIVE_CONTEXT_GIB: Final = 1.0
"""Used before the engine measures: the CUDA context, and NCCL with tensor parallelism (1.5 GiB at TP 2).

Not in the budget, so it must fit in what gpu_memory_utilization leaves."""


@dataclass(frozen=True)
class Estimate:
    """A quantity in GiB with the interval it lies in nine times of ten."""

    value: float
    low: float
    high: float


def activation_peak(facts: ModelFacts, layers: tuple[Layer, ...], config: ResolvedConfig, samples: bool) -> Estimate:
    """Peak of activations during vLLM's profile run, GiB on one GPU.

    The run computes `max_num_batched_tokens` tokens, then samples for every sequence over the whole vocabulary; the
    larger peak counts. Logits are gathered, so tensor parallelism does not shrink them.

    Args:
        facts: the model as loaded.
        layers: layers of the GPU's pipeline stage.
        config: engine settings, all known.
        samples: whether the stage samples (the last one).
    """
    tokens = config.max_num_batched_tokens
    forward = forward_peak(facts, layers, config) / GIB + FORWARD_RESIDENT_GIB
    value = forward
    if samples:
        rows = min(config.max_num_seqs, tokens)
        copies = SAMPLER_FP32_COPIES if config.version >= SAMPLER_CHANGED else SAMPLER_OLD_FP32_COPIES
        logits = rows * facts.vocab_size * (4 * copies + facts.dtype_bytes)
        sampling = logits / GIB + RESIDENT_GIB + expert_workspace(facts, layers, config) / GIB
        value = max(forward, sampling)
    value += VISION_GIB if facts.vision else 0.0
    known = config.version <= LAST_CALIBRATED
    return Estimate(value, value * (0.9 if known else 0.75), value * (1.1 if known else 1.5) + (0.1 if known else 0.3))


def forward_peak(facts: ModelFacts, layers: tuple[Layer, ...], config: ResolvedConfig) -> float:
    """Bytes of intermediates at the widest point of the forward pass: gate, up, their product, three hidden states."""
    width = max((widest(layer.weights, dense_only=True) for layer in layers), default=0) / config.tensor_parallel_size
    attention = max((layer.query_heads * layer.query_dim for layer in layers), default=0) / config.tensor_parallel_size
    elements = max(3 * width, 3 * attention) + 3 * facts.hidden_size
    dense = config.max_num_batched_tokens * elements * facts.dtype_bytes
    mixture = expert_workspace(facts, layers, config) + 3.0 * (
        config.max_num_batched_tokens * facts.hidden_size * facts.dtype_bytes
    )
    return max(dense, mixture)


def expert_workspace(facts: ModelFacts, layers: tuple[Layer, ...], config: ResolvedConfig) -> float:
    """Bytes of the fused experts' two workspaces, which stay allocated: tokens x top-k x (max(2 w, h) + w)."""
    top_k = max((layer.top_k for layer in layers), default=0)
    if not top_k or (facts.quantization is not None and facts.quantization.label == "mxfp4"):
        return 0.0
    split = 1 if config.expert_parallel else config.tensor_parallel_size
    width = max(widest(layer.weights, dense_only=False) for layer in layers if layer.top_k) / split
    elements = max(2 * width, facts.hidden_size) + width
    return config.max_num_batched_tokens * top_k * elements * facts.dtype_bytes


def non_torch(gpu: Accelerator, config: ResolvedConfig) -> Estimate:
    """Memory that torch does not see, allocated after the engine first measures, GiB on one GPU."""
    grew = config.version >= NON_TORCH_GREW
    value = NON_TORCH_GIB if grew else NON_TORCH_OLD_GIB
    if config.tensor_parallel_size > 1:
        fused = grew and gpu.architecture in FUSED_ALL_REDUCE_ARCHITECTURES
        value += FUSED_ALL_REDUCE_GIB if fused else COLLECTIVE_GIB
    spread = 0.15 if config.tensor_parallel_size > 1 else 0.05
    known = gpu.architecture == "hopper" and config.version <= LAST_CALIBRATED
    return Estimate(value, value - spread, value + spread * (1 if known else 3))


def cuda_graphs(layers: tuple[Layer, ...], config: ResolvedConfig) -> Estimate:
    """Memory of captured CUDA graphs, GiB on one GPU."""
    if config.enforce_eager:
        return Estimate(0.0, 0.0, 0.0)
    sizes = graph_sizes(config.max_num_seqs)
    value = (GRAPH_BASE_GIB + GRAPH_PER_LAYER_GIB * len(layers)) * sizes / graph_sizes(512)
    return Estimate(value, 0.7 * value, 1.4 * value + 0.1)


def graph_sizes(max_num_seqs: int) -> int:
    """Batch sizes that are captured: 1, 2, 4, then by 8 to 256, then by 16 to twice max_num_seqs, at most 512."""
    largest = min(2 * max_num_seqs, 512)
    return sum(size <= largest for size in (1, 2, 4, *range(8, 257, 8), *range(272, 513, 16)))

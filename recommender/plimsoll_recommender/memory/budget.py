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

DATA_CENTRE_BLACKWELL: Final = frozenset({"blackwell", "blackwell-ultra"})

BLACKWELL_GRAPHS: Final[Version] = (0, 32, 0)
"""From this release (as its source reads) graphs are captured to batches of 1024 on Blackwell's data centre GPUs."""


@dataclass(frozen=True)
class Coefficients:
    """What the fit on start-ups determines.

    Args:
        sampler_copies: copies of the logits in fp32 at the sampler's peak, beside one in the model's type.
        sampler_copies_before: the same before `SAMPLER_CHANGED`.
        resident_gib: buffers that live through the sampler beside hidden states and the experts' workspaces.
        forward_resident_gib: buffers beside the widest layer's intermediates at the peak of the forward pass.
        vision_gib: more with an image encoder: its embeddings of the profile run stay allocated.
        non_torch_gib, non_torch_before_gib: memory outside torch of one GPU since and before `NON_TORCH_GREW`.
        fused_all_reduce_gib: more with tensor parallelism since then on GPUs with fused all-reduce (compute
            capability 9 and later).
        collective_gib: more with tensor parallelism otherwise: NCCL buffers (0.55 in all at TP 2 in 0.11).
        graph_base_gib, graph_per_layer_gib: CUDA graphs of 51 piecewise and 51 full sizes: a base, a part per layer.
    """

    sampler_copies: float = 3.15
    sampler_copies_before: float = 9.03
    resident_gib: float = 0.04
    forward_resident_gib: float = 0.08
    vision_gib: float = 0.16
    non_torch_gib: float = 0.25
    non_torch_before_gib: float = 0.13
    fused_all_reduce_gib: float = 1.84
    collective_gib: float = 0.42
    graph_base_gib: float = 0.38
    graph_per_layer_gib: float = 0.0165


CALIBRATED: Final = Coefficients()
"""Fitted on 59 starts of vLLM 0.19.0 on H100 and four of 0.15 to 0.18."""

FUSED_ALL_REDUCE_ARCHITECTURES: Final = frozenset({"hopper", "blackwell", "blackwell-ultra"})
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


@dataclass(frozen=True)
class ActivationParts:
    """What the activation peak is made of before any coefficient, GiB.

    Args:
        forward: intermediates at the widest point of the forward pass.
        logits_fp32: one copy of the logits in fp32; 0 where the stage does not sample.
        logits: one copy in the model's type.
        hidden: hidden states of the profile run, which live through the sampler.
        experts: the fused experts' workspaces.
        samples: whether the stage samples.
        sees: whether the model has an image encoder.
    """

    forward: float
    logits_fp32: float
    logits: float
    hidden: float
    experts: float
    samples: bool
    sees: bool

    def peak(self, copies: float, coefficients: Coefficients) -> float:
        """The peak: of the forward pass, or of the sampler where that is more."""
        peak = self.forward + coefficients.forward_resident_gib
        if self.samples:
            living = self.hidden + self.experts + coefficients.resident_gib
            peak = max(peak, self.logits_fp32 * copies + self.logits + living)
        return peak + (coefficients.vision_gib if self.sees else 0.0)


def activation_parts(
    facts: ModelFacts, layers: tuple[Layer, ...], config: ResolvedConfig, samples: bool
) -> ActivationParts:
    """What decides the activation peak of vLLM's profile run.

    The run computes `max_num_batched_tokens` tokens, then samples for every sequence over the whole vocabulary; the
    larger peak counts. Logits are gathered, so tensor parallelism does not shrink them.

    Args:
        facts: the model as loaded.
        layers: layers of the GPU's pipeline stage.
        config: engine settings, all known.
        samples: whether the stage samples (the last one).
    """
    elements = min(config.max_num_seqs, config.max_num_batched_tokens) * facts.vocab_size if samples else 0
    # Only the widest layer counts, and most are the same object.
    layers = tuple({id(layer): layer for layer in layers}.values())
    return ActivationParts(
        forward=forward_peak(facts, layers, config) / GIB,
        logits_fp32=4 * elements / GIB,
        logits=facts.dtype_bytes * elements / GIB,
        hidden=config.max_num_batched_tokens * facts.hidden_size * facts.dtype_bytes / GIB,
        experts=expert_workspace(facts, layers, config) / GIB,
        samples=samples,
        sees=bool(facts.vision),
    )


def sampler_copies(version: Version, coefficients: Coefficients = CALIBRATED) -> float:
    """Copies of the logits in fp32 that a release's sampler holds at its peak."""
    return coefficients.sampler_copies if version >= SAMPLER_CHANGED else coefficients.sampler_copies_before


def activation_peak(
    facts: ModelFacts,
    layers: tuple[Layer, ...],
    config: ResolvedConfig,
    samples: bool,
    coefficients: Coefficients = CALIBRATED,
) -> Estimate:
    """Peak of activations during vLLM's profile run, GiB on one GPU (arguments as in `activation_parts`)."""
    parts = activation_parts(facts, layers, config, samples)
    value = parts.peak(sampler_copies(config.version, coefficients), coefficients)
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


def non_torch(gpu: Accelerator, config: ResolvedConfig, coefficients: Coefficients = CALIBRATED) -> Estimate:
    """Memory that torch does not see, allocated after the engine first measures, GiB on one GPU."""
    grew = config.version >= NON_TORCH_GREW
    value = coefficients.non_torch_gib if grew else coefficients.non_torch_before_gib
    if config.tensor_parallel_size > 1:
        fused = grew and gpu.architecture in FUSED_ALL_REDUCE_ARCHITECTURES
        value += coefficients.fused_all_reduce_gib if fused else coefficients.collective_gib
    spread = 0.15 if config.tensor_parallel_size > 1 else 0.05
    known = gpu.architecture == "hopper" and config.version <= LAST_CALIBRATED
    return Estimate(value, value - spread, value + spread * (1 if known else 3))


def cuda_graphs(
    layers: tuple[Layer, ...],
    config: ResolvedConfig,
    gpu: Accelerator | None = None,
    coefficients: Coefficients = CALIBRATED,
) -> Estimate:
    """Memory of captured CUDA graphs, GiB on one GPU.

    Model runner V2 of later releases takes less: 0.23 GiB were logged on an A100 with 0.31 where 0.91 are predicted.
    """
    if config.enforce_eager:
        return Estimate(0.0, 0.0, 0.0)
    wide = gpu is not None and gpu.architecture in DATA_CENTRE_BLACKWELL and config.version >= BLACKWELL_GRAPHS
    sizes = graph_sizes(config.max_num_seqs * (1 + config.num_speculative_tokens), 1024 if wide else 512)
    whole = coefficients.graph_base_gib + coefficients.graph_per_layer_gib * len(layers)
    value = whole * sizes / graph_sizes(512)
    return Estimate(value, (0.7 if config.version <= LAST_CALIBRATED else 0.2) * value, 1.4 * value + 0.1)


def graph_sizes(decoding: int, most: int = 512) -> int:
    """Batch sizes that are captured: 1, 2, 4, then by 8 to 256, then by 16 to twice the tokens that decode at once."""
    largest = min(2 * decoding, most)
    return sum(size <= largest for size in (1, 2, 4, *range(8, 257, 8), *range(272, most + 1, 16)))

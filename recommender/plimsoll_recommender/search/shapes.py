"""Shapes of a replica: how many GPUs, and how the model is divided over them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.facts.layers import Split, TokenCache, Weight
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.facts.quantization import FP8_BLOCK_BITS
from plimsoll_recommender.search.ask import Ask

TENSOR_SIZES: Final = (1, 2, 4, 8, 16)
"""Tensor parallelism that is tried: others are rare, and few models' heads can be divided by them."""

PIPELINE_SIZES: Final = (2, 4)
"""Pipeline stages that are tried beside one."""

RANKS: Final = (2, 4, 8)
"""Data-parallel ranks that are tried where experts may be shared."""

FP8_BLOCK: Final = 128
"""Rows and columns of a block with one scale: vLLM divides block-quantised weights only between blocks."""


@dataclass(frozen=True)
class Shape:
    """How one replica is divided.

    Args:
        tensor: GPUs each layer is split over.
        stages: pipeline stages.
        ranks: data-parallel ranks that share the experts.
        expert_parallel: whole experts on GPUs.
    """

    tensor: int
    stages: int = 1
    ranks: int = 1
    expert_parallel: bool = False

    @property
    def gpus(self) -> int:
        """GPUs of a replica."""
        return self.tensor * self.stages * self.ranks

    def __str__(self) -> str:
        parts = [f"TP {self.tensor}"]
        if self.stages > 1:
            parts.append(f"PP {self.stages}")
        if self.ranks > 1:
            parts.append(f"DP {self.ranks}")
        if self.expert_parallel:
            parts.append("EP")
        return " ".join(parts)


def shapes(ask: Ask, facts: ModelFacts, gpu: Accelerator) -> Iterator[Shape]:
    """Shapes worth a look on a GPU: everything that fits a node, and pipelines of whole nodes."""
    limits, node = ask.limits, ask.node(gpu)
    tensors = [size for size in TENSOR_SIZES if size <= node and facts.num_attention_heads % size == 0]
    if limits.tensor_parallel_size is not None:
        tensors = [limits.tensor_parallel_size]
    for tensor in tensors:
        if limits.pipeline_parallel_size is not None:
            yield Shape(tensor, limits.pipeline_parallel_size)
            continue
        yield Shape(tensor)
        across = tensor == max(tensors)
        yield from (
            Shape(tensor, stages)
            for stages in PIPELINE_SIZES
            if stages <= len(facts.layers) and (across or tensor * stages <= node)
        )
    if limits.allow_expert_parallel and facts.is_mixture and limits.pipeline_parallel_size in (None, 1):
        yield from _expert_parallel(facts, tensors, node)


def _expert_parallel(facts: ModelFacts, tensors: list[int], node: int) -> Iterator[Shape]:
    """Shapes with whole experts on GPUs: with one rank only where tensor parallelism cannot divide the experts."""
    for tensor in tensors:
        if tensor > 1 and _indivisible_blocks(facts, tensor, experts=True):
            yield Shape(tensor, expert_parallel=True)
        yield from (Shape(tensor, ranks=ranks, expert_parallel=True) for ranks in RANKS if tensor * ranks <= node)


def undividable(facts: ModelFacts, shape: Shape) -> str:
    """Why the engine would refuse to divide the model so; empty when it would not.

    Rules of vLLM: KV heads are a multiple of the ranks or the ranks a multiple of them (`ModelConfig`), and
    block-quantised weights are divided between blocks (`Fp8LinearMethod`, `Fp8MoEMethod`).
    """
    tensor = shape.tensor
    if tensor == 1:
        return ""
    for layer, _ in facts.layer_counts:
        cache = layer.cache
        if (
            isinstance(cache, TokenCache)
            and cache.kind != "mla"
            and cache.kv_heads % tensor
            and tensor % cache.kv_heads
        ):
            return (
                f"tensor_parallel_size {tensor} does not divide the {cache.kv_heads} KV heads of {facts.name}: use one "
                "that divides them"
            )
    part = _indivisible_blocks(facts, tensor, experts=not shape.expert_parallel)
    if part:
        return (
            f"tensor_parallel_size {tensor} leaves {part} per GPU, not whole blocks of {FP8_BLOCK} with one fp8 scale: "
            "use a smaller one" + (", or allow expert parallelism" if facts.is_mixture else "")
        )
    return ""


def _indivisible_blocks(facts: ModelFacts, tensor: int, *, experts: bool) -> str:
    """The first feed-forward width that cannot be divided between fp8 blocks, in words; empty when all can."""
    for layer, _ in facts.layer_counts:
        for weight in layer.weights:
            if weight.bits != 8 + FP8_BLOCK_BITS or weight.split not in (Split.TENSOR, Split.EXPERTS):
                continue
            if weight.split is Split.EXPERTS and not experts:
                continue
            width = _divided(weight)
            if width and (width % tensor or width // tensor % FP8_BLOCK):
                kind = "expert width" if weight.split is Split.EXPERTS else "feed-forward width"
                return f"{width / tensor:g} of the {kind} {width:,}"
    return ""


def _divided(weight: Weight) -> int:
    """The dimension of a feed-forward matrix that tensor parallelism divides; 0 for other matrices."""
    if weight.module.endswith(("up_proj", "gate_proj")):
        return weight.rows
    return weight.columns if weight.module.endswith("down_proj") else 0

"""The parts of a model that decide memory and time: weight matrices, and what each layer keeps per sequence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Literal

VOCABULARY_PADDING: Final = 64
"""vLLM pads the vocabulary to a multiple of this before splitting it (VocabParallelEmbedding)."""


LARGE_ALLOCATION: Final = 10 * 2**20
"""From this size torch's allocator asks the driver for multiples of `LARGE_STEP` (CUDACachingAllocator)."""

LARGE_STEP: Final = 2 * 2**20
"""Granularity of large allocations, bytes."""

SPLIT_REMAINDER: Final = 2**20
"""A remainder of at most this stays part of the block, and is counted as used."""


def allocated(size: float) -> float:
    """Bytes that torch's allocator counts for a tensor: remainders too small to split off are counted with it."""
    if size < LARGE_ALLOCATION:
        return size
    whole = math.ceil(size / LARGE_STEP) * LARGE_STEP
    return whole if whole - size <= SPLIT_REMAINDER else size


class Split(Enum):
    """How vLLM divides a weight over the GPUs of a tensor-parallel group."""

    TENSOR = "tensor"
    """Divided evenly."""
    REPLICATED = "replicated"
    """A whole copy on every GPU: norms, routers, MLA down-projections, indexers."""
    KV_HEADS = "kv heads"
    """Divided by KV heads; a GPU keeps at least one head."""
    EXPERTS = "experts"
    """Every expert divided (tensor parallel), or whole experts distributed (expert parallel)."""
    VOCABULARY = "vocabulary"
    """Rows padded, then divided."""


@dataclass(frozen=True)
class Weight:
    """One weight matrix, or several of one shape.

    Args:
        module: its module inside the layer, as checkpoints name it (what quantisation settings refer to).
        rows: outputs.
        columns: inputs.
        split: how tensor parallelism divides it.
        copies: how many there are (experts).
        active: how many of them a token uses.
        bits: stored bits per element, scales included.
        units: heads that a KV_HEADS split divides.
        fused: the matrix that the engine stores it in together with others (`qkv_proj`, `gate_up_proj`).
        padding: multiples to which the engine pads (the divided dimension, the other one).
        linear: whether it multiplies activations (else a norm, an embedding or a bias).
    """

    module: str
    rows: int
    columns: int = 1
    split: Split = Split.TENSOR
    copies: int = 1
    active: float = 1.0
    bits: float = 16.0
    units: int = 0
    linear: bool = True
    fused: str = ""
    padding: tuple[int, int] = (1, 1)

    @property
    def elements(self) -> int:
        """Elements of all copies before any padding."""
        return self.rows * self.columns * self.copies

    def share(self, tensor_parallel_size: int, expert_parallel_size: int = 1) -> float:
        """Share of the elements that one GPU holds (0 to 1)."""
        if self.split is Split.REPLICATED:
            return 1.0
        if self.split is Split.KV_HEADS:
            return max(1, self.units // tensor_parallel_size) / self.units
        if self.split is Split.VOCABULARY:
            padded = math.ceil(self.rows / VOCABULARY_PADDING) * VOCABULARY_PADDING
            return padded / self.rows / tensor_parallel_size
        if self.split is Split.EXPERTS and expert_parallel_size > 1:
            return self.expert_share(expert_parallel_size, whole=True)
        return self._padded(tensor_parallel_size) / tensor_parallel_size

    def expert_share(self, group: int, *, whole: bool) -> float:
        """Share of routed experts that the fullest GPU of a group holds: whole experts, or a part of each."""
        if whole:
            # vLLM gives the first ranks one more where experts do not divide (determine_expert_map).
            return math.ceil(self.copies / group) / self.copies * self._padded(1)
        return self._padded(group) / group

    def _padded(self, parts: int) -> float:
        """Elements with padding over elements without, when a dimension is divided into parts."""
        divided, whole = (self.columns, self.rows) if self.module.endswith("down_proj") else (self.rows, self.columns)
        part = divided / parts
        first, second = self.padding
        return (math.ceil(part / first) * first / part if first > 1 else 1.0) * (
            math.ceil(whole / second) * second / whole if second > 1 else 1.0
        )

    def bytes_per_gpu(
        self, tensor_parallel_size: int, experts: int | None = None, whole_experts: bool = False
    ) -> float:
        """Bytes that one GPU holds.

        Args:
            tensor_parallel_size: GPUs a layer is split over.
            experts: GPUs that experts are divided over; None is the same.
            whole_experts: each of them holds whole experts.
        """
        if self.split is Split.EXPERTS:
            share = self.expert_share(experts or tensor_parallel_size, whole=whole_experts)
        else:
            share = self.share(tensor_parallel_size)
        return self.elements * self.bits / 8 * share


@dataclass(frozen=True)
class TokenCache:
    """What an attention layer keeps per token.

    Args:
        kind: `full` keeps every token, `sliding` those of a window, `chunked` those of the current chunk, `mla` one
            compressed latent per token instead of heads.
        kv_heads: KV heads (1 for MLA).
        key_dim: elements of a key; for MLA the latent with its rotary part.
        value_dim: elements of a value; 0 for MLA.
        window: tokens of the window or chunk.
        extra_bytes: bytes per token of a second cache (a sparse indexer's keys).
    """

    kind: Literal["full", "sliding", "chunked", "mla"]
    kv_heads: int
    key_dim: int
    value_dim: int
    window: int | None = None
    extra_bytes: int = 0

    def elements_per_token(self, tensor_parallel_size: int) -> int:
        """Elements that one GPU keeps per token."""
        heads = 1 if self.kind == "mla" else max(1, self.kv_heads // tensor_parallel_size)
        return heads * (self.key_dim + self.value_dim)


@dataclass(frozen=True)
class StateCache:
    """What a recurrent layer (Mamba, linear attention) keeps per sequence, whatever its length.

    Args:
        state_elements: elements of the recurrent state.
        state_bytes: bytes per element of the state; 0 is the model's type.
        conv_channels: channels of the convolution that tensor parallelism divides.
        conv_length: inputs that the convolution looks back on (its kernel less one), kept in the model's type.
        groups: groups of Mamba-2 that share B and C; each GPU keeps at least one.
        group_channels: channels of the convolution per group.
    """

    state_elements: int
    state_bytes: int
    conv_channels: int
    conv_length: int
    groups: int = 0
    group_channels: int = 0

    def bytes_per_sequence(self, tensor_parallel_size: int, dtype_bytes: float, speculative_tokens: int = 0) -> float:
        """Bytes of one state on one GPU, as vLLM's MambaStateShapeCalculator shapes it.

        The convolution looks back further by every drafted token; groups that do not divide are repeated per GPU.
        """
        groups = self.groups if self.groups % tensor_parallel_size == 0 else tensor_parallel_size
        channels = self.conv_channels + groups * self.group_channels
        window = channels * (self.conv_length + speculative_tokens) * dtype_bytes
        return (self.state_elements * (self.state_bytes or dtype_bytes) + window) / tensor_parallel_size


@dataclass(frozen=True)
class Layer:
    """One layer.

    Args:
        weights: its matrices.
        cache: what it keeps; None for a layer without attention, or one that reads another layer's cache.
        query_heads: attention heads.
        query_dim: elements of a query and key.
        output_dim: elements of a value as the attention product sees it.
        top_k: experts a token uses; 0 for a dense layer.
        attention_limit: most tokens that one query attends to, whatever the context; None is all.
    """

    weights: tuple[Weight, ...]
    cache: TokenCache | StateCache | None
    query_heads: int = 0
    query_dim: int = 0
    output_dim: int = 0
    top_k: int = 0
    attention_limit: int | None = None

    def bytes_per_gpu(
        self, tensor_parallel_size: int, experts: int | None = None, whole_experts: bool = False
    ) -> float:
        """Weight bytes that one GPU holds, as the allocator counts them (arguments as in `Weight.bytes_per_gpu`)."""
        tensors: dict[str, float] = {}
        for weight in self.weights:
            name = weight.fused or weight.module
            held = weight.bytes_per_gpu(tensor_parallel_size, experts, whole_experts)
            tensors[name] = tensors.get(name, 0.0) + held
        return sum(allocated(size) for size in tensors.values())

    def with_bits(self, bits_of: Callable[[Weight], float]) -> Layer:
        """The layer with every weight's bits replaced."""
        return replace(self, weights=tuple(replace(weight, bits=bits_of(weight)) for weight in self.weights))

"""How vLLM lays out the KV cache: pages, groups and blocks.

Rules of vLLM 0.19 to 0.33 (`vllm/v1/core/kv_cache_utils.py`): layers that keep the same thing form one group; a model
with several kinds is divided into groups of equal layer count that share one pool of blocks of equal size.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from plimsoll_recommender.facts.layers import Layer, StateCache, TokenCache

DEFAULT_BLOCK: Final = 16
"""Tokens of a KV block on GPUs (vLLM's default; a backend may ask for more)."""

PADDED_GROUP_RATIO: Final = 1.5
"""Below this ratio of the largest to the smallest layer count, groups are as large as the largest kind."""

SPECULATIVE_STATES: Final = 1
"""Recurrent states kept per sequence beside one per drafted token."""

KV_BYTES: Final = {"bfloat16": 2.0, "float16": 2.0, "fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0, "int8": 1.0,
                   "nvfp4": 0.5625}  # fmt: skip
"""Bytes per element by KV cache type; nvfp4 is 4 bits and an 8-bit scale per 16 elements."""


@dataclass(frozen=True)
class Group:
    """Layers of one kind that take blocks together.

    Args:
        kind: `full`, `sliding`, `chunked`, `mla` or `state`.
        window: tokens of the window or chunk; None otherwise.
        block_size: tokens of a block.
        count: how many groups of this kind there are.
    """

    kind: str
    window: int | None
    block_size: int
    count: int

    def blocks_for(self, tokens: int, in_flight: int) -> int:
        """Blocks that one sequence of `tokens` tokens may hold at once in one group.

        Args:
            tokens: prompt and output.
            in_flight: most tokens scheduled before older ones are freed.
        """
        if self.kind == "state":
            return 1
        if self.kind == "sliding" and self.window is not None:
            kept = min(self.window - 1 + in_flight, tokens)
            return math.ceil(kept / self.block_size) + 1
        if self.kind == "chunked" and self.window is not None:
            return math.ceil(min(self.window + in_flight, tokens) / self.block_size)
        return math.ceil(tokens / self.block_size)


@dataclass(frozen=True)
class KvLayout:
    """The KV cache of one GPU.

    Args:
        bytes_per_block: bytes of one block over the layers that share it.
        groups: groups that draw on the pool.
        state_speculation: states per sequence a recurrent group keeps.
    """

    bytes_per_block: int
    groups: tuple[Group, ...]
    state_speculation: int = 0

    @property
    def group_count(self) -> int:
        """Groups that draw on the pool."""
        return sum(group.count for group in self.groups)

    @property
    def smallest_block(self) -> int:
        """Tokens of the smallest block."""
        return min((group.block_size for group in self.groups), default=DEFAULT_BLOCK)

    def blocks_per_sequence(self, tokens: int, in_flight: int) -> int:
        """Blocks that one sequence may hold at once, over all groups."""
        extra = sum(group.count for group in self.groups if group.kind == "state") * self.state_speculation
        return extra + sum(group.count * group.blocks_for(tokens, in_flight) for group in self.groups)


@dataclass(frozen=True)
class _Kind:
    """One kind of cache with its page of one layer."""

    kind: str
    window: int | None
    bytes_per_token: float
    layers: int
    state_bytes: float = 0.0


def kv_layout(
    layers: Sequence[Layer],
    tensor_parallel_size: int,
    kv_bytes: float,
    dtype_bytes: int,
    block_size: int | None = None,
    speculative_tokens: int = 0,
) -> KvLayout:
    """The layout of the layers that one GPU holds.

    Args:
        layers: layers on the GPU's pipeline stage.
        tensor_parallel_size: GPUs each layer is split over.
        kv_bytes: bytes per cached element.
        dtype_bytes: bytes per element of the model's type (recurrent convolution states).
        block_size: tokens of a block when set by hand.
        speculative_tokens: drafted tokens, for which recurrent layers keep further states.
    """
    kinds = _kinds(layers, tensor_parallel_size, kv_bytes, dtype_bytes)
    block = block_size or DEFAULT_BLOCK
    if not kinds:
        return KvLayout(0, ())
    attention = [kind for kind in kinds if kind.kind != "state"]
    states = [kind for kind in kinds if kind.kind == "state"]
    if not states and (len(kinds) == 1 or all(kind.kind in ("full", "mla") for kind in kinds)):
        return _uniform(kinds, block)
    return _hybrid(attention, states, block, speculative_tokens)


def _kinds(layers: Sequence[Layer], tensor_parallel_size: int, kv_bytes: float, dtype_bytes: int) -> list[_Kind]:
    counted: Counter[TokenCache | StateCache] = Counter(layer.cache for layer in layers if layer.cache is not None)
    kinds = []
    for cache, count in counted.items():
        if isinstance(cache, StateCache):
            kinds.append(_Kind("state", None, 0.0, count, cache.bytes_per_sequence(tensor_parallel_size, dtype_bytes)))
        else:
            per_token = cache.elements_per_token(tensor_parallel_size) * kv_bytes + cache.extra_bytes
            kinds.append(_Kind(cache.kind, cache.window, per_token, count))
    return kinds


def _uniform(kinds: Sequence[_Kind], block: int) -> KvLayout:
    """All layers keep every token (or the same window): one group, a block holds all its layers."""
    size = sum(kind.bytes_per_token * kind.layers for kind in kinds) * block
    return KvLayout(round(size), (Group(kinds[0].kind, kinds[0].window, block, 1),))


def _hybrid(attention: Sequence[_Kind], states: Sequence[_Kind], block: int, speculative_tokens: int) -> KvLayout:
    """Several kinds: equal groups over one pool, all pages padded to the largest."""
    block, page = _common_page(attention, states, block)
    counts = [kind.layers for kind in (*attention, *states)]
    size = max(counts) if max(counts) < PADDED_GROUP_RATIO * min(counts) else min(counts)
    groups = []
    for kind in (*attention, *states):
        # A kind with a smaller page gets proportionally longer blocks.
        tokens = block if not kind.bytes_per_token else block * max(1, int(page // (kind.bytes_per_token * block)))
        groups.append(Group(kind.kind, kind.window, tokens, math.ceil(kind.layers / size)))
    speculation = speculative_tokens if states else 0
    return KvLayout(round(page * size), tuple(groups), speculation)


def _common_page(attention: Sequence[_Kind], states: Sequence[_Kind], block: int) -> tuple[int, float]:
    """(tokens of a block, bytes of a page) at which every kind fits one page."""
    largest_state = max((kind.state_bytes for kind in states), default=0.0)
    per_token = max((kind.bytes_per_token for kind in attention), default=0.0)
    if not per_token:
        return block, largest_state
    if largest_state > per_token * block:
        # The attention block grows in steps of 16 tokens until its page holds a recurrent state.
        block = math.ceil(largest_state / (DEFAULT_BLOCK * per_token)) * DEFAULT_BLOCK
    return block, per_token * block

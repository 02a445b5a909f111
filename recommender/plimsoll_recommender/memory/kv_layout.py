"""How vLLM lays out the KV cache: pages, groups and blocks.

Rules of `vllm/v1/core/kv_cache_utils.py` (0.19 to 0.33): layers that keep the same thing form one group; a model with
several kinds is divided into groups of equal layer count that share one pool of blocks of equal size. Groups are made
for the whole model; a pipeline stage holds its layers of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from plimsoll_recommender.facts.layers import Layer, StateCache, TokenCache
from plimsoll_recommender.memory.kv_format import KvFormat

DEFAULT_BLOCK: Final = 16
"""Tokens of a KV block on GPUs (vLLM's default; a backend may ask for more)."""

SPARSE_BLOCK: Final = 64
"""Tokens of a block of sparse MLA: the only size its kernels take."""

LATENT_STATE_BLOCK: Final = 128
"""Multiple to which blocks of MLA beside recurrent layers are rounded (`_align_hybrid_block_size`)."""

PADDED_GROUP_RATIO: Final = 1.5
"""Below this ratio of the largest to the smallest layer count, groups are as large as the largest kind."""


@dataclass(frozen=True)
class Group:
    """Layers of one kind that take blocks together.

    Args:
        kind: `full`, `sliding`, `chunked`, `mla` or `state`.
        window: tokens of the window or chunk; None otherwise.
        block_size: tokens of a block.
        count: how many groups of this kind there are.
        states: blocks per sequence of a recurrent group.
    """

    kind: str
    window: int | None
    block_size: int
    count: int
    states: int = 1

    def blocks_for(self, tokens: int, in_flight: int) -> int:
        """Blocks that one sequence of `tokens` tokens may hold at once in one group.

        Args:
            tokens: prompt and output.
            in_flight: most tokens scheduled before older ones are freed.
        """
        if self.kind == "state":
            return self.states
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
    """

    bytes_per_block: int
    groups: tuple[Group, ...]

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
        return sum(group.count * group.blocks_for(tokens, in_flight) for group in self.groups)


@dataclass(frozen=True)
class KvRules:
    """What decides the layout beside the layers.

    Args:
        tensor_parallel_size: GPUs each layer is split over.
        kv: how keys and values are stored.
        dtype_bytes: bytes per element of the model's type (recurrent convolution states).
        block_size: tokens of a block when set by hand.
        speculative_tokens: drafted tokens, for each of which recurrent layers keep a further state.
        cached_states: prefixes of recurrent layers are cached: two states per sequence instead of one.
    """

    tensor_parallel_size: int
    kv: KvFormat
    dtype_bytes: int
    block_size: int | None = None
    speculative_tokens: int = 0
    cached_states: bool = False


@dataclass(frozen=True)
class _Kind:
    """Layers that keep exactly the same.

    Args:
        kind, window: as in `Group`.
        layers: their places in the model.
        block: tokens of a block.
        page: bytes of one layer's block, padding included.
        latent: one latent per token instead of keys and values.
    """

    kind: str
    window: int | None
    layers: tuple[int, ...]
    block: int
    page: float
    latent: bool = False

    @property
    def type(self) -> tuple[str, float | None]:
        """What layers must share to take the same block table: full attention and latents keep every token."""
        if self.kind == "state":
            return "state", self.page
        return ("full", None) if self.kind in ("full", "mla") else (self.kind, self.window)


def kv_layout(layers: Sequence[Layer], rules: KvRules, stage: range | None = None) -> KvLayout:
    """The layout of the layers that one GPU holds.

    Args:
        layers: every layer of the model, those of a drafter last.
        rules: what decides it beside the layers.
        stage: places of the layers on the GPU's pipeline stage; None is all.
    """
    here = stage if stage is not None else range(len(layers))
    kinds = _kinds(layers, rules)
    if not kinds:
        return KvLayout(0, ())
    if len({kind.type for kind in kinds}) == 1:
        return _uniform(kinds, here, rules)
    if _must_keep_everything(kinds):
        return _uniform([replace(kind, kind="full", window=None) for kind in kinds], here, rules)
    return _hybrid(_common_pages(kinds), here, rules)


def _kinds(layers: Sequence[Layer], rules: KvRules) -> list[_Kind]:
    """Kinds of cache with the page that each would have by itself; recurrent states get the page of attention."""
    places = _places(layers)
    tokens = {cache: at for cache, at in places.items() if isinstance(cache, TokenCache)}
    states = {cache: at for cache, at in places.items() if isinstance(cache, StateCache)}
    per_token = {cache: rules.kv.bytes_per_token(cache, rules.tensor_parallel_size) for cache in tokens}
    per_state = {
        cache: cache.bytes_per_sequence(rules.tensor_parallel_size, rules.dtype_bytes, rules.speculative_tokens)
        for cache in states
    }
    block = _block(per_token, max(per_state.values(), default=0.0), rules)
    kinds = [
        _Kind(cache.kind, cache.window, tuple(at), block, per_token[cache] * block, latent=not cache.value_dim)
        for cache, at in tokens.items()
    ]
    largest = max((kind.page for kind in kinds), default=0.0)
    kinds += [_Kind("state", None, tuple(at), block, max(per_state[cache], largest)) for cache, at in states.items()]
    return kinds


def _places(layers: Sequence[Layer]) -> dict[TokenCache | StateCache, list[int]]:
    """Places of the layers by what they keep; objects first, as a model has few and comparing them takes longer."""
    by_object: dict[int, list[int]] = {}
    for place, layer in enumerate(layers):
        by_object.setdefault(id(layer.cache), []).append(place)
    places: dict[TokenCache | StateCache, list[int]] = {}
    for at in by_object.values():
        cache = layers[at[0]].cache
        if cache is not None:
            places[cache] = sorted(places.get(cache, []) + at)
    return places


def _block(per_token: dict[TokenCache, float], state: float, rules: KvRules) -> int:
    """Tokens of a block: what was asked for, or the least at which an attention page holds a recurrent state."""
    sparse = any(cache.kind == "mla" and cache.extra_bytes for cache in per_token)
    block = rules.block_size or (SPARSE_BLOCK if sparse else DEFAULT_BLOCK)
    everything = [size for cache, size in per_token.items() if cache.kind in ("full", "mla")]
    attention = max(everything or per_token.values(), default=0.0)
    if not state or not attention:
        return block
    step = max(block, DEFAULT_BLOCK)
    if any(cache.kind == "mla" for cache in per_token):
        step = max(step, LATENT_STATE_BLOCK)
    return max(block, step * math.ceil(state / (step * attention)))


def _must_keep_everything(kinds: Sequence[_Kind]) -> bool:
    """Latents beside sliding windows whose pages do not divide: vLLM then keeps every token of the windows too."""
    largest = max(kind.page for kind in kinds)
    odd = any(kind.kind == "mla" and largest % kind.page for kind in kinds)
    return odd and all(kind.kind == "mla" or (kind.kind == "sliding" and not kind.latent) for kind in kinds)


def _common_pages(kinds: Sequence[_Kind]) -> list[_Kind]:
    """The kinds with pages of one size: smaller ones get longer blocks where that comes out even, else padding."""
    largest = max(kind.page for kind in kinds)
    unified = []
    for kind in kinds:
        ratio = int(largest // kind.page) if kind.kind != "state" and largest % kind.page == 0 else 1
        unified.append(replace(kind, block=kind.block * ratio, page=largest))
    return unified


def _uniform(kinds: Sequence[_Kind], here: range, rules: KvRules) -> KvLayout:
    """All layers keep the same tokens: one group, a block holds all its layers."""
    size = sum(kind.page * sum(place in here for place in kind.layers) for kind in kinds)
    return KvLayout(round(size), (_group(kinds[0], 1, rules),))


def _hybrid(kinds: Sequence[_Kind], here: range, rules: KvRules) -> KvLayout:
    """Several kinds: groups of equal layer count over one pool."""
    counts = [len(kind.layers) for kind in kinds]
    size = max(counts) if max(counts) < PADDED_GROUP_RATIO * min(counts) else min(counts)
    groups, most = [], 0
    for kind in kinds:
        count = math.ceil(len(kind.layers) / size)
        groups.append(_group(kind, count, rules))
        # A pipeline stage pays for the group of which it holds the most layers.
        most = max(most, *(sum(place in here for place in kind.layers[i::count]) for i in range(count)))
    return KvLayout(round(kinds[0].page * most), tuple(groups))


def _group(kind: _Kind, count: int, rules: KvRules) -> Group:
    states = 1
    if kind.kind == "state":
        states = (2 if rules.cached_states else 1) + rules.speculative_tokens
    return Group(kind.kind, kind.window, kind.block, count, states)

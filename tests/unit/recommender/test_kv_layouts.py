"""KV layouts by kind of attention, against figures that vLLM logged and its own rules."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll_recommender import EngineConfig, ModelFacts, RecommenderError, accelerator, memory_ledger
from plimsoll_recommender.catalogue import models
from plimsoll_recommender.engine_config import KV_CACHE_DTYPES, ResolvedConfig
from plimsoll_recommender.facts.layers import StateCache, TokenCache
from plimsoll_recommender.memory.defaults import resolve
from plimsoll_recommender.memory.kv_layout import Group
from plimsoll_recommender.memory.ledger import layout_of, longest_context

H100 = accelerator("H100")


def resolved(facts: ModelFacts, **given: Any) -> ResolvedConfig:
    return resolve(EngineConfig(**({"max_model_len": min(8192, facts.max_position_embeddings)} | given)), facts, H100)


def bytes_per_token(name: str, **given: Any) -> float:
    facts = ModelFacts.load(name)
    layout = layout_of(facts, resolved(facts, **given))
    return layout.bytes_per_block / layout.smallest_block


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        # layers x KV heads x (key + value) x bytes.
        ("meta-llama/Llama-2-7b-hf", {}, 32 * 32 * 256 * 2),  # multi-head
        ("meta-llama/Llama-3.1-8B", {}, 32 * 8 * 256 * 2),  # grouped: 131,072 logged
        ("google/gemma-2b", {}, 18 * 1 * 512 * 2),  # multi-query
        ("meta-llama/Llama-3.1-8B", {"tensor_parallel_size": 8}, 32 * 1 * 256 * 2),
        ("meta-llama/Llama-3.1-8B", {"tensor_parallel_size": 16}, 32 * 1 * 256 * 2),  # heads repeated
        ("Qwen/Qwen2.5-7B-Instruct", {"kv_cache_dtype": "fp8"}, 28 * 4 * 256),  # 28,672 logged
        ("deepseek-ai/DeepSeek-V3", {}, 61 * 576 * 2),
        ("deepseek-ai/DeepSeek-V3", {"tensor_parallel_size": 8}, 61 * 576 * 2),  # the latent is on every GPU
        ("deepseek-ai/DeepSeek-V3", {"kv_cache_dtype": "fp8"}, 61 * 576),
        ("deepseek-ai/DeepSeek-V3", {"kv_cache_dtype": "fp8_ds_mla"}, 61 * 656),
        ("deepseek-ai/DeepSeek-V3", {"kv_cache_dtype": "nvfp4_ds_mla"}, 61 * 352),
        ("moonshotai/Kimi-K2-Instruct", {"tensor_parallel_size": 8}, 70_272),  # logged on H200 at TP 8
        # DeepSeek-V3.2: the latent beside a sparse index of 128 fp8 values and a float32 scale.
        ("deepseek-ai/DeepSeek-V3.2", {}, 61 * (576 * 2 + 132)),
        ("deepseek-ai/DeepSeek-V3.2", {"kv_cache_dtype": "fp8"}, 61 * (656 + 132)),
        # A float32 scale per token, head and side; nvfp4 has 4 bits and a byte per 16.
        ("Qwen/Qwen3-8B", {"kv_cache_dtype": "int8_per_token_head"}, 36 * 8 * (256 + 8)),
        ("Qwen/Qwen3-8B", {"kv_cache_dtype": "fp8_per_token_head"}, 36 * 8 * (256 + 8)),
        ("Qwen/Qwen3-8B", {"kv_cache_dtype": "int4_per_token_head"}, 36 * 8 * (128 + 8)),
        ("Qwen/Qwen3-8B", {"kv_cache_dtype": "nvfp4"}, 36 * 8 * 2 * (64 + 8)),
    ],
)
def test_bytes_per_token(name: str, given: dict[str, Any], expected: int) -> None:
    assert bytes_per_token(name, **given) == expected


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        # 10 full and 52 sliding layers: one group and six, eight layers of padding.
        ("google/gemma-3-27b-it", {"full": 1, "sliding": 6}),
        ("openai/gpt-oss-20b", {"full": 1, "sliding": 1}),
        ("google/gemma-2-27b-it", {"full": 1, "sliding": 1}),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", {"full": 1, "chunked": 3}),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", {"full": 1, "state": 3}),
        ("Qwen/Qwen3-8B", {"full": 1}),
        ("mistralai/Mistral-7B-v0.1", {"sliding": 1}),
        ("deepseek-ai/DeepSeek-V3", {"mla": 1}),
    ],
)
def test_groups(name: str, groups: dict[str, int]) -> None:
    facts = ModelFacts.load(name)
    layout = layout_of(facts, resolved(facts))
    assert {group.kind: group.count for group in layout.groups} == groups


@pytest.mark.parametrize(
    ("name", "given", "block"),
    [
        # `Setting attention block size to N tokens to ensure that attention page size is >= mamba page size.`
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", {}, 544),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", {"kv_cache_dtype": "bfloat16"}, 2096),
        # Logged by 0.27 and 0.28 with an fp8 cache, `Padding mamba page size by 0.13%`.
        ("Qwen/Qwen3.5-27B", {"kv_cache_dtype": "fp8"}, 1568),
    ],
)
def test_blocks_of_hybrid_models_hold_a_state(name: str, given: dict[str, Any], block: int) -> None:
    facts = ModelFacts.load(name)
    layout = layout_of(facts, resolved(facts, **given))
    assert layout.smallest_block == block
    state = next(layer.cache for layer in facts.layers if isinstance(layer.cache, StateCache))
    attention = next(layer.cache for layer in facts.layers if isinstance(layer.cache, TokenCache))
    per_token = attention.elements_per_token(1) * (1 if given.get("kv_cache_dtype") == "fp8" else 2)
    page = block * per_token
    assert page >= state.bytes_per_sequence(1, 2) > page - 16 * per_token
    if "Qwen3.5" in name:
        assert page / state.bytes_per_sequence(1, 2) - 1 == pytest.approx(0.0013, abs=0.0001)


def test_states_of_mamba_2_repeat_groups_that_do_not_divide() -> None:
    """`extra_groups_for_head_shards` of vLLM: every GPU of 16 keeps a group though the model has 8."""
    facts = ModelFacts.load("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16")
    state = next(layer.cache for layer in facts.layers if isinstance(layer.cache, StateCache))
    assert state.groups == 8
    more = state.bytes_per_sequence(16, 2) * 16 - state.bytes_per_sequence(8, 2) * 8
    assert more == 8 * state.group_channels * state.conv_length * 2


@pytest.mark.parametrize(
    ("version", "caching", "drafted", "states"),
    [
        ("0.19.0", True, 0, 1),
        ("0.32.0", True, 0, 2),
        ("0.32.0", False, 0, 1),
        ("0.32.0", True, 3, 5),
        ("0.32.0", False, 3, 4),
    ],
)
def test_states_per_sequence(version: str, caching: bool, drafted: int, states: int) -> None:
    facts = ModelFacts.load("Qwen/Qwen3-Next-80B-A3B-Instruct")
    config = resolved(
        facts, engine_version=version, enable_prefix_caching=caching, num_speculative_tokens=drafted,
        speculative_method="ngram",
    )  # fmt: skip
    recurrent = next(group for group in layout_of(facts, config).groups if group.kind == "state")
    assert recurrent.blocks_for(1_000_000, 8192) == states


def test_sliding_windows_hold_what_is_in_flight() -> None:
    """Before 0.21 one batch, since then one per batch in flight, and one block for where the window begins."""
    facts = ModelFacts.load("google/gemma-3-27b-it")
    old, new = (
        layout_of(facts, resolved(facts, engine_version=version)).blocks_per_sequence(131_072, tokens)
        for version, tokens in (("0.19.0", 8192), ("0.32.0", 16_384))
    )
    assert old == 8192 + 6 * (math.ceil((1023 + 8192) / 16) + 1)
    assert new == 8192 + 6 * (math.ceil((1023 + 16_384) / 16) + 1)


def test_stages_of_hybrid_models_hold_their_layers_of_the_models_groups() -> None:
    """Groups are made for the whole model: a stage pays for its fullest group, however its own layers are mixed."""
    facts = ModelFacts.load("google/gemma-3-27b-it")
    config = resolved(facts, pipeline_parallel_size=2)
    whole = layout_of(facts, resolved(facts))
    halves = [layout_of(facts, config, stage) for stage in (0, 1)]
    assert [half.groups for half in halves] == [whole.groups, whole.groups]
    page = whole.bytes_per_block // 10
    # 62 layers, every sixth full: five of the full group each, at most five of a sliding one.
    assert [half.bytes_per_block for half in halves] == [5 * page, 5 * page]


def test_latents_beside_windows_that_do_not_divide_keep_everything() -> None:
    facts = ModelFacts.load("deepseek-ai/DeepSeek-V3")
    window = replace(facts.layers[0], cache=TokenCache("sliding", 1, 512, 512, 1024))
    mixed = replace(facts, layers=(*facts.layers[:60], window))
    layout = layout_of(mixed, resolved(mixed))
    assert [(group.kind, group.count) for group in layout.groups] == [("full", 1)]
    assert layout.bytes_per_block == 16 * (60 * 576 * 2 + 1024 * 2)


def test_smaller_pages_get_longer_blocks_or_padding() -> None:
    facts = ModelFacts.load("openai/gpt-oss-20b")
    full = TokenCache("full", 8, 64, 64)
    for heads, block in ((4, 32), (6, 16)):
        window = TokenCache("sliding", heads, 64, 64, 128)
        layers = tuple(replace(layer, cache=full if place % 2 else window) for place, layer in enumerate(facts.layers))
        layout = layout_of(replace(facts, layers=layers), resolved(facts))
        assert {group.kind: group.block_size for group in layout.groups} == {"full": 16, "sliding": block}
        assert layout.bytes_per_block == 12 * 16 * 8 * 128 * 2


def test_layers_that_read_anothers_cache_keep_none() -> None:
    facts = ModelFacts.load("google/gemma-2-2b-it")
    shared = replace(facts, layers=(*facts.layers[:-2], *(replace(layer, cache=None) for layer in facts.layers[-2:])))
    assert layout_of(shared, resolved(shared)).bytes_per_block < layout_of(facts, resolved(facts)).bytes_per_block


def test_prediction_layers_take_cache_on_the_last_stage() -> None:
    facts = ModelFacts.load("deepseek-ai/DeepSeek-V3")
    assert len(facts.draft_layers) == 1

    def sizes(drafted: int) -> list[int]:
        config = resolved(facts, pipeline_parallel_size=2, num_speculative_tokens=drafted)
        return [layout_of(facts, config, stage).bytes_per_block for stage in (0, 1)]

    plain, drafting = sizes(0), sizes(1)
    assert drafting[0] == plain[0]
    assert drafting[1] == plain[1] + 16 * 576 * 2


def test_a_draft_model_takes_weights_and_cache() -> None:
    facts, draft = ModelFacts.load("Qwen/Qwen3-32B"), ModelFacts.load("Qwen/Qwen3-0.6B")
    config = EngineConfig(tensor_parallel_size=2, max_model_len=8192, num_speculative_tokens=4, max_num_seqs=64)
    alone = memory_ledger(facts, H100, config)
    drafted = memory_ledger(facts, H100, config, draft=draft)
    own = memory_ledger(draft, H100, EngineConfig(tensor_parallel_size=2, max_model_len=8192))
    assert drafted.weights_gib - alone.weights_gib == pytest.approx(own.weights_gib, rel=0.01)
    assert drafted.bytes_per_block == alone.bytes_per_block + own.bytes_per_block
    assert drafted.lookahead_tokens == 256
    assert drafted.kv_cache_blocks < alone.kv_cache_blocks
    # A head on the model shares embedding and head with it.
    eagle = memory_ledger(facts, H100, replace(config, speculative_method="eagle3"), draft=draft)
    assert alone.weights_gib < eagle.weights_gib < drafted.weights_gib


@pytest.mark.parametrize(("version", "reserved"), [("0.19.0", 0), ("0.32.0", 1)])
def test_the_named_maximum_is_the_longest_that_starts(version: str, reserved: int) -> None:
    facts = ModelFacts.load("meta-llama/Llama-3.1-8B-Instruct")
    config = EngineConfig(max_model_len=131_072, engine_version=version, max_num_seqs=16, max_num_batched_tokens=2048)
    refused = memory_ledger(facts, accelerator("L4"), config)
    assert not refused.fits
    longest = int(refused.reason.split("use max_model_len ")[1].split(" ")[0].replace(",", ""))
    assert longest == (refused.kv_cache_blocks - reserved) * 16
    assert memory_ledger(facts, accelerator("L4"), replace(config, max_model_len=longest)).fits
    assert not memory_ledger(facts, accelerator("L4"), replace(config, max_model_len=longest + 1)).fits


def test_a_context_beyond_the_models_is_refused() -> None:
    facts = ModelFacts.load("Qwen/Qwen3-8B")
    with pytest.raises(RecommenderError, match="max_model_len 40,961 is more than the 40,960 positions"):
        memory_ledger(facts, H100, EngineConfig(max_model_len=40_961))
    with pytest.raises(RecommenderError, match="positions"):
        memory_ledger(facts, H100, EngineConfig(max_model_len=10**9))
    with pytest.raises(RecommenderError, match="max_model_len must be a whole number from 1"):
        memory_ledger(facts, H100, EngineConfig(max_model_len=10**400))


GROUPS = st.builds(
    Group,
    kind=st.sampled_from(["full", "mla", "sliding", "chunked", "state"]),
    window=st.integers(1, 200_000),
    block_size=st.sampled_from([16, 32, 64, 544]),
    count=st.integers(1, 8),
    states=st.integers(1, 6),
)


@given(group=GROUPS, tokens=st.integers(1, 10**6), more=st.integers(0, 10**6), in_flight=st.integers(1, 65_536))
@settings(max_examples=200, deadline=None)
def test_blocks_never_shrink_with_tokens(group: Group, tokens: int, more: int, in_flight: int) -> None:
    assert group.blocks_for(tokens, in_flight) <= group.blocks_for(tokens + more, in_flight)
    assert group.blocks_for(tokens, in_flight) <= group.blocks_for(tokens, in_flight + more)
    assert group.blocks_for(tokens, in_flight) <= max(group.states, math.ceil(tokens / group.block_size) + 1)


@given(
    name=st.sampled_from(["google/gemma-3-12b-it", "openai/gpt-oss-20b", "Qwen/Qwen3-8B", "deepseek-ai/DeepSeek-V3",
                          "Qwen/Qwen3.5-35B-A3B", "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"]),
    blocks=st.integers(0, 200_000),
    version=st.sampled_from(["0.19.0", "0.22.0", "0.32.0"]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_longest_context_is_the_longest(name: str, blocks: int, version: str) -> None:
    facts = ModelFacts.load(name)
    config = resolve(EngineConfig(engine_version=version), facts, H100)
    layout = layout_of(facts, config)
    found = longest_context(layout, config, blocks)
    in_flight = (2 if version != "0.19.0" else 1) * config.max_num_batched_tokens
    usable = blocks - 1 if version == "0.32.0" else blocks
    if found:
        assert layout.blocks_per_sequence(found, in_flight) <= usable
    if found < config.max_model_len:
        assert layout.blocks_per_sequence(found + 1, in_flight) > usable


@pytest.mark.parametrize("name", models.model_names()[::4])
@pytest.mark.parametrize("dtype", KV_CACHE_DTYPES[1:])
def test_every_layout_is_whole_and_smaller_types_take_less(name: str, dtype: str) -> None:
    facts = ModelFacts.load(name)
    if facts.approximate and dtype.endswith("_per_token_head"):
        pytest.skip("no kernel keeps compressed states with scales per head")
    wide = layout_of(facts, resolved(facts, kv_cache_dtype="bfloat16"))
    layout = layout_of(facts, resolved(facts, kv_cache_dtype=dtype))
    assert layout.bytes_per_block > 0
    assert layout.bytes_per_block / layout.smallest_block <= wide.bytes_per_block / wide.smallest_block + 1e-6

"""The laws a step's time is made of: what they may not break, and kernels they reproduce."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll_recommender import EngineConfig, ModelFacts, StepLoad, StepTimeModel, accelerator
from plimsoll_recommender.latency.efficiency import AMPERE, BLACKWELL, HOPPER, efficiency_of
from plimsoll_recommender.latency.products import format_of, law_of, mixtures_of, products_of

MODELS = (
    "meta-llama/Llama-3.1-8B-Instruct",
    "Qwen/Qwen3-32B",
    "Qwen/Qwen3-30B-A3B",
    "openai/gpt-oss-120b",
    "deepseek-ai/DeepSeek-V3",
    "Qwen/Qwen3.5-27B",
)
GPUS = ("H100", "B200", "A100", "L40S", "T4", "MI300X")

facts_of = st.sampled_from(MODELS).map(ModelFacts.load)
gpu_of = st.sampled_from(GPUS).map(accelerator)


def model_of(facts: ModelFacts, gpu: str = "H100", **settings_: object) -> StepTimeModel:
    """Step times of a model on a GPU."""
    return StepTimeModel.for_engine(facts, accelerator(gpu), EngineConfig(**settings_))  # type: ignore[arg-type]


def load(prefill: int, reach: int, decode: int, context: int) -> StepLoad:
    """A step of prompt tokens that reach so far and sequences that see so much."""
    return StepLoad(prefill, prefill * reach, decode, decode * context, decode)


@given(
    facts=facts_of,
    gpu=gpu_of,
    shape=st.tuples(st.integers(0, 16_384), st.integers(1, 100_000), st.integers(0, 1024), st.integers(1, 100_000)),
    more=st.tuples(st.integers(0, 2000), st.integers(0, 50_000), st.integers(0, 300), st.integers(0, 50_000)),
)
@settings(max_examples=150, deadline=None)
def test_more_of_anything_never_takes_less_time(
    facts: ModelFacts,
    gpu: object,
    shape: tuple[int, int, int, int],
    more: tuple[int, int, int, int],
) -> None:
    model = StepTimeModel.for_engine(facts, gpu, EngineConfig(tensor_parallel_size=4))  # type: ignore[arg-type]
    base = model.seconds(load(*shape))
    assert 0 < base < 3600
    for index in range(4):
        grown = list(shape)
        grown[index] += more[index]
        assert model.seconds(load(*grown)) >= base * (1 - 1e-12)


@given(facts=facts_of, faster=st.floats(1.0, 4.0), tokens=st.integers(1, 8192), decode=st.integers(0, 512))
@settings(max_examples=60, deadline=None)
def test_a_better_gpu_is_never_slower(facts: ModelFacts, faster: float, tokens: int, decode: int) -> None:
    gpu = accelerator("H100")
    work, config = load(tokens, 500, decode, 2000), EngineConfig(tensor_parallel_size=2)
    base = StepTimeModel.for_engine(facts, gpu, config).seconds(work)
    for name in ("memory_bandwidth", "flops_16bit", "flops_fp8", "link_bandwidth"):
        better = replace(gpu, **{name: getattr(gpu, name) * faster})
        assert StepTimeModel.for_engine(facts, better, config).seconds(work) <= base * (1 + 1e-12)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("gpu", GPUS)
def test_a_step_is_never_faster_than_the_datasheet(name: str, gpu: str) -> None:
    facts, product = ModelFacts.load(name), accelerator(gpu)
    model = StepTimeModel.for_engine(facts, product, EngineConfig(tensor_parallel_size=4))
    tokens = 8192
    arithmetic = 2 * facts.active_parameters * tokens / 4 / max(product.flops_16bit, product.flops_fp8 or 0.0)
    assert model.seconds(load(tokens, tokens // 2, 0, 0)) > arithmetic
    dense = sum(product_.weight_bytes * product_.count for product_ in products_of(facts, product, EngineConfig()))
    assert model_of(facts, gpu).seconds(load(0, 0, 1, 1)) > dense / product.memory_bandwidth


def test_the_interpolation_passes_through_its_points_and_never_jumps() -> None:
    model = model_of(ModelFacts.load("Qwen/Qwen3-30B-A3B"), tensor_parallel_size=2)
    for tokens, seconds, _ in model.curve[:-1]:
        assert model.products_seconds(tokens) == pytest.approx(seconds, rel=1e-12)
        assert model.products_seconds(tokens * (1 + 1e-9)) == pytest.approx(seconds, rel=1e-6)
        assert model.products_seconds(tokens * (1 - 1e-9)) == pytest.approx(seconds, rel=1e-6)
    beyond = model.products_seconds(200_000.0)
    assert beyond > model.products_seconds(65_536.0)


@pytest.mark.parametrize(
    ("law", "rows", "outputs", "inputs", "width", "gpu", "measured"),
    [
        # (microseconds) vLLM 0.19 on H100 and B200, 0.14 on A100: ai-dynamo/aiconfigurator's tables (Apache-2.0).
        (HOPPER.kernels.matmul["16bit"], 1, 8192, 8192, 2, "H100", 47.8),
        (HOPPER.kernels.matmul["16bit"], 2048, 8192, 8192, 2, "H100", 371.2),
        (HOPPER.kernels.matmul["16bit"], 8, 8192, 1024, 2, "H100", 8.6),
        (HOPPER.kernels.matmul["fp8"], 8, 10240, 8192, 1, "H100", 34.3),
        (HOPPER.kernels.matmul["fp8"], 2048, 16384, 8192, 1, "H100", 432.0),
        (BLACKWELL.kernels.matmul["16bit"], 64, 16384, 8192, 2, "B200", 44.4),
        (BLACKWELL.kernels.matmul["fp4"], 1024, 8192, 16384, 0.5625, "B200", 67.4),
        (AMPERE.kernels.matmul["16bit"], 32, 8192, 8192, 2, "A100", 106.6),
    ],
)
def test_products_take_what_was_measured(
    law: object, rows: int, outputs: int, inputs: int, width: float, gpu: str, measured: float
) -> None:
    product = accelerator(gpu)
    flops = {2: product.flops_16bit, 1: product.flops_fp8, 0.5625: product.flops_fp4}[width]
    seconds = law.seconds(rows, outputs, inputs, outputs * inputs * width, product.memory_bandwidth, flops)  # type: ignore[attr-defined]
    assert seconds * 1e6 == pytest.approx(measured, rel=0.2)


def test_products_are_those_that_the_engine_fuses_and_divides() -> None:
    facts, gpu = ModelFacts.load("Qwen/Qwen3-32B"), accelerator("H100")
    found = {
        (item.outputs, item.inputs, item.count)
        for item in products_of(facts, gpu, EngineConfig(tensor_parallel_size=4))
    }
    heads, width, inner = 64 * 128, 5120, 25_600
    assert found == {
        ((heads + 2 * 1024) / 4, width, 64.0),
        (width, heads / 4, 64.0),
        (2 * inner / 4, width, 64.0),
        (width, inner / 4, 64.0),
    }


@pytest.mark.parametrize(
    ("config", "held", "ranks"),
    [
        (EngineConfig(tensor_parallel_size=4), 128, 1),
        (EngineConfig(tensor_parallel_size=4, expert_parallel=True), 32, 4),
        (EngineConfig(data_parallel_size=8, expert_parallel=True), 16, 8),
        (EngineConfig(data_parallel_size=8), 128, 1),
    ],
)
def test_experts_are_divided_or_distributed(config: EngineConfig, held: int, ranks: int) -> None:
    (mixture,) = mixtures_of(ModelFacts.load("Qwen/Qwen3-30B-A3B"), accelerator("H100"), config)
    assert (mixture.held, mixture.ranks) == (held, ranks)


@pytest.mark.parametrize(
    ("name", "gpu", "form"),
    [
        ("Qwen/Qwen3-32B", "H100", "16bit"),
        ("nvidia/Llama-3.1-70B-Instruct-FP8", "H100", "fp8"),
        ("deepseek-ai/DeepSeek-V3", "H100", "fp8-block"),
        ("deepseek-ai/DeepSeek-V3", "A100", "weight-only"),
        ("openai/gpt-oss-120b", "H100", "mxfp4"),
        ("nvidia/MiniMax-M2.5-NVFP4", "B200", "fp4"),
        ("nvidia/MiniMax-M2.5-NVFP4", "H100", "weight-only"),
    ],
)
def test_weights_are_multiplied_in_a_format_the_gpu_knows(name: str, gpu: str, form: str) -> None:
    facts = ModelFacts.load(name)
    compute = facts.quantization.compute if facts.quantization else "16bit"
    weight = min((w for layer in facts.layers for w in layer.weights if w.linear), key=lambda w: w.bits)
    assert format_of(weight, compute, accelerator(gpu)) == form


def test_a_format_without_a_law_takes_the_nearest() -> None:
    laws = {"16bit": "sixteen", "fp8": "eight"}
    assert law_of(laws, "fp8-block") == "eight"
    assert law_of(laws, "fp4") == "eight"
    assert law_of(laws, "weight-only") == "sixteen"
    assert law_of(laws, "something new") == "sixteen"


@pytest.mark.parametrize(
    ("change", "faster"),
    [
        (lambda: model_of(ModelFacts.load("Qwen/Qwen3-32B"), tensor_parallel_size=4), True),
        (lambda: model_of(ModelFacts.load("Qwen/Qwen3-32B"), tensor_parallel_size=2, enforce_eager=True), False),
        (lambda: model_of(ModelFacts.load("Qwen/Qwen3-32B"), tensor_parallel_size=2, engine_version="0.12.0"), False),
        (lambda: model_of(ModelFacts.load("Qwen/Qwen3-32B"), tensor_parallel_size=2, quantization="fp8"), True),
        (lambda: model_of(ModelFacts.load("Qwen/Qwen3-32B"), tensor_parallel_size=2, kv_cache_dtype="fp8"), True),
        (lambda: model_of(ModelFacts.load("Qwen/Qwen3-32B"), "A100", tensor_parallel_size=2), False),
        (lambda: model_of(ModelFacts.load("Qwen/Qwen3-32B"), "B200", tensor_parallel_size=2), True),
    ],
)
def test_settings_change_the_time_in_the_direction_they_should(
    change: Callable[[], StepTimeModel], faster: bool
) -> None:
    base = model_of(ModelFacts.load("Qwen/Qwen3-32B"), tensor_parallel_size=2)
    work = load(0, 0, 64, 8000)
    assert (change().seconds(work) < base.seconds(work)) is faster


def test_a_window_bounds_the_context_that_costs() -> None:
    model = model_of(ModelFacts.load("openai/gpt-oss-20b"))
    windows = sorted(reader.limit for reader in model.readers)
    assert windows[0] == 128
    assert math.isinf(windows[1])
    only = replace(model, readers=tuple(reader for reader in model.readers if reader.limit == 128))
    assert only.seconds(load(0, 0, 32, 128)) == only.seconds(load(0, 0, 32, 100_000))


def test_pipeline_stages_cost_one_token_more_but_many_less_each() -> None:
    facts = ModelFacts.load("Qwen/Qwen3-32B")
    one, four = (
        model_of(facts, tensor_parallel_size=2),
        model_of(facts, tensor_parallel_size=2, pipeline_parallel_size=4),
    )
    assert four.seconds(load(0, 0, 1, 1000)) > one.seconds(load(0, 0, 1, 1000))
    # Per token and stage: four stages work on different sequences at once.
    assert four.seconds(load(0, 0, 512, 1000)) / 4 < one.seconds(load(0, 0, 512, 1000))


def test_generations_state_whether_they_were_measured() -> None:
    measured = ("hopper", "blackwell", "blackwell-ultra", "blackwell-consumer", "ampere", "ada")
    assert all(efficiency_of(name).calibrated for name in measured)
    assert not any(efficiency_of(name).calibrated for name in ("turing", "volta", "cdna3", "ampere-gddr"))


def test_a_card_reads_what_its_codes_leave_of_the_bandwidth() -> None:
    facts, codes = ModelFacts.load("meta-llama/Llama-3.1-8B"), accelerator("L40S")
    without = replace(codes, ecc_in_band=False)
    with_codes, bare = (StepTimeModel.for_engine(facts, gpu, EngineConfig()).weights for gpu in (codes, without))
    assert bare < with_codes < bare * 16 / 15


def test_the_promise_of_more_fp4_on_b300_is_not_believed() -> None:
    # The datasheet has 56 % more fp4 than B200's; vLLM's kernels on it were measured and take as long.
    sizes = {"hidden_size": 8192, "intermediate_size": 28_672, "num_hidden_layers": 80, "vocab_size": 128_256}
    heads = {"num_attention_heads": 64, "num_key_value_heads": 8, "model_type": "llama"}
    facts = ModelFacts.from_hf_config({**sizes, **heads, "quantization_config": {"quant_algo": "NVFP4"}})
    newer, older = (StepTimeModel.for_engine(facts, accelerator(name), EngineConfig()) for name in ("B300", "B200"))
    prompts = load(8192, 2000, 0, 0)
    assert 0.85 < newer.seconds(prompts) / older.seconds(prompts) < 1.15


def test_logits_are_gathered_over_the_link_when_tensor_parallelism_divides_the_vocabulary() -> None:
    facts, cfg = ModelFacts.load("Qwen/Qwen3-32B"), EngineConfig(tensor_parallel_size=2)
    whole = StepTimeModel.for_engine(facts, accelerator("L40S"), EngineConfig())
    bridged, switched = (StepTimeModel.for_engine(facts, accelerator(name), cfg) for name in ("L40S", "H100"))
    assert whole.head_gather == 0.0
    assert bridged.head_gather > 10 * switched.head_gather > 0.0
    # Half of a row's 16-bit logits come over the link; its datasheet is not exceeded, nor missed many times.
    assert 1.0 < bridged.head_gather / (facts.vocab_size * 2 / 2 / 32e9) < 4.0


def test_all_reduces_are_fused_only_where_the_engine_has_the_kernels() -> None:
    facts = ModelFacts.load("Qwen/Qwen3-32B")

    def fixed(name: str, release: str) -> float:
        config = EngineConfig(tensor_parallel_size=2, engine_version=release)
        return StepTimeModel.for_engine(facts, accelerator(name), config).fixed

    assert fixed("H100", "0.16.0") < fixed("H100", "0.15.0")
    assert fixed("L40S", "0.16.0") == fixed("L40S", "0.15.0")

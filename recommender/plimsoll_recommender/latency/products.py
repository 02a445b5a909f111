"""The matrix products of a model on one GPU: shapes, formats, and their time as a function of the tokens of a step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import EngineConfig
from plimsoll_recommender.facts.layers import Layer, Split, Weight
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.facts.quantization import FP8_BLOCK_BITS
from plimsoll_recommender.latency.efficiency import Efficiency
from plimsoll_recommender.latency.kernels import ACTIVATION_BYTES, ExpertsLaw, MatmulLaw, overlapped

COLUMN_DIVIDED: Final = (
    "down_proj",
    "o_proj",
    "out_proj",
    "wo",
    "dense_4h_to_h",
    "c_proj",
    "fc2",
    "w2",
)
"""Ends of the names of weights whose inputs, not outputs, tensor parallelism divides: the second of a pair."""

FUSED: Final = {"self_attn.q_a_proj": "qkv_a_proj", "self_attn.kv_a_proj_with_mqa": "qkv_a_proj"}
"""Replicated matrices that vLLM multiplies as one, though it stores them apart in memory accounts."""

WEIGHT_ONLY_COMPUTE: Final = 0.75
"""Share of the 16-bit products' arithmetic left when weights are expanded on the way (Marlin), an assumption."""


@dataclass(frozen=True)
class Product:
    """A product done `count` times per step on one GPU: outputs x inputs, bytes of the weight, its format."""

    outputs: float
    inputs: float
    weight_bytes: float
    format: str
    count: float


@dataclass(frozen=True)
class Mixture:
    """The experts of a kind of layer on one GPU.

    Args:
        elements: elements of one expert on this GPU.
        weight_bytes: bytes of one expert on this GPU.
        held: experts on this GPU.
        experts, used: experts there are, and how many a token uses.
        hidden, inner: elements of a routed token that go in and out, and between the products.
        ranks: GPUs over which whole experts are distributed; 1 when every expert is divided.
        sources: how many times the tokens of this rank are routed here (data-parallel ranks sharing experts).
        format: of the weights.
        count: layers per step.
    """

    elements: float
    weight_bytes: float
    held: float
    experts: float
    used: float
    hidden: float
    inner: float
    ranks: int
    sources: int
    format: str
    count: float


Law = TypeVar("Law")

_NEAREST: Final = {
    "fp4": ("fp4", "fp8", "fp8-block", "16bit"),
    "mxfp4": ("mxfp4", "fp8", "weight-only", "16bit"),
    "fp8": ("fp8", "fp8-block", "weight-only", "16bit"),
    "fp8-block": ("fp8-block", "fp8", "weight-only", "16bit"),
    "int8": ("int8", "fp8", "16bit"),
    "weight-only": ("weight-only", "16bit"),
}


def law_of(laws: Mapping[str, Law], form: str) -> Law:
    """The law of a format, or of the one nearest to it that the generation has."""
    for near in _NEAREST.get(form, ()):
        if near in laws:
            return laws[near]
    return laws["16bit"]


def flops_of(gpu: Accelerator, form: str) -> float:
    """Dense FLOP/s of a GPU in a format; 16-bit ones where it has no arithmetic in it."""
    return gpu.flops({"fp8-block": "fp8", "weight-only": "16bit"}.get(form, form))


def format_of(weight: Weight, compute: str, gpu: Accelerator) -> str:
    """The format in which a weight is multiplied on a GPU.

    Args:
        weight: the weight.
        compute: what the model's quantisation computes in.
        gpu: what it runs on; weights of a format that it has no arithmetic for are expanded to 16 bits.
    """
    if weight.bits >= 16:
        return "16bit"
    if compute == "mxfp4":
        return "mxfp4"
    if compute == "fp4" and weight.bits < 6:
        return "fp4" if gpu.flops_fp4 else "weight-only"
    if compute == "fp8" or (compute == "fp4" and weight.bits < 10):
        if not gpu.flops_fp8:
            return "weight-only"
        return "fp8-block" if weight.bits == 8 + FP8_BLOCK_BITS else "fp8"
    if compute == "int8":
        return "int8" if gpu.flops_int8 else "weight-only"
    return "weight-only"


def products_of(facts: ModelFacts, gpu: Accelerator, config: EngineConfig) -> list[Product]:
    """The dense products of one stage, without the LM head; matrices that the engine fuses are one product."""
    compute = facts.quantization.compute if facts.quantization else "16bit"
    tensor, stages = config.tensor_parallel_size, config.pipeline_parallel_size
    found: dict[tuple[float, float, float, str], float] = {}
    for layer, count in facts.layer_counts:
        for shape in _layer_products(layer, compute, gpu, tensor):
            found[shape] = found.get(shape, 0.0) + count / stages
    return [Product(*shape, count) for shape, count in found.items()]


def _layer_products(layer: Layer, compute: str, gpu: Accelerator, tensor: int) -> list[tuple[float, float, float, str]]:
    fused: dict[str, tuple[float, float, float, str]] = {}
    for weight in layer.weights:
        if weight.split is Split.EXPERTS or not weight.linear:
            continue
        share = weight.share(tensor)
        inputs, outputs = float(weight.columns), float(weight.rows)
        if weight.split is Split.TENSOR and weight.module.endswith(COLUMN_DIVIDED):
            inputs *= share
        else:
            outputs *= share
        # A matrix with several copies (a shared expert's) is as wide as all of them.
        outputs *= weight.copies
        size = weight.elements * share * weight.bits / 8
        name = weight.fused or FUSED.get(weight.module, weight.module)
        before = fused.get(name, (0.0, inputs, 0.0, ""))
        fused[name] = (
            before[0] + outputs,
            inputs,
            before[2] + size,
            format_of(weight, compute, gpu),
        )
    return list(fused.values())


def mixtures_of(facts: ModelFacts, gpu: Accelerator, config: EngineConfig) -> list[Mixture]:
    """The experts of one stage, by kind of layer."""
    compute = facts.quantization.compute if facts.quantization else "16bit"
    tensor = config.tensor_parallel_size
    sources = config.data_parallel_size if config.expert_parallel else 1
    ranks = tensor * sources if config.expert_parallel else 1
    found = []
    for layer, count in facts.layer_counts:
        weights = [weight for weight in layer.weights if weight.split is Split.EXPERTS]
        if not weights:
            continue
        copies, used = weights[0].copies, weights[0].active
        held = math.ceil(copies / ranks)
        elements = sum(weight.elements * weight.share(tensor, ranks) for weight in weights) / held
        size = sum(weight.elements * weight.bits / 8 * weight.share(tensor, ranks) for weight in weights) / held
        inner = min(min(weight.rows, weight.columns) for weight in weights) / (1 if ranks > 1 else tensor)
        found.append(
            Mixture(
                elements,
                size,
                float(held),
                float(copies),
                float(used),
                float(facts.hidden_size),
                inner,
                ranks,
                sources,
                format_of(weights[0], compute, gpu),
                count / config.pipeline_parallel_size,
            )
        )
    return found


def products_seconds(
    rows: float,
    products: list[Product],
    gpu: Accelerator,
    laws: Mapping[str, MatmulLaw],
) -> float:
    """Seconds of all dense products of a step with `rows` tokens."""
    time = 0.0
    for product in products:
        law = law_of(laws, product.format)
        flops = flops_of(gpu, product.format)
        if product.format == "weight-only":
            flops *= WEIGHT_ONLY_COMPUTE
        time += product.count * law.seconds(
            rows,
            product.outputs,
            product.inputs,
            product.weight_bytes,
            gpu.data_bandwidth,
            flops,
        )
    return time


def mixture_seconds(
    rows: float,
    mixture: Mixture,
    gpu: Accelerator,
    law: ExpertsLaw,
    routing: float,
    imbalance: float,
) -> float:
    """Seconds of one layer's experts with `rows` tokens on this rank.

    Args:
        rows: tokens.
        mixture: the experts.
        gpu: what they run on.
        law: of their products.
        routing: exponent of the number of tokens in the share of experts used.
        imbalance: more rows than the mean on the busiest GPU, as a share.
    """
    tokens = rows * mixture.sources
    touched = mixture.held * (1.0 - math.pow(1.0 - mixture.used / mixture.experts, math.pow(tokens, routing)))
    routed = tokens * mixture.used
    if mixture.ranks > 1:
        # Whole experts on other GPUs take their share of the tokens; the busiest GPU is waited for.
        routed *= mixture.held / mixture.experts * (1 + imbalance)
    memory = touched * mixture.weight_bytes / (gpu.data_bandwidth * law.bandwidth)
    compute = 2 * (routed + law.padding * touched) * mixture.elements / (flops_of(gpu, mixture.format) * law.compute)
    moved = law.traffic * ACTIVATION_BYTES * routed * 2 * (mixture.hidden + mixture.inner) / gpu.data_bandwidth
    return law.launch + overlapped(memory, compute, law.sharpness) + moved


def experts_seconds(rows: float, mixtures: list[Mixture], gpu: Accelerator, efficiency: Efficiency) -> float:
    """Seconds of all experts of a step with `rows` tokens on this rank."""
    laws, serving = efficiency.kernels.experts, efficiency.serving
    return sum(
        mixture.count
        * mixture_seconds(
            rows,
            mixture,
            gpu,
            law_of(laws, mixture.format),
            serving.routing,
            serving.imbalance,
        )
        for mixture in mixtures
    )

"""Physics of LLM-Pilot's runs: each LLM on each GPU profile under each number of users, by Plimsoll's step-time model.

The engine was Text Generation Inference Server (TGIS): a prompt is computed in a step of its own, requests wait until
the batch's tokens leave room. Encoder-decoder models are two stacks: the encoder computes prompts, the decoder with
its cross-attention generates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from plimsoll_recommender import Accelerator, EngineConfig, ModelFacts, StepTimeModel, accelerator
from plimsoll_recommender.facts.layers import Layer, Split, TokenCache, Weight

GIB: Final = 1024**3

USABLE_MEMORY: Final = 0.9
"""Share of the GPU's memory that holds weights and cache: what engines of the time took by default."""

RESERVE: Final = {"flash": 3.0, "encoder-decoder": 30.0, "plain": 30.0}
"""Memory that an implementation sets aside for a sequence over its mean tokens.

Flash attention holds what requests ask for; without it a batch is padded, as if to about 4,000 tokens, 30 times the
mean. Orders of magnitude, read off the whole table: learning does the rest.
"""

OLDEST_ENGINE: Final = "0.10.0"
"""Engine release whose host schedules and computes in turn, as TGIS did."""


@dataclass(frozen=True)
class Shape:
    """Sizes of an LLM from its published config.json.

    Args:
        hidden: width.
        layers: decoder layers.
        heads, kv_heads, head: attention heads, those of keys and values, and their size.
        width: of the feed-forward layers.
        gated: whether they have a gate.
        vocabulary: tokens.
        encoder: encoder layers; 0 for a decoder.
        kernels: which implementation of TGIS served it: `flash`, `encoder-decoder` or `plain`, known beforehand from
            the architecture (LLM-Pilot's features state flash attention and the type).
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    width: int
    gated: bool
    vocabulary: int
    encoder: int = 0
    kernels: str = "flash"

    @property
    def kv_bytes(self) -> float:
        """Bytes of a cached token over all layers, 16-bit."""
        return 2.0 * 2.0 * self.layers * self.kv_heads * self.head


SHAPES: Final = {
    "google/flan-t5-xl": Shape(2048, 24, 32, 32, 64, 5120, True, 32128, 24, "encoder-decoder"),
    "google/flan-t5-xxl": Shape(4096, 24, 64, 64, 64, 10240, True, 32128, 24, "encoder-decoder"),
    "google/flan-ul2": Shape(4096, 32, 16, 16, 256, 16384, True, 32128, 32, "encoder-decoder"),
    "bigscience/mt0-xxl": Shape(4096, 24, 64, 64, 64, 10240, True, 250112, 24, "encoder-decoder"),
    "ibm/mpt-7b-instruct2": Shape(4096, 32, 32, 32, 128, 16384, False, 50432, 0, "plain"),
    "Salesforce/codegen2-16B": Shape(6144, 34, 24, 24, 256, 24576, False, 51200, 0, "plain"),
    "llama-7b": Shape(4096, 32, 32, 32, 128, 11008, True, 32000),
    "llama-13b": Shape(5120, 40, 40, 40, 128, 13824, True, 32000),
    "EleutherAI/gpt-neox-20b": Shape(6144, 44, 64, 64, 96, 24576, False, 50432),
    "bigcode/starcoder": Shape(6144, 40, 48, 1, 128, 24576, False, 49152),
}
"""LLMs of the data set, by their published config.json."""

PRODUCTS: Final = {"T4": "T4", "V100": "V100", "A10": "A10", "A100": "NVIDIA-A100-PCIE-40GB", "H100": "H100"}
"""Products of the data set's GPUs: its features state 40 GB without NVLink for A100 and SXM for H100."""


@dataclass(frozen=True)
class Expected:
    """What physics expects of one run.

    Args:
        itl: mean time between tokens, seconds.
        ttft: mean time to first token, seconds.
        fullness: memory that all users' sequences would take over what the weights leave.
        prompts: prompts computed per step.
    """

    itl: float
    ttft: float
    fullness: float
    prompts: float


def gpus_of(profile: str) -> tuple[int, str]:
    """GPUs and their name of a profile such as `2 x A100`."""
    count, name = profile.split(" x ")
    return int(count), name


def gpu_of(name: str) -> Accelerator:
    """The accelerator behind a GPU name of the data set, joined as its features state."""
    found = accelerator(PRODUCTS[name])
    # The features state PCIe for V100, whose catalogue row is the SXM2 module.
    return replace(found, link_domain=1, link_bandwidth=found.pcie_bandwidth) if name == "V100" else found


@cache
def facts_of(llm: str, part: str) -> ModelFacts:
    """Facts of an LLM's `encoder` or `decoder` stack."""
    shape = SHAPES[llm]
    inner = shape.heads * shape.head
    kv = shape.kv_heads * shape.head
    cached = TokenCache("full", shape.kv_heads, shape.head, shape.head)
    attention = (
        Weight("self_attn.qkv_proj", inner, shape.hidden),
        Weight("self_attn.kv_proj", 2 * kv, shape.hidden, split=Split.KV_HEADS, units=shape.kv_heads),
        Weight("self_attn.o_proj", shape.hidden, inner),
    )
    feed_forward = (
        Weight("mlp.up_proj", shape.width * (2 if shape.gated else 1), shape.hidden),
        Weight("mlp.down_proj", shape.hidden, shape.width),
    )

    def layer(weights: tuple[Weight, ...]) -> Layer:
        return Layer(weights, cached, shape.heads, shape.head, shape.head)

    if part == "encoder":
        layers = (layer(attention + feed_forward),) * shape.encoder
    elif shape.encoder:
        # Cross-attention reads keys and values that were computed once, from the prompt.
        cross = (Weight("cross_attn.q_proj", inner, shape.hidden), Weight("cross_attn.o_proj", shape.hidden, inner))
        layers = (layer(attention), layer(cross + feed_forward)) * shape.layers
    else:
        layers = (layer(attention + feed_forward),) * shape.layers
    return ModelFacts(
        name=llm,
        architecture=part,
        hidden_size=shape.hidden,
        num_attention_heads=shape.heads,
        vocab_size=shape.vocabulary,
        max_position_embeddings=8192,
        dtype="float16",
        layers=layers,
        embedding=Weight("embed_tokens", shape.vocabulary, shape.hidden, split=Split.VOCABULARY, linear=False),
        head=Weight("lm_head", shape.vocabulary, shape.hidden, split=Split.VOCABULARY),
        source="published config.json",
    )


@cache
def steps_of(llm: str, profile: str, part: str) -> StepTimeModel:
    """Step times of a stack on a profile, all GPUs of it in tensor parallel."""
    count, name = gpus_of(profile)
    config = EngineConfig(tensor_parallel_size=count, engine_version=OLDEST_ENGINE)
    return StepTimeModel.for_engine(facts_of(llm, part), gpu_of(name), config)


def weight_bytes(llm: str) -> float:
    """Bytes of an LLM's weights, 16-bit."""
    decoder = facts_of(llm, "decoder").checkpoint_bytes
    if not SHAPES[llm].encoder:
        return decoder
    shape = SHAPES[llm]
    # Cross-attention's keys and values, and the encoder without a second embedding and head.
    cross = 2.0 * shape.layers * 2 * shape.kv_heads * shape.head * shape.hidden
    stack = 2.0 * sum(weight.elements for layer in facts_of(llm, "encoder").layers for weight in layer.weights)
    return decoder + stack + cross


def slots_of(llm: str, profile: str, tokens: float) -> float:
    """Sequences of this many tokens whose KV fits beside the weights, at least one."""
    count, name = gpus_of(profile)
    shape = SHAPES[llm]
    free = count * USABLE_MEMORY * gpu_of(name).memory_gib * GIB - weight_bytes(llm)
    copies = max(1.0, count / shape.kv_heads)
    return max(1.0, free / (tokens * shape.kv_bytes * copies * (2 if shape.encoder else 1)))


def expect(llm: str, profile: str, users: int, prompt: float, output: float) -> Expected:
    """Physics of one run, as if memory held every user's sequence.

    TGIS admits requests up to a batch weight that was tuned for each profile and that no rule gives; `fullness` tells
    how near the memory comes to it, and learning how much that matters.

    Args:
        llm, profile: what runs where.
        users: requests in flight.
        prompt, output: mean tokens of a request.
    """
    decoder = steps_of(llm, profile, "decoder")
    prefiller = steps_of(llm, profile, "encoder") if SHAPES[llm].encoder else decoder
    prompts = users / output
    # With fewer than one prompt per step, that share of steps computes one.
    batch = max(1.0, prompts)
    prefill = prefiller.mixed_seconds(batch * prompt, 0.5 * prompt, 0.0, 0.0)
    step = decoder.mixed_seconds(0.0, 0.0, users, prompt + 0.5 * output) + min(1.0, prompts) * prefill
    waited = 0.5 * step if users > 1 else 0.0
    return Expected(
        itl=step,
        ttft=waited + prefill,
        fullness=users * RESERVE[SHAPES[llm].kernels] / slots_of(llm, profile, prompt + output),
        prompts=prompts,
    )

"""What a model is, as far as memory and speed depend on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.facts.layers import Layer, Weight
from plimsoll_recommender.facts.quantization import LOAD_TIME_BITS, Quantization
from plimsoll_recommender.facts.safetensors import Checkpoint

GIB: Final = 1024**3
"""Bytes of a GiB."""

DTYPE_BYTES: Final = {"bfloat16": 2, "float16": 2, "half": 2, "float32": 4, "float": 4}
"""Bytes per element of a weight or activation type."""


@dataclass(frozen=True)
class ModelFacts:
    """A model.

    Args:
        name: how it is called: a hub id, or the path it was read from.
        architecture: class named by config.json.
        hidden_size: width of the residual stream.
        num_attention_heads: query heads, which tensor parallelism must divide.
        vocab_size: tokens of the vocabulary.
        max_position_embeddings: longest context.
        dtype: type of the checkpoint (`bfloat16`, `float16`, `float32`).
        layers: its layers, in order; identical ones may be the same object.
        embedding: the token embedding.
        head: the LM head; None when it shares the embedding.
        final_norm: what follows the last layer.
        vision: the image encoder's weights.
        rotary_bytes: bytes of the rotary tables that every GPU keeps.
        quantization: how linear layers are stored; None is unquantised.
        weight_bytes: exact bytes of the checkpoint (from its safetensors files), when known.
        checkpoint: its tensors, when their headers were read: bytes per GPU are then exact, tensor by tensor.
        draft_layers: layers of the built-in drafter (multi-token prediction), which are loaded only to speculate.
        source: where the facts are from.
        approximate: parts that are approximated, in words; empty when none.
    """

    name: str
    architecture: str
    hidden_size: int
    num_attention_heads: int
    vocab_size: int
    max_position_embeddings: int
    dtype: str
    layers: tuple[Layer, ...]
    embedding: Weight
    head: Weight | None
    final_norm: Weight | None = None
    vision: tuple[Weight, ...] = ()
    rotary_bytes: int = 0
    quantization: Quantization | None = None
    weight_bytes: int | None = None
    checkpoint: Checkpoint | None = field(default=None, compare=False, repr=False)
    draft_layers: tuple[Layer, ...] = ()
    source: str = "config.json"
    approximate: str = ""

    @classmethod
    def load(cls, model: str | Path) -> ModelFacts:
        """Facts of a model: a catalogue name, `hf://org/name`, a directory with config.json, or a config.json.

        Raises:
            UnknownModelError: when it is none of these, or its architecture is not understood.
            RecommenderError: when its config.json is not usable.
        """
        from plimsoll_recommender.catalogue.models import load_model

        return load_model(model)

    @classmethod
    def from_hf_config(
        cls, config: Mapping[str, Any], weight_bytes: int | None = None, *, name: str | None = None
    ) -> ModelFacts:
        """Facts from a parsed config.json; `weight_bytes` are the checkpoint's exact bytes when known.

        Raises:
            UnknownModelError: an architecture that is not understood.
            RecommenderError: a missing or impossible field.
        """
        from plimsoll_recommender.facts.from_config import facts_of

        return facts_of(config, weight_bytes, name=name)

    @property
    def dtype_bytes(self) -> int:
        """Bytes per element of weights and activations."""
        return DTYPE_BYTES[self.dtype]

    @cached_property
    def parameters(self) -> int:
        """Parameters, the image encoder included."""
        return sum(weight.elements for weight in self.all_weights if not weight.module.endswith("absorbed"))

    @cached_property
    def active_parameters(self) -> float:
        """Parameters that one token multiplies with, embedding excluded."""
        used = sum(
            weight.elements * (weight.active / weight.copies) for layer in self.layers for weight in layer.weights
        )
        return used + (self.head or self.embedding).elements

    @cached_property
    def all_weights(self) -> tuple[Weight, ...]:
        """Every weight, in no order."""
        ends = (self.embedding, *(weight for weight in (self.head, self.final_norm) if weight is not None))
        return (*ends, *self.vision, *(weight for layer in self.layers for weight in layer.weights))

    @cached_property
    def layer_counts(self) -> tuple[tuple[Layer, int], ...]:
        """Every distinct layer and how many there are."""
        return tuple(Counter(self.layers).items())

    @cached_property
    def checkpoint_bytes(self) -> float:
        """Bytes of the weights as stored, exact when the checkpoint was read."""
        if self.weight_bytes is not None:
            return float(self.weight_bytes)
        return sum(
            weight.elements * weight.bits / 8 for weight in self.all_weights if not weight.module.endswith("absorbed")
        )

    @property
    def is_mixture(self) -> bool:
        """Whether any layer is a mixture of experts."""
        return any(layer.top_k for layer in self.layers)

    def as_loaded(self, dtype: str = "auto", quantization: str | None = None) -> ModelFacts:
        """The model as the engine holds it with `--dtype` and a load-time `--quantization`.

        Raises:
            RecommenderError: a load-time quantisation that is not understood.
        """
        loaded = self if dtype == "auto" or DTYPE_BYTES[dtype] == self.dtype_bytes else self._cast(dtype)
        if quantization is None or self.quantization is not None:
            return loaded
        if quantization not in LOAD_TIME_BITS:
            raise RecommenderError(
                f"quantization {quantization!r} cannot be done while loading {self.name}: use "
                f"{', '.join(LOAD_TIME_BITS)}, or a checkpoint that is stored that way"
            )
        return loaded._quantized(quantization)

    def _cast(self, dtype: str) -> ModelFacts:
        before, after = self.dtype_bytes * 8, DTYPE_BYTES[dtype] * 8

        def bits_of(weight: Weight) -> float:
            return after if weight.bits == before else weight.bits

        return replace(self._with_bits(bits_of), dtype=dtype)

    def _quantized(self, scheme: str) -> ModelFacts:
        bits = LOAD_TIME_BITS[scheme]

        def bits_of(weight: Weight) -> float:
            return bits if weight.linear and not weight.module.startswith("vision") else weight.bits

        compute = "fp8" if scheme in ("fp8", "mxfp8") else "16bit"
        quantized = self._with_bits(bits_of, ends=False)
        return replace(quantized, quantization=Quantization(scheme, bits, compute))

    def _with_bits(self, bits_of: Any, *, ends: bool = True) -> ModelFacts:
        known: dict[Layer, Layer] = {}
        for layer in self.layers:
            if layer not in known:
                known[layer] = layer.with_bits(bits_of)

        def end(weight: Weight) -> Weight:
            return replace(weight, bits=bits_of(weight)) if ends else weight

        return replace(
            self,
            layers=tuple(known[layer] for layer in self.layers),
            embedding=end(self.embedding),
            head=end(self.head) if self.head else None,
            final_norm=end(self.final_norm) if self.final_norm else None,
            vision=tuple(end(weight) for weight in self.vision),
            weight_bytes=None,
            checkpoint=None,
        )

"""Sizes of LLM-Pilot's LLMs, by their published config.json, and the accelerators behind its GPU names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from plimsoll_recommender import Accelerator, accelerator

Kernels = Literal["flash", "plain", "encoder-decoder"]
"""Implementations of TGIS: flash attention with nothing padded, or a library's layers over padded batches."""

BYTES: Final = 2.0
"""Bytes of a weight or a cached number, 16-bit."""


@dataclass(frozen=True)
class Shape:
    """Sizes of an LLM.

    Args:
        hidden: width.
        layers: decoder layers.
        heads, kv_heads, head: attention heads, those of keys and values, and their size.
        width: of the feed-forward layers.
        gated: whether they have a gate.
        vocabulary: tokens.
        encoder: encoder layers; 0 for a decoder.
        kernels: which implementation of TGIS served it, known beforehand from the architecture (LLM-Pilot's features
            state flash attention and the type).
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
    kernels: Kernels = "flash"

    @property
    def padded(self) -> bool:
        """Whether every sequence of a batch takes the room of the longest."""
        return self.kernels != "flash"

    @property
    def sublayers(self) -> float:
        """Decoder layers; one with cross-attention counts as one and a half: three blocks for two."""
        return self.layers * (1.5 if self.encoder else 1.0)

    @property
    def kv_bytes(self) -> float:
        """Bytes of a cached token over all layers; cross-attention caches the prompt's, self-attention the output's."""
        return 2 * BYTES * self.layers * self.kv_heads * self.head

    @property
    def decoder_bytes(self) -> float:
        """Bytes that a step reads: decoder layers and the output head."""
        cross = 2 * self._inner * self.hidden if self.encoder else 0
        return BYTES * (self.layers * (self._attention + self._feed_forward + cross) + self._vocabulary)

    @property
    def prompt_bytes(self) -> float:
        """Bytes of the layers that compute a prompt: the encoder's, or the decoder's."""
        if not self.encoder:
            return self.decoder_bytes
        return BYTES * self.encoder * (self._attention + self._feed_forward)

    @property
    def weight_bytes(self) -> float:
        """Bytes of all weights: input and output embeddings apart, as these LLMs have them."""
        both = self.decoder_bytes + BYTES * self._vocabulary
        if not self.encoder:
            return both
        # Cross-attention's keys and values are computed once per prompt and not read by a step.
        return both + self.prompt_bytes + BYTES * self.layers * 2 * self.kv_heads * self.head * self.hidden

    @property
    def _inner(self) -> int:
        return self.heads * self.head

    @property
    def _attention(self) -> int:
        return 2 * self.hidden * (self._inner + self.kv_heads * self.head)

    @property
    def _feed_forward(self) -> int:
        return self.hidden * self.width * (3 if self.gated else 2)

    @property
    def _vocabulary(self) -> int:
        return self.vocabulary * self.hidden


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


def gpus_of(profile: str) -> tuple[int, str]:
    """GPUs and their name of a profile such as `2 x A100`."""
    count, name = profile.split(" x ")
    return int(count), name


def gpu_of(name: str) -> Accelerator:
    """The accelerator behind a GPU name of the data set, joined as its features state."""
    found = accelerator(PRODUCTS[name])
    # The features state PCIe for V100, whose catalogue row is the SXM2 module.
    return replace(found, link_domain=1, link_bandwidth=found.pcie_bandwidth) if name == "V100" else found

"""Laws of the kernels a step consists of: seconds as functions of shapes, with few coefficients each.

Every law is physics (bytes moved, FLOPs done) over shares of what the datasheet promises, plus the fixed times that
measurements show: a launch, and the length of the longest chain of dependent work. All of them rise with the load.
Their coefficients are in `calibration`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

CHAIN_TOKENS: Final = 256.0
"""Tokens of a KV chunk that one thread block reads; longer contexts are read by more blocks, and combined."""

ACTIVATION_BYTES: Final = 2.0
"""Bytes of an activation between kernels: 16 bits."""


def overlapped(memory: float, compute: float, sharpness: float) -> float:
    """Seconds of work that needs memory and arithmetic: (memory^p + compute^p)^(1/p), p the sharpness."""
    return math.pow(memory**sharpness + compute**sharpness, 1 / sharpness)


@dataclass(frozen=True)
class MatmulLaw:
    """A dense product of activations (rows x inputs) with a weight (inputs x outputs).

    Args:
        launch: seconds of a product of nothing; scales and casts of quantised products included.
        per_input: seconds per input: the chain of multiply-accumulates that one thread block works off.
        bandwidth: share of the memory bandwidth reached when reading the weight.
        compute: share of the FLOP/s of the format reached by large products.
        traffic: how often activations are read or written, in passes of 16 bits.
        sharpness: exponent of `overlapped`.
    """

    launch: float
    per_input: float
    bandwidth: float
    compute: float
    traffic: float
    sharpness: float

    def seconds(
        self,
        rows: float,
        outputs: float,
        inputs: float,
        weight_bytes: float,
        bandwidth: float,
        flops: float,
    ) -> float:
        """Seconds of one product.

        Args:
            rows: tokens.
            outputs, inputs: shape of the weight on this GPU.
            weight_bytes: bytes of the weight on this GPU.
            bandwidth: of the GPU's memory, bytes/s.
            flops: dense FLOP/s of the GPU in the product's format.
        """
        memory = weight_bytes / (bandwidth * self.bandwidth)
        compute = 2 * rows * outputs * inputs / (flops * self.compute)
        moved = self.traffic * ACTIVATION_BYTES * rows * (outputs + inputs) / bandwidth
        return self.launch + self.per_input * inputs + overlapped(memory, compute, self.sharpness) + moved


@dataclass(frozen=True)
class ExpertsLaw:
    """The grouped products of a mixture's experts, with routing, sorting and combining the tokens.

    Args:
        launch: seconds of all its kernels with next to no work.
        bandwidth: share of the memory bandwidth reached when reading the experts that are used.
        compute: share of the FLOP/s of the format reached by many rows per expert.
        padding: rows that every used expert computes in vain: tiles are not full.
        traffic: how often the activations of the routed tokens are read or written, in passes of 16 bits.
        sharpness: exponent of `overlapped`.
    """

    launch: float
    bandwidth: float
    compute: float
    padding: float
    traffic: float
    sharpness: float


@dataclass(frozen=True)
class DecodeLaw:
    """Attention of sequences that generate one token each.

    Args:
        launch: seconds with short contexts.
        chain: seconds per doubling of the context beyond `CHAIN_TOKENS`: splits are combined.
        bandwidth: share of the memory bandwidth reached when reading the KV cache.
        unit: seconds per sequence and KV head on the GPU.
        compute: share of the 16-bit FLOP/s; bounds only the many heads of latent attention.
    """

    launch: float
    chain: float
    bandwidth: float
    unit: float
    compute: float = 0.6


@dataclass(frozen=True)
class PrefillLaw:
    """Attention of prompt tokens.

    Args:
        launch: seconds of a short prompt.
        length: seconds per token of the sequence: the chain that one thread block works off.
        traffic: how often queries and outputs are read or written, in passes of 16 bits.
        compute: share of the 16-bit FLOP/s reached by long prompts.
    """

    launch: float
    length: float
    traffic: float
    compute: float


@dataclass(frozen=True)
class CollectiveLaw:
    """An all-reduce inside a tensor-parallel group.

    Args:
        launch: seconds between two GPUs.
        per_rank: more seconds per further GPU.
        link: share of the link's bandwidth reached, over the message: what a ring moves more with more GPUs
            (2 (n - 1) / n), many links and sums in the switch win back.
    """

    launch: float
    per_rank: float
    link: float

    def fixed(self, ranks: int) -> float:
        """Seconds of an all-reduce of nothing."""
        return self.launch + self.per_rank * (ranks - 2)

    def per_byte(self, bandwidth: float) -> float:
        """Seconds per byte of the message, `bandwidth` being the link's in bytes/s."""
        return 1 / (bandwidth * self.link)


@dataclass(frozen=True)
class Kernels:
    """The laws of one GPU generation.

    Args:
        matmul: by format: `16bit`, `fp8` (scaled by tensor or row), `fp8-block`, `int8`, `fp4`, `weight-only`.
        experts: by format: the same, and `mxfp4`.
        decode, decode_fp8: with a 16-bit and an 8-bit KV cache.
        prefill, prefill_fp8: the same.
        latent_decode: latent (MLA) attention of generating sequences, absorbed into the latent space.
        collective: all-reduce.
    """

    matmul: Mapping[str, MatmulLaw]
    experts: Mapping[str, ExpertsLaw]
    decode: DecodeLaw
    decode_fp8: DecodeLaw
    prefill: PrefillLaw
    prefill_fp8: PrefillLaw
    latent_decode: DecodeLaw
    collective: CollectiveLaw

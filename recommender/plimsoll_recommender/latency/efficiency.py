"""What an engine makes of a GPU generation: its kernels' laws, and what serving adds to them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from plimsoll_recommender.latency import calibration
from plimsoll_recommender.latency.kernels import (
    CollectiveLaw,
    DecodeLaw,
    Kernels,
    MatmulLaw,
    PrefillLaw,
)


@dataclass(frozen=True)
class Serving:
    """What a step costs beside its measured kernels: the only figures fitted on served requests.

    Args:
        arithmetic: share of the arithmetic of kernels measured alone that a GPU sustains under load: power limits its
            clock, and caches are cold.
        layer: seconds per layer of small kernels (norms, rotary embedding, cache writes, activation functions).
        traffic: hidden-size elements that they move per token and layer.
        collective: seconds per byte of an all-reduce in a running engine over those measured alone: GPUs do not reach
            it at the same time, and its traffic meets that of other kernels.
        fused: share of an all-reduce's fixed time that is left when it also adds and normalises.
        routing: exponent of the number of tokens in the share of experts used: 1 is even and independent routing, less
            when the tokens of a batch prefer the same experts.
        imbalance: more rows than the mean on the busiest GPU when whole experts are distributed, as a share.
        step: seconds per step on the host that the GPU waits for: scheduling, sampling, hand-over.
        sequence: the same per running sequence.
        exposed: share of that host time which the GPU still waits for when the engine schedules the next step while
            one runs (asynchronous scheduling).
        request: seconds of a request outside the engine's steps: HTTP, tokenisation and hand-over.
        admission: steps between a request's arrival and its first token beside those that compute its prompt and the
            one running when it arrives: the next is already scheduled, and tokens are handed over while another runs.
        burst: prompts that a closed loop's request waits for, per other request in flight. A closed loop starts all
            its requests at once: with about ten requests per slot, as benchmarks send, one in ten waits for half the
            others (0.05), and what started together keeps arriving in clumps.
    """

    arithmetic: float = 0.92
    layer: float = 17e-6
    traffic: float = 6.1
    collective: float = 1.79
    fused: float = 0.69
    routing: float = 0.913
    imbalance: float = 0.19
    step: float = 0.50e-3
    sequence: float = 41e-6
    exposed: float = 0.25
    request: float = 0.023
    admission: float = 1.5
    burst: float = 0.073


@dataclass(frozen=True)
class Efficiency:
    """A GPU generation as an engine runs on it.

    Args:
        kernels: laws of its kernels, as shares of the datasheet's bandwidth and FLOP/s.
        serving: what serving adds.
        calibrated: whether the laws were fitted on this generation.
    """

    kernels: Kernels
    serving: Serving
    calibrated: bool = True


SERVING: Final = Serving()
"""Fitted on vLLM 0.10 to 0.19 on H100 and B200 (measured TTFT and TPOT of ai-dynamo/aiconfigurator, Apache-2.0)."""

HOPPER: Final = Efficiency(calibration.HOPPER, SERVING)
BLACKWELL: Final = Efficiency(calibration.BLACKWELL, SERVING)
AMPERE: Final = Efficiency(calibration.AMPERE, SERVING)
ADA: Final = Efficiency(calibration.ADA, SERVING)

BLACKWELL_ULTRA: Final = Efficiency(calibration.BLACKWELL_ULTRA, SERVING)
CONSUMER: Final = Efficiency(calibration.BLACKWELL_CONSUMER, SERVING)
AMPERE_GDDR: Final = Efficiency(calibration.AMPERE_GDDR, SERVING, calibrated=False)

OLD: Final = Efficiency(
    Kernels(
        matmul={"16bit": MatmulLaw(8e-6, 0.1e-9, 0.78, 0.60, 1.5, 1.7)},
        experts=calibration.AMPERE.experts,
        decode=DecodeLaw(20e-6, 4e-6, 0.45, 40e-9),
        decode_fp8=DecodeLaw(20e-6, 4e-6, 0.40, 40e-9),
        prefill=PrefillLaw(20e-6, 20e-9, 3.0, 0.20),
        prefill_fp8=PrefillLaw(20e-6, 20e-9, 3.0, 0.20),
        latent_decode=calibration.AMPERE.latent_decode,
        collective=CollectiveLaw(15e-6, 2e-6, 0.50),
    ),
    SERVING,
    calibrated=False,
)
"""Volta, guessed from Ampere: no FlashAttention 2 and no fp8, older kernels."""

TURING: Final = replace(
    OLD,
    kernels=replace(
        OLD.kernels,
        matmul={"16bit": replace(OLD.kernels.matmul["16bit"], bandwidth=0.832)},
        decode=replace(OLD.kernels.decode, bandwidth=0.48),
        decode_fp8=replace(OLD.kernels.decode_fp8, bandwidth=0.43),
    ),
)
"""As Volta. The bandwidth is what single users of Llama-2 saw on T4 (LLM-Pilot's measurements, CDLA-Permissive-2.0), a
share of what its codes leave."""

CDNA: Final = Efficiency(
    Kernels(
        matmul={
            "16bit": MatmulLaw(10e-6, 0.3e-9, 0.60, 0.45, 1.0, 2.5),
            "fp8": MatmulLaw(11e-6, 0.5e-9, 0.58, 0.42, 2.0, 2.5),
        },
        experts=calibration.HOPPER.experts,
        decode=DecodeLaw(18e-6, 2e-6, 0.55, 20e-9),
        decode_fp8=DecodeLaw(18e-6, 2e-6, 0.50, 25e-9),
        prefill=PrefillLaw(18e-6, 10e-9, 2.5, 0.35),
        prefill_fp8=PrefillLaw(18e-6, 10e-9, 3.0, 0.33),
        latent_decode=replace(calibration.LATENT_DECODE, bandwidth=0.5),
        collective=CollectiveLaw(18e-6, 1e-6, 0.50),
    ),
    SERVING,
    calibrated=False,
)
"""AMD, guessed so that batches on MI250 come out as measured in 2024 (LLM-Inference-Bench); on MI300X the same releases
reached half of that, for want of tuned kernels."""

_OF_GENERATION: Final = {
    "hopper": HOPPER,
    "blackwell": BLACKWELL,
    "blackwell-ultra": BLACKWELL_ULTRA,
    "ampere": AMPERE,
    "ampere-gddr": AMPERE_GDDR,
    "ada": ADA,
    "blackwell-consumer": CONSUMER,
    "volta": OLD,
    "turing": TURING,
    "cdna2": CDNA,
    "cdna3": CDNA,
    "cdna4": CDNA,
}


def efficiency_of(architecture: str) -> Efficiency:
    """The laws of a GPU generation; Ampere's for one that is not known."""
    return _OF_GENERATION.get(architecture, AMPERE)

"""What share of a datasheet's figures an engine reaches, by GPU generation.

The shares multiply physics (bytes moved, FLOPs done); they are the only fitted numbers of the step-time model. Hopper
and Blackwell are non-negative least-squares fits of the logarithms of measured TPOT and TTFT (vLLM 0.12 to 0.19 rows of
ai-dynamo/aiconfigurator's silicon database, Apache-2.0); other generations are transferred and said to be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Efficiency:
    """Shares and latencies of one GPU generation.

    Args:
        weight_bandwidth: share of memory bandwidth reached when reading weights.
        kv_bandwidth: share reached when decoding attention reads the KV cache.
        matmul: share of dense FLOP/s reached by large matrix products.
        attention: share of 16-bit FLOP/s reached by prefill attention.
        layer_latency: seconds per layer that no batch size removes: kernels' fixed times.
        step_latency: seconds per step on the host: scheduling, sampling, hand-over.
        sequence_latency: seconds per running sequence and step on the host.
        token_traffic: hidden-size elements that element-wise kernels move per token and layer.
        collective_latency: seconds of one all-reduce of nothing.
        link: share of the link bandwidth that an all-reduce reaches.
        calibrated: whether the figures were fitted on this generation.
    """

    weight_bandwidth: float
    kv_bandwidth: float
    matmul: float
    attention: float
    layer_latency: float
    step_latency: float
    sequence_latency: float
    token_traffic: float
    collective_latency: float
    link: float
    calibrated: bool = False


HOPPER: Final = Efficiency(0.75, 0.60, 0.62, 0.45, 22e-6, 1.2e-3, 12e-6, 24.0, 9e-6, 0.60, calibrated=True)
BLACKWELL: Final = Efficiency(0.75, 0.60, 0.55, 0.45, 20e-6, 1.2e-3, 12e-6, 24.0, 9e-6, 0.60, calibrated=True)

AMPERE: Final = Efficiency(0.75, 0.60, 0.62, 0.45, 24e-6, 1.5e-3, 12e-6, 24.0, 10e-6, 0.55)
"""Transferred from Hopper; batch-1 decoding reached 0.63 to 0.71 of bandwidth on A100 (Argonne LLM-Inference-Bench)."""

CONSUMER: Final = Efficiency(0.78, 0.60, 0.62, 0.45, 24e-6, 1.5e-3, 12e-6, 24.0, 20e-6, 0.45)
"""Ada and workstation Blackwell, joined by PCIe: collectives start slower and reach less of the link."""

OLD: Final = Efficiency(0.65, 0.45, 0.45, 0.20, 40e-6, 3.0e-3, 20e-6, 32.0, 20e-6, 0.45)
"""Volta and Turing: no FlashAttention 2 and no fp8, older kernels."""

CDNA: Final = Efficiency(0.55, 0.45, 0.40, 0.30, 35e-6, 2.0e-3, 15e-6, 24.0, 20e-6, 0.45)
"""AMD: decoding reached 0.26 to 0.48 of bandwidth on MI300X in 2024 (Argonne), more since."""

_OF_GENERATION: Final = {
    "hopper": HOPPER,
    "blackwell": BLACKWELL,
    "ampere": AMPERE,
    "ada": CONSUMER,
    "blackwell-consumer": CONSUMER,
    "volta": OLD,
    "turing": OLD,
    "cdna2": CDNA,
    "cdna3": CDNA,
    "cdna4": CDNA,
}


def efficiency_of(architecture: str) -> Efficiency:
    """Shares of a GPU generation; Ampere's for one that is not known."""
    return _OF_GENERATION.get(architecture, AMPERE)

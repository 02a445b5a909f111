"""What share of a datasheet's figures an engine reaches, by GPU generation.

The shares multiply physics (bytes moved, FLOPs done); they are the only fitted numbers of the step-time model. Hopper
and Blackwell are non-negative least-squares fits of the logarithms of measured TPOT and TTFT (vLLM 0.12 to 0.19 rows of
ai-dynamo/aiconfigurator's silicon database, Apache-2.0); other generations are transferred and said to be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True)
class Efficiency:
    """Shares and latencies of one GPU generation.

    Args:
        weight_bandwidth: share of memory bandwidth reached when reading weights.
        kv_bandwidth: share reached when decoding attention reads the KV cache.
        matmul: share of dense FLOP/s reached by large 16-bit matrix products.
        matmul_quantized: the same for 8- and 4-bit products, whose scales and casts cost more.
        expert_bandwidth, expert_matmul: shares reached by the grouped products of experts.
        attention: share of 16-bit FLOP/s reached by prefill attention.
        layer_latency: seconds per layer that no batch size removes: kernels' fixed times.
        expert_latency: more seconds per layer with experts: routing, sorting and combining tokens.
        routing: exponent of the number of tokens in the share of experts touched; 1 is even and independent routing,
            less when tokens of a batch prefer the same experts.
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
    matmul_quantized: float
    expert_bandwidth: float
    expert_matmul: float
    attention: float
    layer_latency: float
    expert_latency: float
    routing: float
    step_latency: float
    sequence_latency: float
    token_traffic: float
    collective_latency: float
    link: float
    calibrated: bool = False


HOPPER: Final = Efficiency(
    weight_bandwidth=0.92,
    kv_bandwidth=0.70,
    matmul=0.66,
    matmul_quantized=0.78,
    expert_bandwidth=0.92,
    expert_matmul=0.17,
    attention=0.505,
    layer_latency=36e-6,
    expert_latency=40e-6,
    routing=0.94,
    step_latency=0.94e-3,
    sequence_latency=41e-6,
    token_traffic=9.7,
    collective_latency=12.3e-6,
    link=0.85,
    calibrated=True,
)

BLACKWELL: Final = Efficiency(
    weight_bandwidth=0.77,
    kv_bandwidth=0.75,
    matmul=0.85,
    matmul_quantized=0.59,
    expert_bandwidth=0.73,
    expert_matmul=0.67,
    attention=0.21,
    layer_latency=16.5e-6,
    expert_latency=29e-6,
    routing=0.84,
    step_latency=0.17e-3,
    sequence_latency=11e-6,
    token_traffic=17.0,
    collective_latency=22.4e-6,
    link=0.40,
    calibrated=True,
)

AMPERE: Final = replace(HOPPER, weight_bandwidth=0.80, kv_bandwidth=0.60, attention=0.50, calibrated=False)
"""Transferred from Hopper; batch-1 decoding reached 0.63 to 0.71 of bandwidth on A100 (Argonne LLM-Inference-Bench)."""

CONSUMER: Final = replace(HOPPER, weight_bandwidth=0.85, collective_latency=20e-6, link=0.45, calibrated=False)
"""Ada and workstation Blackwell, joined by PCIe: collectives start slower and reach less of the link."""

OLD: Final = replace(
    HOPPER,
    weight_bandwidth=0.65,
    kv_bandwidth=0.45,
    matmul=0.45,
    attention=0.20,
    layer_latency=50e-6,
    step_latency=3e-3,
    collective_latency=20e-6,
    link=0.45,
    calibrated=False,
)
"""Volta and Turing: no FlashAttention 2 and no fp8, older kernels."""

CDNA: Final = replace(
    HOPPER,
    weight_bandwidth=0.55,
    kv_bandwidth=0.45,
    matmul=0.40,
    matmul_quantized=0.40,
    expert_bandwidth=0.50,
    attention=0.30,
    layer_latency=40e-6,
    collective_latency=20e-6,
    link=0.45,
    calibrated=False,
)
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

"""Coefficients of the kernel laws, by GPU generation.

The laws are least-squares fits of measured kernels of vLLM 0.14 to 0.24 (ai-dynamo/aiconfigurator's silicon tables, as
published and as its package 0.12 carries them, Apache-2.0); `python -m bench.kernels FOLDER` fits them anew and prints
them with their errors. What is transferred from another generation says so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from plimsoll_recommender.latency.kernels import (
    CollectiveLaw,
    DecodeLaw,
    ExpertsLaw,
    Kernels,
    MatmulLaw,
    PrefillLaw,
)

LATENT_DECODE: Final = DecodeLaw(27e-6, 1.5e-6, 0.80, 120e-9)
"""Latent attention: what is left of vLLM 0.19's MLA module on H100 without its products."""

HOPPER: Final = Kernels(
    matmul={
        "16bit": MatmulLaw(3.53e-6, 0.253e-9, 0.905, 0.816, 0.277, 3.2),
        "fp8": MatmulLaw(4.43e-6, 0.416e-9, 0.95, 0.861, 2.06, 1.5),
        "fp8-block": MatmulLaw(8.27e-6, 2.14e-9, 0.95, 0.637, 1.63, 8.0),
    },
    experts={
        "16bit": ExpertsLaw(29.9e-6, 0.922, 0.515, 21.0, 1.63, 1.5),
        "fp8": ExpertsLaw(33.7e-6, 0.909, 0.541, 34.9, 2.19, 1.5),
        "fp8-block": ExpertsLaw(44.6e-6, 0.920, 0.291, 24.8, 2.24, 1.7),
        "weight-only": ExpertsLaw(37.7e-6, 0.847, 0.129, 47.0, 1.20, 1.5),
        "mxfp4": ExpertsLaw(53.0e-6, 0.95, 0.633, 62.2, 2.75, 6.0),
    },
    decode=DecodeLaw(9.1e-6, 0.36e-6, 0.95, 15.0e-9),
    decode_fp8=DecodeLaw(9.4e-6, 0.70e-6, 0.884, 23.1e-9),
    prefill=PrefillLaw(9.95e-6, 2.4e-9, 1.99, 0.772),
    prefill_fp8=PrefillLaw(10.4e-6, 3.5e-9, 2.61, 0.705),
    latent_decode=LATENT_DECODE,
    collective=CollectiveLaw(4.3e-6, 0.27e-6, 0.494),
)
"""H100 and H200 SXM."""

BLACKWELL: Final = Kernels(
    matmul={
        "16bit": MatmulLaw(3.06e-6, 0.285e-9, 0.939, 0.739, 0.153, 2.5),
        "fp8": MatmulLaw(5.00e-6, 0.637e-9, 0.95, 0.891, 6.55, 4.6),
        "fp8-block": MatmulLaw(8.04e-6, 1.48e-9, 0.95, 0.465, 3.04, 8.0),
        "fp4": MatmulLaw(5.42e-6, 0.522e-9, 0.768, 0.659, 1.21, 8.0),
    },
    experts={
        "16bit": ExpertsLaw(19.8e-6, 0.95, 0.464, 20.8, 1.37, 1.8),
        "fp8": ExpertsLaw(21.3e-6, 0.95, 0.502, 35.5, 1.78, 1.7),
        "fp8-block": ExpertsLaw(35.5e-6, 0.95, 0.186, 12.5, 2.03, 1.5),
        "fp4": ExpertsLaw(19.3e-6, 0.95, 0.529, 62.4, 2.14, 1.5),
        "weight-only": ExpertsLaw(45.7e-6, 0.95, 0.127, 19.4, 4.65, 6.0),
        "mxfp4": ExpertsLaw(29.2e-6, 0.95, 0.667, 40.5, 3.38, 1.5),
    },
    decode=DecodeLaw(6.3e-6, 0.43e-6, 0.95, 4.1e-9),
    decode_fp8=DecodeLaw(6.1e-6, 0.55e-6, 0.95, 4.6e-9),
    prefill=PrefillLaw(8.7e-6, 6.9e-9, 2.69, 0.750),
    prefill_fp8=PrefillLaw(8.6e-6, 6.7e-9, 2.53, 0.820),
    # What is left of vLLM 0.24's module on B200.
    latent_decode=DecodeLaw(5e-6, 1.0e-6, 0.85, 70e-9),
    collective=CollectiveLaw(7.5e-6, 0.31e-6, 0.395),
)
"""B200 SXM."""

AMPERE: Final = Kernels(
    matmul={
        "16bit": MatmulLaw(5.50e-6, 0.039e-9, 0.760, 0.882, 1.13, 1.7),
        # Not measured: Hopper's 8-bit products beside Hopper's 16-bit ones, on Ampere's.
        "int8": MatmulLaw(6.4e-6, 0.2e-9, 0.76, 0.80, 2.1, 1.7),
    },
    experts={"16bit": ExpertsLaw(50.7e-6, 0.723, 0.301, 29.0, 0.0, 1.9)},
    decode=DecodeLaw(13.2e-6, 2.8e-6, 0.786, 17.7e-9),
    decode_fp8=DecodeLaw(13.2e-6, 2.8e-6, 0.700, 23.1e-9),
    prefill=PrefillLaw(9.0e-6, 19.8e-9, 2.74, 0.596),
    prefill_fp8=PrefillLaw(9.4e-6, 19.8e-9, 3.4, 0.54),
    latent_decode=replace(LATENT_DECODE, bandwidth=0.7),
    collective=CollectiveLaw(4.8e-6, 0.57e-6, 0.453),
)
"""A100 SXM; an 8-bit KV cache beside a 16-bit one is Hopper's."""

ADA: Final = Kernels(
    matmul={
        "16bit": MatmulLaw(2.0e-6, 0.0, 0.826, 0.666, 0.572, 2.8),
        "fp8": MatmulLaw(2.0e-6, 0.361e-9, 0.768, 0.647, 2.10, 3.2),
    },
    experts={
        # Launches as on Blackwell: the fit gives less, because small experts stay in the second-level cache.
        "16bit": ExpertsLaw(20e-6, 0.95, 0.670, 99.6, 1.53, 1.5),
        "fp8": ExpertsLaw(20e-6, 0.95, 0.531, 102.0, 1.38, 1.5),
        "fp8-block": ExpertsLaw(20e-6, 0.95, 0.481, 90.2, 1.35, 1.5),
        "weight-only": ExpertsLaw(20e-6, 0.839, 0.572, 23.5, 1.33, 1.9),
        "mxfp4": ExpertsLaw(20e-6, 0.775, 0.505, 10.3, 1.27, 2.2),
    },
    decode=DecodeLaw(8.6e-6, 1.8e-6, 0.867, 18.1e-9),
    decode_fp8=DecodeLaw(11.5e-6, 0.18e-6, 0.848, 6.5e-9),
    prefill=PrefillLaw(5.8e-6, 7.6e-9, 0.895, 0.533),
    prefill_fp8=PrefillLaw(7.9e-6, 33.8e-9, 0.728, 0.469),
    latent_decode=replace(LATENT_DECODE, bandwidth=0.7),
    collective=CollectiveLaw(5.4e-6, 0.0, 0.598),
)
"""L40S, as shares of the bandwidth that its codes leave. Its second-level cache holds 96 MB: only weights and KV caches
that do not stay in it are fitted."""

AMPERE_GDDR: Final = replace(
    AMPERE,
    matmul={
        name: replace(law, bandwidth=ADA.matmul["16bit"].bandwidth, sharpness=ADA.matmul["16bit"].sharpness)
        for name, law in AMPERE.matmul.items()
    },
    decode=replace(AMPERE.decode, bandwidth=ADA.decode.bandwidth),
    decode_fp8=replace(AMPERE.decode_fp8, bandwidth=ADA.decode_fp8.bandwidth),
    collective=ADA.collective,
)
"""A10, A40, A6000, RTX 3090, not measured: A100's arithmetic; L40S's memory and links, which are of the same kinds."""

BLACKWELL_CONSUMER: Final = Kernels(
    matmul={
        "16bit": MatmulLaw(3.13e-6, 0.0, 0.928, 0.868, 0.35, 2.1),
        "fp8": MatmulLaw(2.0e-6, 0.481e-9, 0.95, 0.973, 2.25, 1.7),
        "fp4": MatmulLaw(2.0e-6, 2.0e-9, 0.95, 0.755, 0.952, 8.0),
    },
    experts={
        "16bit": ExpertsLaw(26.7e-6, 0.95, 0.432, 3.2, 1.79, 2.3),
        "fp8": ExpertsLaw(34.1e-6, 0.942, 0.382, 13.2, 1.67, 2.2),
        "fp4": ExpertsLaw(53.9e-6, 0.899, 0.802, 93.1, 1.92, 3.5),
        "weight-only": ExpertsLaw(17.1e-6, 0.831, 0.584, 10.6, 1.21, 2.3),
        "mxfp4": ExpertsLaw(18.5e-6, 0.829, 0.287, 11.2, 1.55, 2.3),
    },
    decode=DecodeLaw(9.4e-6, 2.35e-6, 0.95, 8.0e-9),
    decode_fp8=DecodeLaw(12.2e-6, 0.0, 0.936, 2.9e-9),
    prefill=PrefillLaw(6.1e-6, 12.1e-9, 1.34, 0.657),
    prefill_fp8=PrefillLaw(8.4e-6, 37.9e-9, 0.90, 0.599),
    latent_decode=replace(LATENT_DECODE, bandwidth=0.7),
    # Between those of two machines of which one joins its GPUs 2.5 times as fast: 4.4e-6 and 0.593, 19.0e-6 and 0.236.
    collective=CollectiveLaw(9.2e-6, 0.0, 0.374),
)
"""RTX PRO 6000 Blackwell Server Edition (128 MB of second-level cache, fitted as L40S)."""

BLACKWELL_ULTRA: Final = Kernels(
    matmul={
        "16bit": MatmulLaw(2.86e-6, 0.262e-9, 0.906, 0.813, 0.145, 2.5),
        "fp8": MatmulLaw(4.61e-6, 0.603e-9, 0.95, 0.982, 6.53, 5.7),
        "fp8-block": BLACKWELL.matmul["fp8-block"],
        "fp4": MatmulLaw(6.08e-6, 0.426e-9, 0.95, 0.393, 1.31, 5.5),
    },
    experts={
        "16bit": ExpertsLaw(18.3e-6, 0.95, 0.488, 33.6, 1.37, 1.9),
        "fp8": ExpertsLaw(19.6e-6, 0.93, 0.517, 44.9, 1.76, 1.9),
        "fp8-block": ExpertsLaw(33.2e-6, 0.95, 0.197, 15.2, 1.93, 1.5),
        "fp4": ExpertsLaw(18.1e-6, 0.95, 0.373, 73.8, 2.11, 1.5),
        "weight-only": ExpertsLaw(44.5e-6, 0.95, 0.133, 19.5, 4.58, 6.0),
        "mxfp4": ExpertsLaw(26.2e-6, 0.95, 0.829, 57.7, 3.41, 1.5),
    },
    decode=DecodeLaw(8.1e-6, 0.41e-6, 0.95, 4.2e-9),
    decode_fp8=DecodeLaw(8.4e-6, 0.54e-6, 0.95, 5.2e-9),
    prefill=PrefillLaw(10.7e-6, 6.1e-9, 3.36, 0.812),
    prefill_fp8=PrefillLaw(10.9e-6, 6.8e-9, 3.88, 1.05),
    latent_decode=BLACKWELL.latent_decode,
    collective=CollectiveLaw(7.4e-6, 0.27e-6, 0.400),
)
"""B300 SXM. Products in fp4 reach the arithmetic of B200, not the half more that the datasheet promises."""

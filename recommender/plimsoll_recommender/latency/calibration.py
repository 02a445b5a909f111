"""Coefficients of the kernel laws and of serving, by GPU generation.

The laws are least-squares fits of measured kernels of vLLM 0.14 to 0.24 (ai-dynamo/aiconfigurator's silicon tables,
Apache-2.0); `python -m bench.kernels FOLDER` fits them anew and prints them with their errors. What is transferred from
another generation says so.
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
    collective=CollectiveLaw(4.3e-6, 0.27e-6, 0.247),
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
    collective=CollectiveLaw(7.5e-6, 0.31e-6, 0.198),
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
    collective=CollectiveLaw(4.8e-6, 0.57e-6, 0.226),
)
"""A100 SXM; an 8-bit KV cache beside a 16-bit one is Hopper's."""

ADA: Final = Kernels(
    matmul={
        # The fit gives no launch, because small weights stay in Ada's large second-level cache: Ampere's is taken.
        "16bit": MatmulLaw(3.5e-6, 0.04e-9, 0.771, 0.690, 0.594, 2.4),
        "fp8": MatmulLaw(3.5e-6, 0.91e-9, 0.863, 0.693, 2.35, 2.1),
    },
    experts={
        # Launches as on Blackwell: the fit gives none, because small experts stay in the second-level cache.
        "16bit": ExpertsLaw(20e-6, 0.95, 0.505, 104.0, 1.12, 1.5),
        "fp8": ExpertsLaw(20e-6, 0.95, 0.349, 84.2, 0.98, 1.5),
        "weight-only": ExpertsLaw(20e-6, 0.306, 0.209, 27.6, 0.59, 2.3),
    },
    decode=DecodeLaw(10.7e-6, 2.0e-6, 0.80, 17.7e-9),
    decode_fp8=DecodeLaw(10.7e-6, 2.0e-6, 0.75, 23.1e-9),
    prefill=PrefillLaw(3.6e-6, 7.3e-9, 0.78, 0.577),
    prefill_fp8=PrefillLaw(4.0e-6, 7.3e-9, 1.0, 0.53),
    latent_decode=replace(LATENT_DECODE, bandwidth=0.7),
    collective=CollectiveLaw(5.4e-6, 2.0e-6, 0.30),
)
"""L40S; its decode attention tables have short contexts only: the bandwidth share and the chain are Ampere's."""

"""GPUs: memory, bandwidth, arithmetic and price, by the product name that GPU feature discovery labels nodes with."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from plimsoll_recommender.errors import UnknownAcceleratorError
from plimsoll_recommender.facts.fields import shown

IN_BAND_DATA: Final = 15 / 16
"""Share of a GDDR6 memory, and of what it moves, that is data when codes are kept in it: an L40S reports 46,068 of its
49,152 MiB (an RTX 4090, whose codes are off, 24,564 of 24,576). HBM has chips of its own for codes, GDDR7 has them on
the die."""


@dataclass(frozen=True)
class Accelerator:
    """One GPU product. Catalogue rows carry their sources in accelerators.json.

    Args:
        product: value of the node label `nvidia.com/gpu.product`.
        architecture: generation: `volta`, `turing`, `ampere`, `ampere-gddr`, `ada`, `hopper`, `blackwell`,
            `blackwell-ultra`, `blackwell-consumer`, `cdna2`, `cdna3`, `cdna4`.
        memory_gib: total that the driver reports to an application, GiB.
        memory_bandwidth: bytes/s of the datasheet.
        flops_16bit, flops_fp8, flops_int8, flops_fp4: dense FLOP/s of the tensor cores; None where not supported.
        bfloat16: whether bfloat16 is supported.
        link_bandwidth: bytes/s per direction to another GPU of its link domain (PCIe where there is no other link).
        link_domain: GPUs joined by that link; 1 is PCIe only.
        pcie_bandwidth: bytes/s per direction to the host.
        hourly_cost: list price of one GPU-hour, US dollars.
        ecc_in_band: whether error-correcting codes are on from the factory and kept in the memory itself (GDDR6).
        aliases: other names it is known by.
    """

    product: str
    architecture: str
    memory_gib: float
    memory_bandwidth: float
    flops_16bit: float
    flops_fp8: float | None
    flops_int8: float | None
    flops_fp4: float | None
    bfloat16: bool
    link_bandwidth: float
    link_domain: int
    pcie_bandwidth: float
    hourly_cost: float
    ecc_in_band: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def data_bandwidth(self) -> float:
        """Bytes/s of memory that are left for data where codes take their part."""
        return self.memory_bandwidth * (IN_BAND_DATA if self.ecc_in_band else 1.0)

    def flops(self, compute: str) -> float:
        """Dense FLOP/s for a compute type (`16bit`, `fp8`, `int8`, `fp4`, `mxfp4`).

        MXFP4 weights meet 8-bit activations where the tensor cores know fp4. A type without tensor cores of its own
        falls back to 16 bit, as vLLM's weight-only kernels do.
        """
        native = {
            "fp8": self.flops_fp8,
            "int8": self.flops_int8,
            "fp4": self.flops_fp4,
            "mxfp4": self.flops_fp8 if self.flops_fp4 is not None else None,
        }.get(compute)
        return native if native is not None else self.flops_16bit


def _folded(name: str) -> str:
    """A name without what people write differently: case, separators and the maker."""
    folded = re.sub(r"[^a-z0-9]", "", name.lower())
    for maker in ("nvidia", "tesla", "geforce", "amdinstinct", "amd", "instinct"):
        folded = folded.removeprefix(maker)
    return folded


@cache
def catalogue() -> tuple[Accelerator, ...]:
    """Every accelerator of the catalogue."""
    text = resources.files(__package__).joinpath("accelerators.json").read_text(encoding="utf-8")
    rows = json.loads(text)["accelerators"]
    return tuple(Accelerator(**{**row, "aliases": tuple(row["aliases"])}) for row in rows)


@cache
def _index() -> dict[str, Accelerator]:
    index: dict[str, Accelerator] = {}
    for item in catalogue():
        for name in (item.product, *item.aliases):
            index.setdefault(_folded(name), item)
    return index


def accelerator(name: str) -> Accelerator:
    """The accelerator of a name: its product label or an alias such as `H100`, `a100-40gb` or `RTX 4090`.

    Raises:
        UnknownAcceleratorError: naming the nearest known ones.
    """
    folded = _folded(name)
    found = _index().get(folded) if folded else None
    # Feature discovery appends -SHARED to time-sliced GPUs and -MIG-... to slices; only the former is the whole GPU.
    if found is None and folded.endswith("shared"):
        found = _index().get(folded.removesuffix("shared"))
    if found is not None:
        return found
    near = difflib.get_close_matches(folded, _index(), n=3, cutoff=0.5)
    names = sorted({_index()[match].product for match in near}) or ["NVIDIA-H100-80GB-HBM3", "NVIDIA-L4"]
    near_names = ", ".join(names)
    raise UnknownAcceleratorError(f"accelerator {shown(name)} is not in the catalogue: did you mean {near_names}?")

"""Tables of measured kernels: which machines they are of, where they are, and their columns."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from bench.aiconfigurator_parts.environment import installed_tables
from numpy.typing import NDArray

from plimsoll_recommender import accelerator
from plimsoll_recommender.latency.products import flops_of

Array = NDArray[np.float64]
Columns = Mapping[str, NDArray[Any]]

NEWER: Final = "0.24.0"
"""Release whose tables are read for what vLLM computed with other kernels before, or never before."""


@dataclass(frozen=True)
class System:
    """A kind of machine whose kernels were measured.

    Args:
        folder: of its tables.
        product: its GPU.
        generation: what its laws are for.
        release: of vLLM whose tables are read.
        collectives: the same for all-reduces, where it is another or there are several machines; empty is `release`.
        cache: bytes of the second-level cache where it is so large that it holds what a served model reads from memory.
    """

    folder: str
    product: str
    generation: str
    release: str
    collectives: tuple[str, ...] = ()
    cache: float = 0.0

    @property
    def least_weight(self) -> float:
        """Bytes of the smallest weights that are fitted: those up to a third of a large cache were read from it."""
        return max(2.0**21, self.cache / 3)


H100: Final = System("h100_sxm", "H100", "hopper", "0.19.0")
H200: Final = System("h200_sxm", "H200", "hopper", "0.19.0")
B200: Final = System("b200_sxm", "B200", "blackwell", "0.19.0")
B300: Final = System("b300_sxm", "B300", "blackwell-ultra", NEWER)
A100: Final = System("a100_sxm", "A100", "ampere", "0.14.0")
L40S: Final = System("l40s", "L40S", "ada", NEWER, collectives=("0.22.0",), cache=96e6)
PRO_6000: Final = System(
    "rtx_pro_6000_server", "RTX PRO 6000", "blackwell-consumer", NEWER, collectives=("0.19.0", NEWER), cache=128e6
)

ATTENTION: Final = (H100, B200, B300, A100, L40S, PRO_6000)
"""Systems whose attention tables are read; H200's of 0.19 mixes windowed rows in without saying which."""


class Tables:
    """Tables of all systems: of the data set, and of aiconfigurator's package where its environment is made.

    Args:
        folder: the data set's tables.
    """

    def __init__(self, folder: Path) -> None:
        self._roots = [folder, *([packaged] if (packaged := installed_tables(os.environ)) is not None else [])]

    def has(self, system: System) -> bool:
        """Whether the tables of a system are here."""
        return any((root / system.folder).is_dir() for root in self._roots)

    def columns(self, system: System, family: str, release: str, name: str) -> Columns:
        """A table's columns as arrays.

        Args:
            system: of the table.
            family: of kernels, such as `gemm`.
            release: of vLLM.
            name: of the file.
        """
        import pyarrow.parquet as parquet

        root = next(root for root in self._roots if (root / system.folder).is_dir())
        table = parquet.read_table(root / system.folder / family / "vllm" / release / f"{name}_perf.parquet")
        return {column: table[column].to_numpy(zero_copy_only=False) for column in table.column_names}


def floats(columns: Columns, chosen: NDArray[np.bool_], *names: str) -> list[Array]:
    """Chosen rows of columns; a latency is turned from milliseconds into seconds."""
    return [columns[name][chosen].astype(float) * (1e-3 if name == "latency" else 1.0) for name in names]


def measured(
    columns: Columns, chosen: NDArray[np.bool_], names: Sequence[str], system: System, form: str
) -> list[Array]:
    """Chosen rows of columns, and beside them the GPU's bandwidth and FLOP/s in a format."""
    found = floats(columns, chosen, *names)
    gpu = accelerator(system.product)
    return [*found, *(np.full_like(found[0], rate) for rate in (gpu.data_bandwidth, flops_of(gpu, form)))]

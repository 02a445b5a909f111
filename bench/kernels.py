"""How well the kernel laws fit measured kernels, and the coefficients that fit best.

`python -m bench.kernels FOLDER` prints the coefficients as they are typed into `latency/calibration.py`. Tables that
the data set does not have (RTX PRO 6000, B300) are those of aiconfigurator's package, where its environment is made
(`python -m bench aiconfigurator` makes it).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np

from bench.figures import Context, Figure
from bench.kernel_parts.fits import Fit, fits
from bench.kernel_parts.tables import B300, PRO_6000, Tables


def run(context: Context) -> list[Figure]:
    """Mean absolute error of every family, fitted anew."""
    if context.data is None:
        context.skipped.append("kernel laws: give --data")
        return []
    tables = Tables(context.data / "perf" / "kernel_tables")
    context.skipped.extend(
        f"kernels of {system.product}: their tables come with aiconfigurator, whose environment is not made"
        for system in (PRO_6000, B300)
        if not tables.has(system)
    )
    grouped: dict[str, list[Fit]] = {}
    for fit in fits(tables):
        grouped.setdefault(fit.family, []).append(fit)
    return [
        Figure(
            f"{family}, law against measured kernels, mean error",
            100 * float(np.mean([fit.error for fit in found])),
            "%",
            None,
            "<=",
            ", ".join(f"{fit.generation} {100 * fit.error:.0f} % of {fit.rows}" for fit in found),
        )
        for family, found in grouped.items()
    ]


def _rounded(law: object) -> str:
    """A law with three figures of every coefficient."""
    return re.sub(r"\d+\.\d+(e-?\d+)?", lambda found: f"{float(found.group()):.3g}", str(law))


if __name__ == "__main__":
    for fit in fits(Tables(Path(sys.argv[1]) / "perf" / "kernel_tables")):
        what = f"{fit.generation:18} {fit.family:26} {100 * fit.error:4.1f} % of {fit.rows:6}"
        sys.stdout.write(f"{what}: {_rounded(fit.law)}\n")

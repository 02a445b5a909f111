"""`python -m bench`: run the benchmarks and print their figures beside the bars."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
import time
import traceback
from pathlib import Path

from rich.console import Console
from rich.table import Table

import bench
from bench.figures import Context, Figure

NOT_BENCHMARKS = frozenset({"__main__", "figures"})


def benchmark_names() -> list[str]:
    """Modules of this package that have a `run` function, in alphabetical order."""
    return sorted(module.name for module in pkgutil.iter_modules(bench.__path__) if module.name not in NOT_BENCHMARKS)


def figures_table(title: str, figures: list[Figure]) -> Table:
    """A table of figures with their bars."""
    table = Table(title=title, title_justify="left")
    for column in ("figure", "value", "bar", "met", "detail"):
        table.add_column(column, justify="right" if column in ("value", "bar") else "left")
    for figure in figures:
        bar = "" if figure.bar is None else f"{figure.comparison} {figure.bar:g} {figure.unit}"
        met = {None: "", True: "[green]yes[/]", False: "[red]no[/]"}[figure.met]
        table.add_row(figure.name, f"{figure.value:.4g} {figure.unit}", bar, met, figure.detail)
    return table


def main() -> int:
    """Run the chosen benchmarks; exit 1 when a bar is missed or a benchmark failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"benchmarks to run (default all): {', '.join(benchmark_names())}")
    parser.add_argument("--data", type=Path, help="folder of calibration data")
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    parser.add_argument("--quick", action="store_true", help="short versions, to check the benchmarks themselves")
    arguments = parser.parse_args()
    console = Console()
    data = arguments.data if arguments.data and arguments.data.is_dir() else None
    arguments.output.mkdir(parents=True, exist_ok=True)
    missed = 0
    for name in arguments.names or benchmark_names():
        console.print(f"==> {name} ...")
        context = Context(data=data, output=arguments.output, quick=arguments.quick)
        began = time.monotonic()
        try:
            figures: list[Figure] = importlib.import_module(f"bench.{name}").run(context)
        except Exception as error:  # the others' figures are not lost with it
            log = arguments.output / f"{name}.failed"
            log.write_text(traceback.format_exc(), encoding="utf-8")
            console.print(f"  [red]failed:[/] {error} (where: {log})", highlight=False)
            missed += 1
            continue
        console.print(figures_table(f"{name} ({time.monotonic() - began:.0f} s)", figures))
        for line in context.skipped:
            console.print(f"  skipped: {line}")
        record = {"name": name, "figures": [figure.as_json() for figure in figures], "skipped": context.skipped}
        (arguments.output / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
        missed += sum(figure.met is False for figure in figures)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

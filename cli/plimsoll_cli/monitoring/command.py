"""`plimsoll monitoring`: write the dashboards, recording rules and alerts."""

from __future__ import annotations

from pathlib import Path

import click

from plimsoll_cli.errors import CommandError
from plimsoll_cli.monitoring import files


@click.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder to write dashboards/ and rules/ into.",
)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 when a file is not what it should be.")
def monitoring(output: Path, check: bool) -> None:
    """Write Grafana dashboards and Prometheus rules for a cluster without the chart."""
    try:
        texts = files.texts()
    except ImportError as error:
        raise CommandError(f"{error}: install plimsoll[cli]", 3) from error
    stale = [name for name, text in texts.items() if _text(output / name) != text]
    if check:
        if stale:
            raise CommandError(f"not current in {output}: {', '.join(stale)}: run `make monitoring`", 1)
        return
    for name in stale:
        path = output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts[name], encoding="utf-8")
    click.echo(f"{len(texts)} files in {output}, {len(stale)} written")


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None

"""`plimsoll crd`: print the custom resource definition, write it, or check a written one."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Final

import click

from plimsoll_api.crd import to_yaml
from plimsoll_cli.errors import CommandError

_SHOWN_DIFFERENCE: Final = 40
"""Lines of a difference that are shown: enough to see what changed, short enough for one screen."""


@click.command()
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write it to FILE instead of printing it."
)
@click.option(
    "--check", type=click.Path(dir_okay=False, path_type=Path), help="Exit 1 when FILE is not what would be generated."
)
def crd(output: Path | None, check: Path | None) -> None:
    """Print the LLMService custom resource definition: kubectl apply --server-side -f <(plimsoll crd)."""
    generated = to_yaml()
    if check is not None:
        _check(check, generated)
    if output is not None:
        output.write_text(generated, encoding="utf-8")
        click.echo(f"wrote {output}")
    if output is None and check is None:
        click.echo(generated, nl=False)


def _check(path: Path, generated: str) -> None:
    """Raise a CommandError with the difference when a file is not what the models generate."""
    try:
        written = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}; write it with `plimsoll crd --output {path}`", 2) from error
    if written == generated:
        click.echo(f"{path} is current")
        return
    difference = list(
        difflib.unified_diff(
            written.splitlines(), generated.splitlines(), fromfile=str(path), tofile="generated", lineterm="", n=1
        )
    )
    click.echo("\n".join(difference[:_SHOWN_DIFFERENCE]))
    if len(difference) > _SHOWN_DIFFERENCE:
        click.echo(f"... {len(difference) - _SHOWN_DIFFERENCE} more lines")
    raise CommandError(f"{path} is not current: run `plimsoll crd --output {path}` and commit it")

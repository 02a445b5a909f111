"""The table of values in the chart's README, made from the comments in values.yaml.

`python -m plimsoll_cli.chart.readme` writes it, `--check` exits 1 when it is not current.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import yaml

from plimsoll_cli.chart.location import chart_directory

BEGIN: Final = "<!-- values: made from values.yaml, do not edit -->"
END: Final = "<!-- end of values -->"
_FIRST: Final = "# -- "
_NEXT: Final = "# "


@dataclass(frozen=True)
class Documented:
    """One value.

    Args:
        path: as `--set` takes it.
        default: from values.yaml.
        text: what its comment says.
    """

    path: str
    default: Any
    text: str


class UndocumentedError(ValueError):
    """A value without a comment."""


def documented(source: str) -> list[Documented]:
    """Every value of a values file, in its order.

    A comment above a mapping documents it as a whole; a mapping without one is gone into.

    Raises:
        UndocumentedError: a value has no comment that begins with `# --`.
    """
    root = yaml.compose(source, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    return list(_walk(root, "", source.splitlines()))


def _walk(node: yaml.MappingNode, prefix: str, lines: list[str]) -> Iterator[Documented]:
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        text = _comment_above(lines, key.start_mark.line)
        if text is None and isinstance(value, yaml.MappingNode) and value.value:
            yield from _walk(value, f"{path}.", lines)
        elif text is None:
            raise UndocumentedError(f"values.yaml: {path} has no comment that begins with `{_FIRST.strip()}`")
        else:
            yield Documented(path, yaml.safe_load(yaml.serialize(value)), text)


def _comment_above(lines: list[str], number: int) -> str | None:
    """The `# --` comment that ends on the line above; None when there is none."""
    found: list[str] = []
    for line in reversed(lines[:number]):
        stripped = line.strip()
        if stripped.startswith(_FIRST):
            return " ".join([stripped.removeprefix(_FIRST), *reversed(found)])
        if not stripped.startswith(_NEXT):
            return None
        found.append(stripped.removeprefix(_NEXT))
    return None


def table(values: list[Documented]) -> str:
    """The values as a Markdown table."""
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for value in values:
        default = json.dumps(value.default, ensure_ascii=False)
        rows.append(f"| `{value.path}` | `{default}` | {value.text.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def with_table(readme: str, values: str) -> str:
    """A README whose table is made anew.

    Raises:
        ValueError: the README has no place for it.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md has no lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{table(documented(values))}\n\n{END}{after}"


@click.command()
@click.option("--check", is_flag=True, help="Exit 1 when README.md is not current.")
@click.option("--chart", type=click.Path(file_okay=False, path_type=Path), help="Folder of the chart.")
def readme(check: bool, chart: Path | None) -> None:
    """Write the table of values into the chart's README.md."""
    folder = chart or chart_directory()
    path = folder / "README.md"
    written = path.read_text(encoding="utf-8")
    made = with_table(written, (folder / "values.yaml").read_text(encoding="utf-8"))
    if not check:
        path.write_text(made, encoding="utf-8")
    elif made != written:
        raise click.ClickException(f"{path} is not current: run `python -m plimsoll_cli.chart.readme`")


if __name__ == "__main__":
    readme()

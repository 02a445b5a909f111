"""The README's table of values."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from plimsoll_cli.chart import readme

VALUES = """
# A remark that is no documentation.

# -- What it is,
# in two lines.
one: 1
group:
  # -- Either | or.
  inner: {a: [b]}
"""


def test_the_readme_is_current(chart: Path) -> None:
    """As `python -m plimsoll_cli.chart.readme` would write it."""
    written = (chart / "README.md").read_text(encoding="utf-8")
    assert readme.with_table(written, (chart / "values.yaml").read_text(encoding="utf-8")) == written


def test_comments_become_rows() -> None:
    """Lines are joined, groups are gone into, and a bar does not end a cell."""
    table = readme.table(readme.documented(VALUES))
    assert table.splitlines()[2:] == [
        "| `one` | `1` | What it is, in two lines. |",
        '| `group.inner` | `{"a": ["b"]}` | Either \\| or. |',
    ]


def test_a_value_without_a_comment_is_found() -> None:
    """Every value says what it is for."""
    with pytest.raises(readme.UndocumentedError, match=r"group\.b"):
        readme.documented("group:\n  # -- yes\n  a: 1\n  b: 2\n")


def test_check_fails_when_a_default_changed(chart: Path, tmp_path: Path) -> None:
    """And passes once it is written again."""
    values = (chart / "values.yaml").read_text(encoding="utf-8")
    (tmp_path / "values.yaml").write_text(values.replace("workers: 8", "workers: 9"), encoding="utf-8")
    (tmp_path / "README.md").write_text((chart / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    run = CliRunner()
    assert "not current" in run.invoke(readme.readme, ["--check", "--chart", str(tmp_path)]).output
    assert run.invoke(readme.readme, ["--chart", str(tmp_path)]).exit_code == 0
    assert run.invoke(readme.readme, ["--check", "--chart", str(tmp_path)]).exit_code == 0

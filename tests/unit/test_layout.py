"""The layout rule: a top-level component folder is not a package and holds no module."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPONENTS = ("crds", "operator", "recommender", "detector", "runtime", "simulator", "cli")


@pytest.mark.parametrize("component", COMPONENTS)
def test_component_folder_holds_no_python_module(component: str) -> None:
    """`operator/__init__.py` would shadow the standard library's `operator` and crash the interpreter."""
    assert not sorted((ROOT / component).glob("*.py"))


def test_standard_library_operator_wins_from_the_repository_root() -> None:
    """The interpreter started in the root still finds its own `operator`."""
    code = "import operator, collections; print(operator.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert str(ROOT) not in done.stdout


def test_the_guard_can_fail(tmp_path: Path) -> None:
    """Control: with an `operator/__init__.py` in place the interpreter does not find its own module."""
    shadow = tmp_path / "operator"
    shadow.mkdir()
    (shadow / "__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", "import collections"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0

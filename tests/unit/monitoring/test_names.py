"""A series is named in one place: what is queried is exposed, and nobody spells a name a second time."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from plimsoll_api import series, service_series
from plimsoll_cli.monitoring import rules
from plimsoll_cli.monitoring.files import texts
from plimsoll_detector.telemetry import Telemetry
from plimsoll_operator.metrics import Metrics, Pulse
from plimsoll_operator.workqueue import WorkQueue
from plimsoll_runtime.engine.metrics import EngineMetrics

ROOT: Final = Path(__file__).parents[3]
PACKAGES: Final = ("operator", "recommender", "detector", "runtime", "simulator", "cli")
SPELT: Final = re.compile(r"\b(?:vllm:|plimsoll_|namespace_llmservice)[a-zA-Z0-9_:]+")
PREFIXES: Final = ("vllm:", "plimsoll_")
HISTOGRAM: Final = re.compile(r"_(bucket|sum|count)$")


def named(module: ModuleType) -> Mapping[str, str]:
    """Constant -> series, of a module of names."""
    found = {name: value for name, value in vars(module).items() if name.isupper() and isinstance(value, str)}
    return {name: value for name, value in found.items() if value.startswith(PREFIXES)}


ENGINE: Final = frozenset(named(series).values())
OWN: Final = frozenset(named(service_series).values())
RECORDED: Final = frozenset(rule.record for rule in rules.recordings())


def known(name: str) -> bool:
    """Whether a series is in one of the modules, as itself or as part of a histogram."""
    return {name, HISTOGRAM.sub("", name)} & (ENGINE | OWN | RECORDED) != set()


def spelt(path: Path) -> Iterator[str]:
    """The series that a module of ours spells out, as a whole string or at the start of one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            found = SPELT.match(node.value)
            if found and known(found.group()) and found.group() not in RECORDED:
                yield f"{path.name}:{node.lineno}: {found.group()}"


@pytest.mark.parametrize("package", PACKAGES)
def test_nobody_spells_a_name_again(package: str) -> None:
    """A renamed series is renamed in one line."""
    assert [line for path in (ROOT / package).rglob("*.py") for line in spelt(path)] == []


def test_the_search_finds_one(tmp_path: Path) -> None:
    """The control of the test above."""
    (tmp_path / "again.py").write_text('QUERY = f"plimsoll_leader{1}"\nOTHER = "plimsoll_api"\n')
    assert list(spelt(tmp_path / "again.py")) == ["again.py:1: plimsoll_leader"]


@pytest.mark.parametrize("name", sorted(texts()))
def test_what_is_queried_is_named(name: str) -> None:
    """Every series in dashboards, rules and alerts is one that the code exposes or a rule records."""
    found = set(SPELT.findall(texts()[name].replace("plimsoll_cli", "")))
    assert found
    assert [one for one in found if not known(one)] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.stem)
def test_what_a_page_tells_to_look_at_is_named(page: Path) -> None:
    """A runbook must not send people to a series that is not there."""
    code = re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))
    found = [one for text in code for one in SPELT.findall(text) if not one.startswith("plimsoll_api.")]
    packages = {path.name for path in ROOT.glob("*/plimsoll_*")}
    assert [one for one in found if not known(one) and one not in packages and not one.endswith(("_", ":"))] == []


def test_what_is_named_is_exposed() -> None:
    """By the operator, the detector and the simulated engine, which tests/contract holds to vLLM's own names."""
    metrics = Metrics()
    metrics.show(WorkQueue(), Pulse())
    kinds = {"counter": "_total"}
    found = {
        family.name + kinds.get(family.type, "")
        for registry in (Telemetry().registry, metrics.registry)
        for family in registry.collect()
    }
    assert found == OWN
    engine = EngineMetrics("m", 1024, {}, 0.0)
    assert {family.name for family in engine.families} >= ENGINE

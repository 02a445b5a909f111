"""What the detector asks for is what an engine exposes."""

from __future__ import annotations

import re

from plimsoll_api import series
from plimsoll_detector.queries import query_table
from plimsoll_runtime.engine.metrics import EngineMetrics


def exposed() -> set[str]:
    """The names of an engine's series."""
    lines: list[str] = []
    for family in EngineMetrics("chat", 8192, {"block_size": "16"}, 0.0).families:
        family.render(lines)
    return {line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")}


def test_every_series_of_the_queries_is_exposed() -> None:
    """Nothing is asked for that no engine has: that would be an empty answer for ever."""
    asked = {name for query in query_table(60.0) for name in re.findall(r"vllm:\w+", query.promql)}
    assert asked
    assert asked <= exposed()


def test_every_shared_name_is_exposed() -> None:
    """The names that dashboards and alerts use, too: as they are, or as a histogram's."""
    shared = {value for name, value in vars(series).items() if name.isupper() and str(value).startswith("vllm:")}
    found = exposed()
    assert {name for name in shared if name not in found and series.bucket(name) not in found} == set()

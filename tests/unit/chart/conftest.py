"""The chart's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from plimsoll_cli.chart.location import chart_directory


@pytest.fixture(scope="session")
def chart() -> Path:
    """The chart's folder."""
    return chart_directory()

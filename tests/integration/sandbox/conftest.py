"""A small sandbox that the tests of this folder share: they leave its components as they are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from plimsoll_cli.sandbox.options import SandboxOptions
from plimsoll_cli.sandbox.sandbox import Sandbox


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Control plane and Prometheus, which looks every second."""
    without = frozenset({"operator", "detector", "node-agent"})
    options = SandboxOptions(
        name="bare", without=without, directory=tmp_path_factory.mktemp("bare"), scrape_interval=1.0
    )
    with Sandbox.start(options) as running:
        yield running

"""Where the chart's folder is."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from plimsoll_cli.errors import CommandError

RELEASE: Final = "plimsoll"
"""Name that the documentation and the sandbox give the release."""
NAMESPACE: Final = "plimsoll-system"
"""Namespace that they install it into."""
IMAGES: Final = {"plimsoll/operator": "plimsoll_operator", "plimsoll/detector": "plimsoll_detector"}
"""Image repositories of the chart's values, and the module that each one's entry point runs."""

_PACKAGED: Final = Path(__file__).parent / "plimsoll"
_CHECKOUT: Final = Path(__file__).resolve().parents[3] / "charts" / "plimsoll"


def chart_directory() -> Path:
    """The chart that came with this installation: inside the package, or beside it in a checkout.

    Raises:
        CommandError: neither is there.
    """
    for folder in (_PACKAGED, _CHECKOUT):
        if (folder / "Chart.yaml").is_file():
            return folder
    raise CommandError(f"the chart is not part of this installation: there is no Chart.yaml in {_CHECKOUT}", 3)

"""Where each component of a sandbox answers whether it is ready."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from plimsoll_cli.sandbox import control_plane
from plimsoll_cli.sandbox.control_plane import Layout
from plimsoll_cli.sandbox.node.config import load

PROMETHEUS: Final = "prometheus"
NODE_AGENT: Final = "node-agent"
OPERATOR: Final = "operator"
DETECTOR: Final = "detector"

_LOG_TAIL_BYTES: Final = 1 << 20
"""How much of a log's end is searched for a port; the line is among the first that a process writes."""


def ready_url(name: str, layout: Layout) -> str | None:
    """Address of a component's readiness check; None while it has not said which port it took."""
    if name == PROMETHEUS:
        return f"{prometheus_url(layout)}/-/ready"
    if name == NODE_AGENT:
        settings = load(node_settings(layout))
        return f"https://{settings.node_address(settings.nodes[0].name)}:{settings.kubelet_port}/healthz"
    if name.startswith((OPERATOR, DETECTOR)):
        port = logged_port(layout.log(name), "health")
        return f"http://{layout.block.control_address}:{port}/readyz" if port else None
    return control_plane.health_url(name, layout)


def ready(name: str, layout: Layout) -> bool:
    """Whether a component answers its readiness check."""
    url = ready_url(name, layout)
    return url is not None and control_plane.answers(url, layout)


def prometheus_url(layout: Layout) -> str:
    """Address of the sandbox's Prometheus."""
    return f"http://{layout.block.control_address}:{layout.ports.prometheus}"


def node_settings(layout: Layout) -> Path:
    """The node agent's configuration file."""
    return layout.root / "node-agent.json"


def logged_port(log: Path, what: str) -> int | None:
    """The port that a process says it listens on, from the last such line of its log; None when there is none yet.

    Args:
        log: JSON lines.
        what: `health` or `metrics`.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        if b'"listening"' not in line:
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry.get("event") == "listening" and entry.get("what") == what:
            return int(entry["port"])
    return None

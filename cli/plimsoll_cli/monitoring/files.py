"""The files that a Grafana and a Prometheus load: what the chart carries and `plimsoll monitoring` writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import yaml

from plimsoll_cli.monitoring.rules import rule_groups

RULES_FILE: Final = "rules/plimsoll.yaml"


def rules_text() -> str:
    """The rule file."""
    return yaml.safe_dump(rule_groups(), sort_keys=False, width=120)


def rules_object(name: str, namespace: str) -> str:
    """The rules as the PrometheusRule that the chart makes of the file, for a cluster without the chart."""
    metadata = {"name": name, "namespace": namespace}
    rule = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": metadata}
    return yaml.safe_dump({**rule, "spec": rule_groups()}, sort_keys=False, width=120)


def texts() -> Mapping[str, str]:
    """Every file's text by its path below the output folder."""
    # The SDK is wanted only by whoever generates.
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    from plimsoll_cli.monitoring.boards import dashboards

    boards = {
        f"dashboards/{name}": JSONEncoder(sort_keys=True, indent=1).encode(board) + "\n"
        for name, board in dashboards().items()
    }
    return {RULES_FILE: rules_text(), **boards}

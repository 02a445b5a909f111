"""The chart as a sandbox's release: its values, its installation, and when it is ready."""

from __future__ import annotations

from typing import Any, Final

from plimsoll_cli.chart.helm import Helm
from plimsoll_cli.chart.location import NAMESPACE, RELEASE, chart_directory
from plimsoll_cli.sandbox.kubectl import Kubectl
from plimsoll_cli.sandbox.options import SandboxOptions

COMPONENTS: Final = ("operator", "detector")
_READY_SECONDS: Final = 60
"""Two Python processes start in 5 s on an idle 2-core machine; a busy one gets twelve times that."""


def values(options: SandboxOptions, prometheus_url: str) -> dict[str, Any]:
    """The chart's values for a sandbox."""
    scrape = f"{options.scrape_interval:g}s"
    return {
        "prometheus": {"url": prometheus_url},
        "monitoring": {"interval": scrape},
        "operator": {
            "replicas": 0 if "operator" in options.without else options.operators,
            "scrapeInterval": scrape,
            "extraArgs": list(options.operator_arguments),
        },
        "detector": {
            "replicas": 0 if "detector" in options.without else options.detectors,
            "interval": f"{options.detector_interval:g}s",
            "extraArgs": list(options.detector_arguments),
        },
    }


def install(helm: Helm, options: SandboxOptions, prometheus_url: str) -> None:
    """Install the chart, or upgrade the release that is there, without waiting for its pods.

    Raises:
        CommandError: helm or the API server refused; with what it said.
    """
    helm(
        "upgrade",
        "--install",
        RELEASE,
        str(chart_directory()),
        f"--namespace={NAMESPACE}",
        "--create-namespace",
        values=values(options, prometheus_url),
    )


def await_ready(kubectl: Kubectl, component: str) -> None:
    """Wait until every pod of a component is ready.

    Raises:
        CommandError: not in time; with what kubectl said.
    """
    kubectl(
        "rollout",
        "status",
        f"deployment/{RELEASE}-{component}",
        f"--namespace={NAMESPACE}",
        f"--timeout={_READY_SECONDS}s",
        timeout=_READY_SECONDS + 10,
    )

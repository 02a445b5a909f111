"""A release for one namespace only: it works there with what it is granted there, and sees nothing of the others."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from plimsoll_api import names
from plimsoll_cli.chart import sandbox_release
from plimsoll_cli.chart.location import NAMESPACE, RELEASE, chart_directory
from plimsoll_cli.sandbox.sandbox import Sandbox

pytestmark = [
    pytest.mark.api_server,
    pytest.mark.slow,
    pytest.mark.timeout(480),
    pytest.mark.xdist_group("chart-sandbox"),
]

TEAM, OTHER = "team", "other"
ACCOUNT = f"system:serviceaccount:{TEAM}:{RELEASE}-"


def until(happened: Callable[[], bool], what: str, seconds: float = 90.0) -> None:
    """Wait for something that operator or detector does."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.2)


@pytest.fixture
def team(installed: Sandbox) -> Iterator[Sandbox]:
    """The cluster-wide release gone, one for the namespace `team` in its place; afterwards as it was."""
    kubectl, helm = installed.kubectl, installed.helm
    helm("uninstall", RELEASE, f"--namespace={NAMESPACE}")
    # Its pods go on asking, without rights, until they end: no later test is to take that for the next release's.
    kubectl("wait", "pod", "--all", "--for=delete", "-n", NAMESPACE, "--timeout=120s", timeout=150.0)
    for namespace in (TEAM, OTHER):
        kubectl("create", "namespace", namespace)
    kubectl("create", "secret", "generic", "prometheus-token", "-n", TEAM, "--from-literal=token=t")
    values: dict[str, Any] = {
        **sandbox_release.values(installed.options, installed.prometheus_url),
        "watchNamespaces": [TEAM],
        "crds": {"install": False},  # the definition of the release before is kept
    }
    values["prometheus"]["bearerTokenSecret"] = {"name": "prometheus-token"}
    try:
        helm("install", RELEASE, str(chart_directory()), f"--namespace={TEAM}", "--wait", values=values)
        yield installed
    finally:
        helm.attempt("uninstall", RELEASE, f"--namespace={TEAM}")
        kubectl("delete", "llm", "--all", "-n", TEAM)
        kubectl("delete", "llm", "--all", "-n", OTHER)
        kubectl("delete", "namespace", TEAM, OTHER, "--wait=false")
        sandbox_release.install(helm, installed.options, installed.prometheus_url)


def service(namespace: str) -> dict[str, Any]:
    """A small service whose detector has something to do."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "mine", "namespace": namespace},
        "spec": {
            "model": {"uri": "hf://meta-llama/Llama-3.1-8B-Instruct"},
            "scaling": {"minReplicas": 2, "maxReplicas": 3},
        },
    }


def refused(sandbox: Sandbox) -> list[str]:
    """Requests of the release's accounts that were forbidden."""
    *whole, _unfinished = sandbox.audit_log.read_text(encoding="utf-8").split("\n")
    entries = map(json.loads, whole)
    return [
        f"{entry['user']['username']}: {entry['verb']} {entry['requestURI']}"
        for entry in entries
        if entry["user"]["username"].startswith(ACCOUNT) and entry.get("responseStatus", {}).get("code") == 403
    ]


def test_one_namespace_is_served_and_the_others_are_left_alone(team: Sandbox) -> None:
    """Sized, started, measured through the token's mount, and decided on; next door nothing happens."""
    kubectl = team.kubectl
    for namespace in (OTHER, TEAM):
        kubectl("apply", "-f", "-", stdin=yaml.safe_dump(service(namespace)))
    kubectl("wait", "--for=condition=Available", "llm/mine", "-n", TEAM, "--timeout=120s", timeout=150.0)
    kubectl("wait", "--for=condition=MetricsAvailable", "llm/mine", "-n", TEAM, "--timeout=120s", timeout=150.0)
    until(lambda: "decision" in kubectl.json("get", "llm", "mine", "-n", TEAM)["status"], "a decision")
    assert refused(team) == []
    assert "status" not in kubectl.json("get", "llm", "mine", "-n", OTHER)
    assert kubectl("get", "deployments", "-n", OTHER, "-o", "name") == ""

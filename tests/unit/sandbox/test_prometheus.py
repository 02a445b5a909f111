"""PodMonitors become the scrape configuration that prometheus-operator would make."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_cli.sandbox import binaries, prometheus

KUBECONFIG = Path("/sandbox/prometheus.yaml")


def monitor(**spec: Any) -> dict[str, Any]:
    """A PodMonitor as the operator writes it, changed."""
    return {
        "metadata": {"namespace": "ml", "name": "chat-engine"},
        "spec": {
            "selector": {"matchLabels": {"plimsoll.dev/service": "chat"}},
            "podMetricsEndpoints": [{"port": "http", "path": "/metrics", "interval": "5s"}],
            **spec,
        },
    }


def the_job(**spec: Any) -> dict[str, Any]:
    """The only job of a monitor."""
    (job,) = prometheus.pod_monitor_jobs(monitor(**spec), KUBECONFIG)
    return job


Labels = dict[str, str]


def relabelled(job: dict[str, Any], labels: Labels) -> Labels | None:
    """What Prometheus makes of discovered labels (its documented relabelling, the actions used here); None: dropped."""
    labels = dict(labels)
    for rule in job["relabel_configs"]:
        value = ";".join(labels.get(name, "") for name in rule.get("source_labels", ()))
        match = re.fullmatch(str(rule.get("regex", "(.*)")), value)
        action = rule.get("action", "replace")
        if (action == "keep" and not match) or (action == "drop" and match):
            return None
        if action == "replace" and match:
            replacement = rule.get("replacement", "$1").replace("${1}", r"\1").replace("$1", r"\1")
            labels[rule["target_label"]] = match.expand(replacement)
    return {name: value for name, value in labels.items() if not name.startswith("__") and value}


def pod(name: str = "chat-0", **more: str) -> Labels:
    """Labels that discovery gives to the serving port of a pod of service chat."""
    return {
        "__meta_kubernetes_namespace": "ml",
        "__meta_kubernetes_pod_name": name,
        "__meta_kubernetes_pod_phase": "Running",
        "__meta_kubernetes_pod_container_name": "engine",
        "__meta_kubernetes_pod_container_port_name": "http",
        "__meta_kubernetes_pod_label_plimsoll_dev_service": "chat",
        "__meta_kubernetes_pod_labelpresent_plimsoll_dev_service": "true",
        **more,
    }


def test_series_carry_what_prometheus_operator_adds() -> None:
    """namespace, pod, container, job and endpoint, and the pod labels asked for."""
    job = the_job(podTargetLabels=["plimsoll.dev/service"])
    assert relabelled(job, pod()) == {
        "namespace": "ml",
        "pod": "chat-0",
        "container": "engine",
        "job": "ml/chat-engine",
        "endpoint": "http",
        "plimsoll_dev_service": "chat",
    }
    assert (job["scrape_interval"], job["metrics_path"]) == ("5s", "/metrics")


def test_our_own_relabelling_names_the_service() -> None:
    """The operator's monitors set `llmservice`; its rules come after the added labels."""
    rule = {"sourceLabels": ["__meta_kubernetes_pod_label_plimsoll_dev_service"], "targetLabel": "llmservice"}
    job = the_job(podMetricsEndpoints=[{"port": "http", "relabelings": [{**rule, "action": "Replace"}]}])
    found = relabelled(job, pod())
    assert found is not None
    assert found["llmservice"] == "chat"


@pytest.mark.parametrize(
    ("what", "labels"),
    [
        ("another service", {"__meta_kubernetes_pod_label_plimsoll_dev_service": "other"}),
        ("a longer name", {"__meta_kubernetes_pod_label_plimsoll_dev_service": "chat-2"}),
        ("another port", {"__meta_kubernetes_pod_container_port_name": "admin"}),
        ("a pod that has ended", {"__meta_kubernetes_pod_phase": "Succeeded"}),
    ],
)
def test_what_is_not_selected_is_not_scraped(what: str, labels: Labels) -> None:
    """Control for the test above: one wrong label and the target is gone."""
    assert relabelled(the_job(), pod(**labels)) is None, what


@pytest.mark.parametrize(
    ("operator", "values", "tier", "kept"),
    [
        ("In", ["a", "b"], "b", True),
        ("In", ["a", "b"], "c", False),
        ("In", ["a"], None, False),
        ("NotIn", ["a"], "b", True),
        ("NotIn", ["a"], "a", False),
        ("NotIn", ["a"], None, True),
        ("Exists", None, "x", True),
        ("Exists", None, None, False),
        ("DoesNotExist", None, None, True),
        ("DoesNotExist", None, "x", False),
    ],
)
def test_set_based_selectors(operator: str, values: list[str] | None, tier: str | None, kept: bool) -> None:
    """The four operators of a label selector, with the label absent, matching and not matching."""
    expression = {"key": "tier", "operator": operator} | ({"values": values} if values else {})
    job = the_job(selector={"matchExpressions": [expression]})
    labels = pod()
    if tier is not None:
        labels |= {"__meta_kubernetes_pod_label_tier": tier, "__meta_kubernetes_pod_labelpresent_tier": "true"}
    assert (relabelled(job, labels) is not None) == kept


@given(st.from_regex(r"[a-z0-9]([-a-z0-9_.]{0,20}[a-z0-9])?", fullmatch=True), st.text("abc.-", min_size=1, max_size=8))
def test_a_selector_matches_its_own_value_and_no_other(value: str, other: str) -> None:
    """Values are taken literally: a dot in one is no wildcard."""
    job = the_job(selector={"matchLabels": {"plimsoll.dev/service": value}})
    for found in (value, other):
        labels = pod(__meta_kubernetes_pod_label_plimsoll_dev_service=found)
        assert (relabelled(job, labels) is not None) == (found == value)


def test_namespaces() -> None:
    """The monitor's own by default, the named ones, or all."""

    def discovery(**spec: Any) -> dict[str, Any]:
        found: dict[str, Any] = the_job(**spec)["kubernetes_sd_configs"][0]
        return found

    assert discovery()["namespaces"] == {"names": ["ml"]}
    assert discovery(namespaceSelector={"matchNames": ["a", "b"]})["namespaces"] == {"names": ["a", "b"]}
    assert "namespaces" not in discovery(namespaceSelector={"any": True})


def test_endpoints_that_need_a_secret_are_left_out_and_named() -> None:
    """Scraping without the credentials would only fill the log."""
    secret = monitor(podMetricsEndpoints=[{"port": "http", "basicAuth": {}}, {"port": "http"}])
    assert [job["job_name"] for job in prometheus.pod_monitor_jobs(secret, KUBECONFIG)] == [
        "podMonitor/ml/chat-engine/1"
    ]
    assert prometheus.skipped_endpoints([secret]) == [
        "ml/chat-engine: endpoint 0 is not scraped, basicAuth needs a Secret"
    ]


def test_order_of_monitors_does_not_matter() -> None:
    """Otherwise every list in another order would be a reload."""
    other = monitor()
    other["metadata"] = {"namespace": "ml", "name": "another"}
    one = prometheus.render([monitor(), other], KUBECONFIG, "5s", {})
    assert one == prometheus.render([other, monitor()], KUBECONFIG, "5s", {})


def rule(namespace: str, name: str, *groups: dict[str, Any]) -> dict[str, Any]:
    """A PrometheusRule."""
    return {"metadata": {"namespace": namespace, "name": name}, "spec": {"groups": list(groups)}}


def test_rules_become_files_of_their_own() -> None:
    """Named so that no two share one, with everything that Prometheus reads and nothing that it refuses."""
    group = {"name": "one", "interval": "5s", "rules": [{"record": "a:b", "expr": "vector(1)"}]}
    files = prometheus.rule_files(
        [rule("a", "b.c", {**group, "partial_response_strategy": "abort"}), rule("a-b", "c"), rule("a", "b-c")]
    )
    assert len(files) == 3
    assert yaml.safe_load(files["a.b.c.yaml"]) == {"groups": [group]}
    assert yaml.safe_load(files["a-b.c.yaml"]) == {"groups": []}


@pytest.mark.slow
def test_prometheus_accepts_the_configuration(tmp_path: Path) -> None:
    """promtool reads it, and refuses one that is wrong."""
    promtool = binaries.resolve("promtool")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("{}")
    full = monitor(
        podTargetLabels=["plimsoll.dev/service"],
        jobLabel="app",
        sampleLimit=100,
        selector={"matchExpressions": [{"key": "tier", "operator": "In", "values": ["a"]}]},
        podMetricsEndpoints=[
            {
                "portNumber": 8000,
                "scheme": "http",
                "params": {"x": ["1"]},
                "honorLabels": True,
                "relabelings": [{"sourceLabels": ["a"], "separator": ";", "targetLabel": "b", "action": "replace"}],
                "metricRelabelings": [{"sourceLabels": ["__name__"], "regex": "go_.*", "action": "Drop"}],
            }
        ],
    )
    config = prometheus.render([monitor(), full], kubeconfig, "5s", {"plimsoll-operator": ["127.0.0.1:8081"]})
    path = tmp_path / "prometheus.yaml"
    # `namespace/name` of both is the same here; job names must differ.
    config["scrape_configs"][1]["job_name"] = "other"
    path.write_text(yaml.safe_dump(config))
    accepted = subprocess.run([promtool, "check", "config", path], capture_output=True, text=True, check=False)
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    path.write_text(yaml.safe_dump({**config, "scrape_configs": [{"job_name": ""}]}))
    refused = subprocess.run([promtool, "check", "config", path], capture_output=True, text=True, check=False)
    assert refused.returncode != 0

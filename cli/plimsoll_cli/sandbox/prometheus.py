"""PodMonitors and PrometheusRules -> Prometheus' files: what prometheus-operator does in a cluster, for a sandbox.

Source of the relabelling rules and their order: prometheus-operator v0.85.0, pkg/prometheus/promcfg.go,
generatePodMonitorConfig.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

Object = Mapping[str, Any]
Rule = dict[str, Any]

_POD_LABEL: Final = "__meta_kubernetes_pod_label_"
_POD_LABEL_PRESENT: Final = "__meta_kubernetes_pod_labelpresent_"
_ENDPOINT_FIELDS: Final = {
    "interval": "scrape_interval",
    "scrapeTimeout": "scrape_timeout",
    "path": "metrics_path",
    "params": "params",
    "scheme": "scheme",
    "followRedirects": "follow_redirects",
    "enableHttp2": "enable_http2",
    "honorLabels": "honor_labels",
    "honorTimestamps": "honor_timestamps",
}
_RELABEL_FIELDS: Final = {
    "sourceLabels": "source_labels",
    "separator": "separator",
    "targetLabel": "target_label",
    "regex": "regex",
    "modulus": "modulus",
    "replacement": "replacement",
    "action": "action",
}
_NEEDS_SECRETS: Final = ("authorization", "basicAuth", "oauth2", "bearerTokenSecret", "tlsConfig")
"""Endpoint fields whose values come from Secrets, which a sandbox's Prometheus may not read."""
_THANOS_ONLY: Final = "partial_response_strategy"
"""The one field of a rule group that Prometheus itself refuses (PrometheusRule says that it is for Thanos)."""


def render(
    monitors: Sequence[Object],
    kubeconfig: Path,
    scrape_interval: str,
    own_targets: Mapping[str, Sequence[str]],
    rule_files: Sequence[str] = (),
) -> dict[str, Any]:
    """The whole configuration.

    Args:
        monitors: PodMonitor objects as the API server returns them.
        kubeconfig: identity with which Prometheus watches pods.
        scrape_interval: of endpoints that name none.
        own_targets: job name -> `address:port`, of processes that are not pods here (operator, detector).
        rule_files: recording rules and alerts, relative to the configuration's folder.
    """
    jobs = [job for monitor in monitors for job in pod_monitor_jobs(monitor, kubeconfig)]
    static = [
        # Their series carry the namespace of the service they are about.
        {"job_name": name, "honor_labels": True, "static_configs": [{"targets": list(targets)}]}
        for name, targets in sorted(own_targets.items())
        if targets
    ]
    return {
        "global": {"scrape_interval": scrape_interval, "evaluation_interval": scrape_interval},
        "rule_files": list(rule_files),
        "scrape_configs": sorted(jobs, key=lambda job: str(job["job_name"])) + static,
    }


def rule_files(rules: Iterable[Object]) -> dict[str, str]:
    """The rule file of every PrometheusRule, by a name of its own.

    Args:
        rules: PrometheusRule objects as the API server returns them; their groups are written as Prometheus reads them.
    """
    return {
        # A namespace has no dot in it, so that two objects never share a name.
        f"{rule['metadata']['namespace']}.{rule['metadata']['name']}.yaml": yaml.safe_dump(
            {"groups": [_group(group) for group in rule["spec"].get("groups", ())]}, sort_keys=False
        )
        for rule in rules
    }


def _group(group: Object) -> dict[str, Any]:
    """A rule group without what only Thanos reads."""
    return {name: value for name, value in group.items() if name != _THANOS_ONLY}


def skipped_endpoints(monitors: Iterable[Object]) -> list[str]:
    """Endpoints that are not scraped because they need a Secret, each with the reason."""
    return [
        f"{_full_name(monitor)}: endpoint {index} is not scraped, {field} needs a Secret"
        for monitor in monitors
        for index, endpoint in enumerate(_endpoints(monitor))
        for field in _NEEDS_SECRETS
        if field in endpoint
    ]


def pod_monitor_jobs(monitor: Object, kubeconfig: Path) -> list[dict[str, Any]]:
    """One scrape job per endpoint of a PodMonitor."""
    return [
        _job(monitor, endpoint, index, kubeconfig)
        for index, endpoint in enumerate(_endpoints(monitor))
        if not any(field in endpoint for field in _NEEDS_SECRETS)
    ]


def sanitized(label: str) -> str:
    """A Kubernetes label as Prometheus names it.

    >>> sanitized("plimsoll.dev/service")
    'plimsoll_dev_service'
    """
    return re.sub(r"[^a-zA-Z0-9_]", "_", label)


def _endpoints(monitor: Object) -> Sequence[Object]:
    """The endpoints of a PodMonitor."""
    found: Sequence[Object] = monitor["spec"].get("podMetricsEndpoints", ())
    return found


def _full_name(monitor: Object) -> str:
    """namespace/name."""
    return f"{monitor['metadata']['namespace']}/{monitor['metadata']['name']}"


def _job(monitor: Object, endpoint: Object, index: int, kubeconfig: Path) -> dict[str, Any]:
    """The scrape job of one endpoint."""
    spec = monitor["spec"]
    job: dict[str, Any] = {
        "job_name": f"podMonitor/{_full_name(monitor)}/{index}",
        "kubernetes_sd_configs": [_discovery(monitor, kubeconfig)],
        # Prometheus 3 refuses an answer without a content type unless told what to take it for.
        "fallback_scrape_protocol": spec.get("fallbackScrapeProtocol", "PrometheusText0.0.4"),
    }
    job |= {ours: endpoint[theirs] for theirs, ours in _ENDPOINT_FIELDS.items() if theirs in endpoint}
    if "sampleLimit" in spec:
        job["sample_limit"] = spec["sampleLimit"]
    job["relabel_configs"] = [
        *([_running_only()] if endpoint.get("filterRunning", True) else []),
        *_selection(spec.get("selector", {})),
        *_port(endpoint),
        *_labels(monitor, endpoint),
        *(_relabeling(rule) for rule in endpoint.get("relabelings", ())),
    ]
    if metric_rules := endpoint.get("metricRelabelings"):
        job["metric_relabel_configs"] = [_relabeling(rule) for rule in metric_rules]
    return job


def _discovery(monitor: Object, kubeconfig: Path) -> dict[str, Any]:
    """Which namespaces' pods are looked at: the monitor's own unless it says otherwise."""
    selector = monitor["spec"].get("namespaceSelector", {})
    discovery: dict[str, Any] = {"role": "pod", "kubeconfig_file": str(kubeconfig)}
    if not selector.get("any", False):
        names = selector.get("matchNames") or [monitor["metadata"]["namespace"]]
        discovery["namespaces"] = {"names": list(names)}
    return discovery


def _running_only() -> Rule:
    """Leave out pods that have ended."""
    return {"action": "drop", "source_labels": ["__meta_kubernetes_pod_phase"], "regex": "(Failed|Succeeded)"}


def _selection(selector: Object) -> list[Rule]:
    """A label selector as relabelling rules."""
    rules = [_label_rule("keep", label, [value]) for label, value in sorted(selector.get("matchLabels", {}).items())]
    for expression in selector.get("matchExpressions", ()):
        label, operator = expression["key"], expression["operator"]
        action = "keep" if operator in ("In", "Exists") else "drop"
        if operator in ("In", "NotIn"):
            rules.append(_label_rule(action, label, expression["values"]))
        else:
            present = [_POD_LABEL_PRESENT + sanitized(label)]
            rules.append({"action": action, "source_labels": present, "regex": "true"})
    return rules


def _label_rule(action: str, label: str, values: Sequence[str]) -> Rule:
    """Keep or drop pods whose label has one of the values; an absent label is not an empty one."""
    name = sanitized(label)
    alternatives = "|".join(re.escape(value) for value in values)
    sources = [_POD_LABEL + name, _POD_LABEL_PRESENT + name]
    return {"action": action, "source_labels": sources, "regex": f"({alternatives});true"}


def _port(endpoint: Object) -> list[Rule]:
    """Keep the endpoint's container port."""
    if "port" in endpoint:
        source, value = "__meta_kubernetes_pod_container_port_name", str(endpoint["port"])
    elif "portNumber" in endpoint:
        source, value = "__meta_kubernetes_pod_container_port_number", str(endpoint["portNumber"])
    else:
        return []
    return [{"action": "keep", "source_labels": [source], "regex": value}]


def _labels(monitor: Object, endpoint: Object) -> list[Rule]:
    """Labels every target gets: namespace, container, pod, the pod labels asked for, job and endpoint."""
    spec = monitor["spec"]
    rules: list[Rule] = [
        {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"source_labels": ["__meta_kubernetes_pod_container_name"], "target_label": "container"},
        {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
    ]
    rules += [_copy_pod_label(label, sanitized(label)) for label in spec.get("podTargetLabels", ())]
    rules.append({"target_label": "job", "replacement": _full_name(monitor)})
    if "jobLabel" in spec:
        rules.append(_copy_pod_label(spec["jobLabel"], "job"))
    if "port" in endpoint:
        rules.append({"target_label": "endpoint", "replacement": str(endpoint["port"])})
    return rules


def _copy_pod_label(label: str, target: str) -> Rule:
    """Copy a pod label that has a value."""
    return {
        "source_labels": [_POD_LABEL + sanitized(label)],
        "target_label": target,
        "regex": "(.+)",
        "replacement": "${1}",
    }


def _relabeling(rule: Object) -> Rule:
    """A rule of the API in Prometheus' spelling."""
    renamed = {ours: rule[theirs] for theirs, ours in _RELABEL_FIELDS.items() if theirs in rule}
    if "action" in renamed:
        renamed["action"] = str(renamed["action"]).lower()
    return renamed

"""YAML in the documentation for other tools: it names what this product has, by the names that it has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from plimsoll_api import names, series, service_series
from plimsoll_api.crd import custom_resource_definition
from plimsoll_api.names import ConditionType
from plimsoll_api.v1alpha1 import DiagnosisKind
from plimsoll_operator.conditions.reasons import Reason

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])
INTEROP = ROOT / "docs" / "guides" / "interop.md"
SERIES = {value for module in (series, service_series) for value in vars(module).values() if isinstance(value, str)}
ARGO_HEALTH = {"Healthy", "Progressing", "Degraded", "Suspended"}
TARGET = {"apiVersion": "plimsoll.dev/v1alpha1", "kind": "LLMService"}


def documents(page: Path) -> Iterator[Any]:
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        yield from yaml.safe_load_all(block)


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [document for document in documents(INTEROP) if document.get("kind") == kind]


def exists(path: list[str], schema: dict[str, Any]) -> bool:
    for part in path:
        schema = schema.get("items", schema)
        if part not in schema.get("properties", {}):
            return False
        schema = schema["properties"][part]
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_yaml_and_every_object_has_a_kind(page: Path) -> None:
    for document in documents(page):
        assert isinstance(document, dict)
        assert "kind" in document or "scrape_configs" in document


@pytest.mark.parametrize("kind", ["ScaledObject", "HorizontalPodAutoscaler"])
def test_scalers_point_at_a_service_in_mode_manual(kind: str) -> None:
    found = [
        list(documents(INTEROP)),
        list(yaml.safe_load_all((ROOT / "examples" / "hpa.yaml").read_text(encoding="utf-8"))),
    ]
    (scaler,) = [document for group in found for document in group if document.get("kind") == kind]
    target = scaler["spec"]["scaleTargetRef"]
    assert {key: target[key] for key in TARGET} == TARGET
    (service,) = [
        document
        for group in found
        for document in group
        if document.get("kind") == "LLMService" and document["metadata"]["name"] == target["name"]
    ]
    assert service["spec"]["scaling"]["mode"] == "Manual"


def test_the_adapters_rule_serves_the_metric_that_the_autoscaler_asks_for() -> None:
    (config,) = [one for one in of_kind("ConfigMap") if one["metadata"]["name"] == "adapter-config"]
    (rule,) = yaml.safe_load(config["data"]["config.yaml"])["rules"]
    served = rule["seriesQuery"].partition("{")[0]
    hpa = list(yaml.safe_load_all((ROOT / "examples" / "hpa.yaml").read_text(encoding="utf-8")))[1]
    assert {metric["pods"]["metric"]["name"] for metric in hpa["spec"]["metrics"]} == {served}
    assert served == series.WAITING
    assert set(rule["resources"]["overrides"]) == {names.SERIES_NAMESPACE, names.SERIES_POD}


def test_the_query_for_keda_asks_for_series_that_exist() -> None:
    (scaled,) = of_kind("ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    asked = set(re.findall(r"[a-z_:]+(?=\{)", query))
    assert asked == {service_series.LOAD_REPLICAS}
    assert asked <= SERIES
    assert set(re.findall(r"(\w+)=\"", query)) == {names.SERIES_NAMESPACE, names.SERIES_SERVICE}
    # KEDA's metadata are strings, all of them.
    assert all(isinstance(value, str) for value in trigger["metadata"].values())


def test_the_health_check_knows_our_conditions() -> None:
    (config,) = [one for one in of_kind("ConfigMap") if one["metadata"]["name"] == "argocd-cm"]
    ((key, script),) = config["data"].items()
    assert key == f"resource.customizations.health.{TARGET['apiVersion'].partition('/')[0]}_{TARGET['kind']}"
    assert set(re.findall(r"\bis\.([A-Z]\w+)", script)) <= {kind.value for kind in ConditionType}
    assert set(re.findall(r'reason [~=]= "(\w+)"', script)) <= {reason.value for reason in Reason}
    assert set(re.findall(r'(?:hs\.status|\{status) = "(\w+)"', script)) == ARGO_HEALTH
    opened, closed = len(re.findall(r"\bthen\b|\bdo\b", script)), len(re.findall(r"\bend\b", script))
    assert opened == closed


def test_kube_state_metrics_reads_fields_that_exist() -> None:
    (config,) = of_kind("CustomResourceStateMetrics")
    schema = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    (resource,) = config["spec"]["resources"]
    assert resource["groupVersionKind"] == {"group": names.GROUP, "version": names.VERSION, "kind": TARGET["kind"]}
    for metric in resource["metrics"]:
        each = metric["each"]
        body = each[{"Gauge": "gauge", "StateSet": "stateSet"}[each["type"]]]
        for more in ([], body.get("valueFrom", []), *body.get("labelsFromPath", {}).values()):
            assert exists([*body["path"], *more], schema), (metric["name"], more)
        if each["type"] == "StateSet":
            assert set(body["list"]) == {kind.value for kind in DiagnosisKind}
    assert not exists(["status", "nothing"], schema)  # a control


def test_the_route_leads_to_the_services_port() -> None:
    (route,) = of_kind("HTTPRoute")
    (rule,) = route["spec"]["rules"]
    assert {backend["port"] for backend in rule["backendRefs"]} == {names.ENGINE_PORT}
    assert route["metadata"]["name"] in {backend["name"] for backend in rule["backendRefs"]}


def test_the_scrape_configuration_makes_our_labels() -> None:
    (config,) = [
        document for document in documents(ROOT / "docs" / "guides" / "prometheus.md") if "scrape_configs" in document
    ]
    engines, own = config["scrape_configs"]
    made = {rule["target_label"] for rule in engines["relabel_configs"] if "target_label" in rule}
    assert made == {names.SERIES_NAMESPACE, names.SERIES_POD, names.SERIES_SERVICE}
    label = re.sub(r"[^a-zA-Z0-9_]", "_", names.SERVICE_LABEL)
    sources = {source for rule in engines["relabel_configs"] for source in rule["source_labels"]}
    assert f"__meta_kubernetes_pod_label_{label}" in sources
    assert own["honor_labels"] is True

"""What the chart renders: whole, strict, and valid for every Kubernetes it says it supports."""

from __future__ import annotations

import copy
import itertools
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from plimsoll_cli.chart.helm import Helm, told
from plimsoll_cli.sandbox import binaries, definitions
from plimsoll_cli.sandbox.control_plane import ControlPlane
from plimsoll_cli.sandbox.pins import PROMETHEUS_OPERATOR

Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]

KUBERNETES = ("v1.30.14", "v1.34.4", "v1.36.3")
"""The oldest that the chart supports, one between, and the sandbox's own."""
KUBE_VERSION = "--kube-version=1.36.0"
"""Without a cluster helm assumes what it was built with, or 1.20."""
EVERYTHING: dict[str, Any] = {
    "watchNamespaces": ["team-a", "team-b"],
    "images": {"registry": "mirror.example:5000/x", "pullSecrets": [{"name": "mirror"}], "pullPolicy": "Always"},
    "engine": {"image": "mirror.example:5000/vllm:1"},
    "prometheus": {
        "url": "https://thanos.example:9091",
        "bearerTokenSecret": {"name": "prometheus-token"},
        "ca": {"secret": "prometheus-ca"},
    },
    "proxy": {"http": "http://proxy:3128", "https": "http://proxy:3128", "no": "10.0.0.0/8,.svc"},
    "monitoring": {"kind": "ServiceMonitor", "labels": {"release": "prometheus"}},
    "networkPolicies": {
        "scrapers": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "extraEgress": [{"ports": [{"port": 3128, "protocol": "TCP"}]}],
    },
    "operator": {
        "image": {"digest": "sha256:" + 64 * "a"},
        "tolerations": [{"key": "system", "operator": "Exists"}],
        "nodeSelector": {"system": "true"},
        "affinity": {"podAntiAffinity": {}},
        "podAnnotations": {"a": "b"},
        "podLabels": {"c": "d"},
        "serviceAccount": {"annotations": {"e": "f"}},
        "extraEnv": [{"name": "G", "value": "h"}],
        "extraArgs": ["--resync=7m"],
    },
}
VARIANTS = {
    "defaults": {},
    "everything": EVERYTHING,
    "one of each": {
        "operator": {"replicas": 1},
        "detector": {"replicas": 1},
        "prometheus": {"ca": {"configMap": "ca"}},
    },
    "bare": {
        "crds": {"install": False},
        "rbac": {"create": False},
        "priorityClass": {"create": False},
        "podDisruptionBudgets": {"enabled": False},
        "networkPolicies": {"enabled": False},
        "monitoring": {"enabled": "never", "rules": {"enabled": "never"}, "dashboards": {"enabled": False}},
    },
}


def only(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The one object of a kind and name."""
    [found] = [m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name]
    return found


def container(manifests: list[Manifest], component: str) -> Manifest:
    """The container of a component."""
    [found] = only(manifests, "Deployment", f"plimsoll-{component}")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_lint(helm: Helm, chart: Path) -> None:
    """Strictly."""
    assert "0 chart(s) failed" in helm("lint", "--strict", str(chart))


@pytest.fixture(scope="session")
def swagger() -> Callable[[str], Manifest]:
    """Kubernetes' own description of its API, by version, made strict; read from its Go module."""
    import json

    known: dict[str, Manifest] = {}

    def read(version: str) -> Manifest:
        if version not in known:
            folder = binaries.module_directory("k8s.io/kubernetes", version)
            known[version] = strict(json.loads((folder / "api/openapi-spec/swagger.json").read_text(encoding="utf-8")))
        return known[version]

    return read


def strict(document: Manifest) -> Manifest:
    """Definitions that refuse unknown fields, and take numbers where the API does."""
    found: dict[str, Manifest] = document["definitions"]
    for name, definition in found.items():
        if "properties" in definition:
            definition["additionalProperties"] = False
        if name.endswith((".Quantity", ".IntOrString")):
            definition["type"] = ["string", "number"]
    return {"definitions": found}


def kinds_of(document: Manifest) -> dict[tuple[str, str, str], str]:
    """(group, version, kind) -> name of its definition."""
    return {
        (kind["group"], kind["version"], kind["kind"]): name
        for name, definition in document["definitions"].items()
        for kind in definition.get("x-kubernetes-group-version-kind", [])
    }


@pytest.fixture(scope="session")
def custom_schemas() -> dict[str, Manifest]:
    """Schemas of prometheus-operator's kinds, from its Go module."""
    folder = binaries.module_directory(*PROMETHEUS_OPERATOR) / "example/prometheus-operator-crd-full"
    schemas = {}
    for plural in ("podmonitors", "servicemonitors", "prometheusrules"):
        path = folder / f"monitoring.coreos.com_{plural}.yaml"
        definition = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        schemas[definition["spec"]["names"]["kind"]] = closed(
            definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        )
    return schemas


def closed(schema: Any) -> Any:
    """A structural schema that refuses unknown fields."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        made.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    return made


def problems(manifest: Manifest, swagger: Manifest, custom: dict[str, Manifest]) -> list[str]:
    """What is wrong with an object, each with its place."""
    kind = manifest["kind"]
    if kind in custom:
        schema = custom[kind]
        manifest = {**manifest, "metadata": {}}
    else:
        group, _, version = manifest["apiVersion"].rpartition("/")
        schema = {**swagger, "$ref": f"#/definitions/{kinds_of(swagger)[group, version, kind]}"}
    validator = jsonschema.Draft4Validator(schema)
    return [f"{kind} {'/'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in validator.iter_errors(manifest)]


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_object_fits_the_schema(
    variant: str, version: str, render: Render, swagger: Callable[[str], Manifest], custom_schemas: dict[str, Manifest]
) -> None:
    """Of each Kubernetes version; no field is unknown."""
    manifests = render(VARIANTS[variant], kubernetes=version)
    assert manifests
    assert [problem for m in manifests for problem in problems(m, swagger(version), custom_schemas)] == []


def test_the_schema_check_finds_a_misspelt_field(
    render: Render, swagger: Callable[[str], Manifest], custom_schemas: dict[str, Manifest]
) -> None:
    """Control, for a kind of Kubernetes and one of prometheus-operator."""
    manifests = render()
    deployment = copy.deepcopy(only(manifests, "Deployment", "plimsoll-operator"))
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    assert "readynessProbe" in problems(deployment, swagger(KUBERNETES[-1]), custom_schemas)[0]
    monitor = copy.deepcopy(only(manifests, "PodMonitor", "plimsoll-operator"))
    monitor["spec"]["podMetricsEndpoints"][0]["intervall"] = "5s"
    assert "intervall" in problems(monitor, swagger(KUBERNETES[-1]), custom_schemas)[0]


BAD_VALUES = [
    ({"operator": {"replica": 3}}, "/operator", "replica"),
    ({"operator": {"replicas": "many"}}, "/operator/replicas", "integer"),
    ({"operator": {"image": {"digest": "sha256:12"}}}, "/operator/image/digest", "pattern"),
    ({"operator": {"resources": {"request": {}}}}, "/operator/resources", "request"),
    ({"operator": {"extraArgs": ["resync"]}}, "/operator/extraArgs/0", "pattern"),
    ({"detector": {"interval": 15}}, "/detector/interval", "string"),
    ({"detector": {"wakeSignal": "yes"}}, "/detector/wakeSignal", "boolean"),
    ({"prometheus": {"url": "prometheus:9090"}}, "/prometheus/url", "pattern"),
    ({"prometheus": {"ca": {"secret": "a", "configMap": "b"}}}, "prometheus.ca", "not both"),
    ({"monitoring": {"enabled": True}}, "/monitoring/enabled", "auto"),
    ({"images": {"registry": "https://mirror"}}, "/images/registry", "pattern"),
    ({"watchNamespaces": ["Team_A"]}, "/watchNamespaces/0", "pattern"),
    ({"leaderElection": {"leaseDuration": "soon"}}, "/leaderElection/leaseDuration", "pattern"),
    ({"networkPolicies": {"apiServerPorts": []}}, "/networkPolicies/apiServerPorts", "minItems"),
    ({"priorityClass": {"value": 2_000_000_000}}, "/priorityClass/value", "maximum"),
    ({"misspelt": 1}, "''", "misspelt"),
]


@pytest.mark.parametrize(("values", "place", "says"), BAD_VALUES, ids=[place for _, place, _ in BAD_VALUES])
def test_a_bad_value_is_refused_with_its_key(values: dict[str, Any], place: str, says: str, render: Any) -> None:
    """Before anything reaches a cluster."""
    done = render.attempt(values)
    assert done.returncode != 0
    assert place in told(done)
    assert says in told(done)


def test_too_old_a_kubernetes_is_refused(render: Any) -> None:
    """preStop.sleep came with 1.30."""
    assert "1.29.0" in told(render.attempt({}, kubernetes="1.29.0"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_tag_is_left_open(variant: str, render: Render) -> None:
    """Every image has a tag or a digest, and comes from the chosen registry."""
    images = {
        component: container(render(VARIANTS[variant]), component)["image"] for component in ("operator", "detector")
    }
    for image in images.values():
        assert re.search(r"(:\d+\.\d+\.\d+|@sha256:[0-9a-f]{64})$", image)
        assert image.startswith("mirror.example:5000/x/") == (variant == "everything")


def test_settings_reach_the_processes(render: Render) -> None:
    """As arguments that the command lines know."""
    from plimsoll_detector.settings import parse
    from plimsoll_operator.settings import parse_settings

    manifests = render(EVERYTHING)
    operator = parse_settings(container(manifests, "operator")["args"], {})
    assert operator.namespaces == ("team-a", "team-b")
    assert operator.engine_image == "mirror.example:5000/vllm:1"
    assert operator.resync == 420.0
    assert operator.lease_namespace == "plimsoll-system"
    detector = parse(container(manifests, "detector")["args"], {})
    assert detector.namespaces == ("team-a", "team-b")
    assert detector.prometheus_url == "https://thanos.example:9091"
    assert str(detector.prometheus_token_file) == "/etc/plimsoll/prometheus-token/token"
    assert str(detector.prometheus_ca_file) == "/etc/plimsoll/prometheus-ca/ca.crt"
    mounts = {mount["mountPath"] for mount in container(manifests, "detector")["volumeMounts"]}
    assert mounts == {"/etc/plimsoll/prometheus-token", "/etc/plimsoll/prometheus-ca"}


def test_the_default_settings_are_the_processes_own(render: Render) -> None:
    """An installation without values behaves as the documentation of the processes says."""
    from plimsoll_detector.settings import parse
    from plimsoll_operator.settings import Settings, parse_settings

    manifests = render()
    assert parse_settings(container(manifests, "operator")["args"], {}) == Settings()
    given = parse(container(manifests, "detector")["args"], {})
    assert given == parse([f"--prometheus-url={given.prometheus_url}"], {})


def test_namespaced_roles_hold_in_their_namespaces_only(render: Render) -> None:
    """The cluster-wide one lists nodes and nothing else."""
    manifests = render(EVERYTHING)
    bound = [m for m in manifests if m["kind"] == "ClusterRoleBinding"]
    assert [binding["roleRef"]["name"] for binding in bound] == ["plimsoll-system-plimsoll-operator"]
    role = only(manifests, "ClusterRole", "plimsoll-system-plimsoll-operator")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}]
    places = {(m["metadata"]["namespace"], m["metadata"]["name"]) for m in manifests if m["kind"] == "Role"}
    assert {("team-a", "plimsoll-system-plimsoll-detector"), ("team-b", "plimsoll-system-plimsoll-operator")} < places


@pytest.mark.parametrize(
    ("values", "ports"),
    [
        ({"url": "http://p.monitoring.svc:9090"}, [9090]),
        ({"url": "https://p.example/prometheus"}, [443]),
        ({"url": "http://p.example/x:1"}, [80]),
    ],
)
def test_the_detector_is_let_out_to_prometheus(values: dict[str, Any], ports: list[int], render: Render) -> None:
    """By the port of its URL, or of its scheme, or as told; the operator is not."""

    def last_rule(component: str, **policies: Any) -> list[int]:
        made = render({"prometheus": values, "networkPolicies": policies})
        return [
            port["port"] for port in only(made, "NetworkPolicy", f"plimsoll-{component}")["spec"]["egress"][-1]["ports"]
        ]

    assert last_rule("detector") == ports
    assert last_rule("detector", prometheusPorts=[9091, 9092]) == [9091, 9092]
    assert last_rule("operator") == [443, 6443]


def test_without_their_apis_nothing_of_prometheus_operator_is_installed(render: Render) -> None:
    """`auto` asks the cluster, `always` does not."""
    kinds = {m["kind"] for m in render(monitoring=False)}
    assert not kinds & {"PodMonitor", "ServiceMonitor", "PrometheusRule"}
    assert "PodMonitor" in {m["kind"] for m in render({"monitoring": {"enabled": "always"}}, monitoring=False)}


def test_rules_and_dashboards_are_taken_from_files(helm: Helm, chart: Path, tmp_path: Path) -> None:
    """Untouched: their braces are Prometheus' and Grafana's, not Helm's."""
    import shutil

    folder = tmp_path / "plimsoll"
    shutil.copytree(chart, folder)
    rule = {"alert": "Always", "expr": "vector(1)", "annotations": {"summary": "{{ $labels.llmservice }}"}}
    groups = {"groups": [{"name": "one", "rules": [rule]}]}
    (folder / "files" / "rules" / "extra.yaml").write_text(yaml.safe_dump(groups), encoding="utf-8")
    board = '{"title": "{{ pod }} \\"quoted\\""}'
    (folder / "files" / "dashboards" / "extra.json").write_text(board, encoding="utf-8")
    made = list(
        yaml.safe_load_all(
            helm("template", "plimsoll", str(folder), "--set=monitoring.rules.enabled=always", KUBE_VERSION)
        )
    )
    assert only(made, "PrometheusRule", "plimsoll-extra")["spec"] == groups
    config = only(made, "ConfigMap", "plimsoll-dashboard-extra")
    assert config["data"] == {"extra.json": board}
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_the_definition_is_kept_and_otherwise_the_generated_one(render: Render) -> None:
    """What the chart adds: whose it is, and that it stays."""
    made = next(m for m in render() if m["kind"] == "CustomResourceDefinition")
    generated = yaml.safe_load(definitions.llm_service())
    assert made["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert made["metadata"]["name"] == generated["metadata"]["name"]
    assert made["spec"] == generated["spec"]


def test_the_sandboxs_own_roles_are_the_charts(render: Render) -> None:
    """The same rights whether the processes run beside the cluster or as pods in it."""
    from importlib.resources import files

    manifests = [
        document
        for entry in files("plimsoll_cli").joinpath("manifests").iterdir()
        for document in yaml.safe_load_all(entry.read_text(encoding="utf-8"))
    ]
    roles = [m for m in manifests if m["kind"] in ("Role", "ClusterRole")]
    assert roles
    rendered = render()
    for role in roles:
        ours = only(rendered, role["kind"], role["metadata"]["name"])
        assert granted(role) == granted(ours), role["metadata"]["name"]


def granted(role: Manifest) -> set[tuple[str, ...]]:
    """Every (group, resource, name, verb) of a role."""
    return {
        (group, resource, ",".join(rule.get("resourceNames", [])), verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_packaged_chart_is_the_same(helm: Helm, chart: Path, render: Render, tmp_path: Path) -> None:
    """What is linked into the folder is in the archive as a file."""
    helm("package", str(chart), "--destination", str(tmp_path))
    [archive] = tmp_path.iterdir()
    packaged = list(
        yaml.safe_load_all(helm("template", "plimsoll", str(archive), "--namespace=plimsoll-system", KUBE_VERSION))
    )
    assert "CustomResourceDefinition" in {manifest["kind"] for manifest in packaged}
    assert packaged == render(monitoring=False)


@pytest.mark.parametrize("page", ["charts/plimsoll/README.md", "docs/flows/install.md"])
def test_the_values_of_every_documented_command_are_taken(page: str, helm: Helm, chart: Path) -> None:
    """`helm install` and `helm upgrade` as the documentation writes them."""
    text = (Path(__file__).resolve().parents[3] / page).read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(r"^ +(?:plimsoll sandbox exec -- )?helm (?:install|upgrade) .*$", text, re.MULTILINE)
    assert commands
    for command in commands:
        words = shlex.split(command)
        given = [word for flag, word in itertools.pairwise(words) if flag == "--set"]
        helm("template", "plimsoll", str(chart), KUBE_VERSION, *(f"--set={word}" for word in given))


@pytest.mark.api_server
@pytest.mark.xdist_group("control_plane")
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_api_server_takes_every_object(variant: str, render: Render, control_plane: ControlPlane) -> None:
    """A dry run on the server's side, strictly: defaults, admission and quantities included."""
    kubectl = control_plane.kubectl
    for name in ("plimsoll-system", "team-a", "team-b"):
        kubectl.attempt("create", "namespace", name)
    kubectl("label", "namespace", "plimsoll-system", "pod-security.kubernetes.io/enforce=restricted", "--overwrite")
    manifests = render(VARIANTS[variant])
    known = [m for m in manifests if m["kind"] != "ServiceMonitor"]
    told = kubectl(
        "apply", "--server-side", "--dry-run=server", "--force-conflicts", "--validate=strict", "-f", "-",
        stdin=yaml.safe_dump_all(known),
    )  # fmt: skip
    assert len(told.splitlines()) == len(known)


@pytest.mark.api_server
@pytest.mark.xdist_group("control_plane")
def test_the_pods_pass_the_restricted_level(render: Render, control_plane: ControlPlane) -> None:
    """Made as pods themselves: for a Deployment the level is only a warning."""
    kubectl = control_plane.kubectl
    kubectl.attempt("create", "namespace", "restricted")
    kubectl("label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=restricted", "--overwrite")
    rendered = render(EVERYTHING)
    for component in ("operator", "detector"):
        template = only(rendered, "Deployment", f"plimsoll-{component}")["spec"]["template"]
        template["spec"] |= {"serviceAccountName": "default", "priorityClassName": None}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": component, **template["metadata"]}}
        kubectl.attempt("create", "serviceaccount", "default", "-n", "restricted")
        whole = yaml.safe_dump({**pod, "spec": template["spec"]})
        kubectl("create", "-n", "restricted", "--dry-run=server", "-f", "-", stdin=whole)
        template["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
        control = kubectl.attempt(
            "create", "-n", "restricted", "--dry-run=server", "-f", "-",
            stdin=yaml.safe_dump({**pod, "spec": template["spec"]}),
        )  # fmt: skip
        assert "violates PodSecurity" in control.stderr

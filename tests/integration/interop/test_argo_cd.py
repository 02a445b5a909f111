"""The page's health check in the interpreter that Argo CD runs it in, on services whose status the operator wrote."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any, Final

import pytest
import yaml

from plimsoll_cli.sandbox import binaries
from plimsoll_cli.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("interop"), pytest.mark.timeout(300)]

NAMESPACE: Final = "gitops"
SLOW_START: Final = {"name": "PLIMSOLL_STARTUP_DELAY", "value": "600"}
SPECS: Final[dict[str, dict[str, Any]]] = {
    "serves": {},
    "starts": {"podTemplate": {"spec": {"containers": [{"name": "engine", "env": [SLOW_START]}]}}},
    "stopped": {"scaling": {"mode": "Manual", "minReplicas": 0}, "replicas": 0},
    "paused": {"paused": True},
    "refused": {"engine": {"tensorParallelSize": 7}},
    "nowhere": {"podTemplate": {"spec": {"nodeSelector": {"pool": "none"}}}},
}
"""By name: a spec beside the model."""
REACHED: Final = {
    "serves": ("Progressing", "Complete"),
    "starts": ("Progressing", "Starting"),
    "stopped": ("Available", "ScaledToZero"),
    "paused": ("Progressing", "Paused"),
    "refused": ("Progressing", "NotAccepted"),
    "nowhere": ("Progressing", "Unschedulable"),
}
"""By name: the condition's reason that the operator comes to."""

RUN: Final = """
local script = assert(loadfile("health.lua"))
setfenv(script, {
  obj = %s,
  ipairs = ipairs, pairs = pairs, next = next, select = select, type = type, tostring = tostring,
  tonumber = tonumber, error = error, pcall = pcall, unpack = unpack, string = string, table = table,
})
local health = script()
print(health.status, health.message)
"""
"""With the names that Argo CD gives a script: the basic functions, tables, strings and the object."""

Health = Callable[[dict[str, Any]], tuple[str, str]]


def service(name: str) -> dict[str, Any]:
    """A service in Git."""
    return {
        "apiVersion": "plimsoll.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"model": {"uri": "hf://meta-llama/Llama-3.1-8B-Instruct"}, **SPECS.get(name, {})},
    }


@pytest.fixture(scope="module")
def services(cluster: Sandbox, eventually: Any) -> dict[str, dict[str, Any]]:
    """Every service, once the operator has come to its verdict."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all([namespace, *map(service, SPECS)]))
    found: dict[str, dict[str, Any]] = {}

    def reached() -> bool:
        items = cluster.kubectl.json("get", "llm", "-n", NAMESPACE)["items"]
        found.update({item["metadata"]["name"]: item for item in items})
        # The first number of replicas makes a generation of its own, which the first status is not about.
        return all(
            found[name].get("status", {}).get("observedGeneration") == found[name]["metadata"]["generation"]
            and reason(found[name], kind) == wanted
            for name, (kind, wanted) in REACHED.items()
        )

    eventually(reached, f"the operator's verdicts {REACHED}")
    return found


def reason(service: dict[str, Any], kind: str) -> str:
    """The reason of a condition; empty when there is none."""
    conditions = service.get("status", {}).get("conditions", [])
    return next((condition["reason"] for condition in conditions if condition["type"] == kind), "")


@pytest.fixture(scope="module")
def health(guide: Any, tmp_path_factory: pytest.TempPathFactory) -> Health:
    """Status and message that the page's script gives an object."""
    folder = tmp_path_factory.mktemp("argocd")
    program = binaries.resolve("glua")
    [(key, script)] = guide("ConfigMap", "argocd-cm")["data"].items()
    (folder / "health.lua").write_text(script, encoding="utf-8")

    def assess(thing: dict[str, Any]) -> tuple[str, str]:
        assert key == f"resource.customizations.health.{thing['apiVersion'].partition('/')[0]}_{thing['kind']}"
        (folder / "run.lua").write_text(RUN % literal(thing), encoding="utf-8")
        done = subprocess.run(
            [str(program), "run.lua"], cwd=folder, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        status, message = done.stdout.rstrip("\n").split("\t", 1)
        return status, message

    return assess


def literal(value: Any) -> str:
    """A value of JSON as Lua writes it; bytes of strings as numbers, for Lua 5.1 knows no Unicode escapes."""
    match value:
        case None:
            return "nil"
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            return '"' + "".join(f"\\{byte:03d}" for byte in value.encode()) + '"'
        case list():
            return "{" + ", ".join(map(literal, value)) + "}"
        case dict():
            return "{" + ", ".join(f"[{literal(key)}] = {literal(one)}" for key, one in value.items()) + "}"
    raise TypeError(f"{type(value).__name__} is not of JSON")


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("serves", "Healthy"),
        ("starts", "Progressing"),
        ("stopped", "Healthy"),
        ("paused", "Suspended"),
        ("refused", "Degraded"),
        ("nowhere", "Degraded"),
    ],
)
def test_health_follows_the_operators_verdict(
    services: dict[str, dict[str, Any]], health: Health, name: str, status: str
) -> None:
    """The message is the operator's own, but for a pause."""
    found, message = health(services[name])
    assert found == status
    said = [condition["message"] for condition in services[name]["status"]["conditions"]]
    assert message in (*said, "spec.paused is true")


def test_a_sync_waits_for_the_operator(cluster: Sandbox, services: dict[str, dict[str, Any]], health: Health) -> None:
    """Neither a service without status nor the status of an older spec is taken for an answer.

    The API server's answers to dry runs are what it would store, before the operator can see it.
    """
    dry = ("--dry-run=server", "-o", "json")
    new = json.loads(cluster.kubectl("apply", "-f", "-", *dry, stdin=yaml.safe_dump(service("new"))))
    assert health(new) == ("Progressing", "waiting for the operator")
    change = '{"spec": {"rollout": {"drainTimeout": "60s"}}}'
    patch = ("patch", "llm", "serves", "-n", NAMESPACE, "--type=merge", "-p", change)
    changed = json.loads(cluster.kubectl(*patch, *dry))
    assert changed["metadata"]["generation"] > services["serves"]["metadata"]["generation"]
    assert health(changed) == ("Progressing", "the operator has not seen this generation yet")


def test_a_script_with_an_error_fails(health: Health, services: dict[str, dict[str, Any]]) -> None:
    """A control: what the script does not find in the object stops it, as it would in Argo CD."""
    broken = {**services["serves"], "metadata": None}
    with pytest.raises(AssertionError, match="attempt to index"):
        health(broken)

"""env and envFrom."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from plimsoll_cli.sandbox.node.environment import (
    MissingReferenceError,
    PodFacts,
    Sources,
    build,
    field_value,
    referenced,
)

POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a": "1", "b": "2"}},
    "spec": {"nodeName": "node", "containers": []},
}
FACTS = PodFacts("127.0.0.5", "127.0.0.1")
SOURCES = Sources(
    {"map": {"data": {"K": "v", "odd.key": "w", "": "x"}}},
    {"secret": {"data": {"T": base64.b64encode(b"s").decode()}}},
)


def variables(**container: Any) -> dict[str, str]:
    """The environment of a container."""
    return build(POD, {"name": "c", **container}, SOURCES, FACTS)


def test_order_and_precedence() -> None:
    """env wins over envFrom and sees what stands before it, not after."""
    env = [{"name": "K", "value": "own"}, {"name": "A", "value": "$(K)-$(B)"}, {"name": "B", "value": "$(A)"}]
    result = variables(env=env, envFrom=[{"configMapRef": {"name": "map"}}, {"secretRef": {"name": "secret"}}])
    assert result == {"K": "own", "odd.key": "w", "T": "s", "A": "own-$(B)", "B": "own-$(B)"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "none", "key": "K"}}, 'configMap "none" not found'),
        ({"secretKeyRef": {"name": "secret", "key": "none"}}, "couldn't find key none in secret secret"),
        ({"fieldRef": {"fieldPath": "spec.none"}}, "no field spec.none"),
        ({"fileKeyRef": {}}, "does not know valueFrom.fileKeyRef"),
    ],
)
def test_absent(source: dict[str, Any], message: str) -> None:
    """An error that names what is absent."""
    with pytest.raises(MissingReferenceError, match=message):
        variables(env=[{"name": "X", "valueFrom": source}])


def test_optional_references_leave_no_variable() -> None:
    """Not even an empty one."""
    env = [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "K", "optional": True}}}]
    assert variables(env=env, envFrom=[{"secretRef": {"name": "none", "optional": True}}]) == {}


def test_referenced() -> None:
    """Every name that is looked up is found beforehand."""
    env = [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    assert referenced({"env": env, "envFrom": [{"configMapRef": {"name": "m"}}]}) == ({"m"}, {"s"})


def test_fields() -> None:
    """Paths of the downward API."""
    assert field_value(POD, "metadata.labels['b']", FACTS) == "2"
    assert field_value(POD, "metadata.labels['none']", FACTS) == ""
    assert field_value(POD, "metadata.labels", FACTS) == 'a="1"\nb="2"'
    assert field_value(POD, "status.hostIP", FACTS) == "127.0.0.1"
    assert field_value(POD, "spec.serviceAccountName", FACTS) == "default"

"""Which pods stand behind a Service, and which one is next."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from plimsoll_cli.sandbox.node.front.balance import Backend, choose
from plimsoll_cli.sandbox.node.front.table import RouteTable, routes_of

BACKENDS = tuple(Backend(str(i), f"127.0.1.{i}", 8000) for i in range(4))
ADDRESS = ("127.1.0.1", 80)


@given(st.dictionaries(st.sampled_from("0123"), st.integers(0, 5)), st.integers(0, 100), st.sets(st.integers(0, 3)))
def test_the_choice_has_the_least_outstanding(load: dict[str, int], turn: int, failed: set[int]) -> None:
    """Of those that did not fail; None only when all did."""
    avoid = [BACKENDS[index] for index in failed]
    chosen = choose(BACKENDS, load, turn, avoid)
    left = [backend for backend in BACKENDS if backend not in avoid]
    if not left:
        assert chosen is None
        return
    assert chosen in left
    assert load.get(chosen.pod, 0) == min(load.get(backend.pod, 0) for backend in left)


@given(st.integers(0, 1000))
def test_equals_take_turns(turn: int) -> None:
    """Over as many turns as there are backends, each is chosen once."""
    assert Counter(choose(BACKENDS, {}, turn + i) for i in range(4)) == Counter(BACKENDS)


def test_requests_in_the_air_are_levelled() -> None:
    """However long each takes, no pod is more than one request ahead."""
    outstanding: Counter[str] = Counter()
    for turn in range(101):
        chosen = choose(BACKENDS, outstanding, turn)
        assert chosen is not None
        outstanding[chosen.pod] += 1
    assert max(outstanding.values()) - min(outstanding.values()) <= 1


def service(**spec: Any) -> dict[str, Any]:
    """A Service of app=chat."""
    ports = [{"port": 80, "targetPort": "http"}]
    default = {"clusterIP": ADDRESS[0], "selector": {"app": "chat"}, "ports": ports}
    return {"metadata": {"namespace": "n", "name": "s"}, "spec": {**default, **spec}}


def pod(
    name: str, *, ready: bool = True, deleted: bool = False, namespace: str = "n", app: str = "chat"
) -> dict[str, Any]:
    """A pod that serves on 8000."""
    metadata: dict[str, Any] = {"namespace": namespace, "name": name, "uid": name, "labels": {"app": app}}
    if deleted:
        metadata["deletionTimestamp"] = "now"
    return {
        "metadata": metadata,
        "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8000}]}]},
        "status": {"podIP": "127.0.0.5", "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


def names(table: RouteTable) -> list[str]:
    """Pods behind the Service."""
    return [backend.pod for backend in table.routes[ADDRESS].backends]


def test_a_pod_leaves_the_rotation_at_once() -> None:
    """Not Ready, being deleted, gone, relabelled: each takes it out; Ready takes it in."""
    table = RouteTable()
    table.pod_changed(pod("a"), deleted=False)
    table.service_changed(service(), deleted=False)
    table.pod_changed(pod("b"), deleted=False)
    table.pod_changed(pod("other-namespace", namespace="m"), deleted=False)
    assert names(table) == ["a", "b"]
    table.pod_changed(pod("a", ready=False), deleted=False)
    assert names(table) == ["b"]
    table.pod_changed(pod("a"), deleted=False)
    table.pod_changed(pod("b", deleted=True), deleted=False)
    assert names(table) == ["a"]
    table.pod_changed(pod("a", app="other"), deleted=False)
    assert names(table) == []
    table.pod_changed(pod("c"), deleted=False)
    table.pod_changed(pod("c"), deleted=True)
    assert names(table) == []
    table.service_changed(service(), deleted=True)
    assert table.routes == {}


def test_ports() -> None:
    """Named, numeric and absent targetPort; UDP and headless Services and those without selector are not served."""
    ports = [
        {"port": 80, "targetPort": "http"},
        {"port": 81, "targetPort": 9},
        {"port": 82},
        {"port": 83, "targetPort": "x"},
    ]
    routes = routes_of(service(ports=[*ports, {"port": 53, "protocol": "UDP"}]), [pod("a")])
    found = {port: [backend.port for backend in route.backends] for (_, port), route in routes.items()}
    assert found == {80: [8000], 81: [9], 82: [82], 83: []}
    assert routes_of(service(clusterIP="None"), [pod("a")]) == {}
    assert routes_of(service(selector={}), [pod("a")]) == {}


pods = st.builds(
    pod, st.sampled_from("abcd"), ready=st.booleans(), deleted=st.booleans(), app=st.sampled_from(["chat", "x"])
)


@given(st.lists(st.tuples(pods, st.booleans()), max_size=30))
def test_the_table_equals_a_fresh_look(changes: list[tuple[dict[str, Any], bool]]) -> None:
    """Whatever happened before, the routes are those of the pods that are there now."""
    table, known = RouteTable(), {}
    table.service_changed(service(), deleted=False)
    for changed, deleted in changes:
        table.pod_changed(changed, deleted=deleted)
        known[changed["metadata"]["name"]] = changed
        if deleted:
            del known[changed["metadata"]["name"]]
    assert table.routes == routes_of(service(), known.values())

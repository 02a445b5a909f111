"""The page's HTTPRoute against the real definitions of the Gateway API."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from plimsoll_cli.sandbox import binaries
from plimsoll_cli.sandbox.neighbours import GATEWAY_API
from plimsoll_cli.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("interop"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def gateways(cluster: Sandbox) -> None:
    """The standard channel's definitions, which the module carries."""
    folder = binaries.module_directory(*GATEWAY_API) / "config" / "crd" / "standard"
    files = [folder / f"gateway.networking.k8s.io_{kind}.yaml" for kind in ("gateways", "httproutes")]
    cluster.kubectl.install_definitions("\n---\n".join(path.read_text() for path in files))


def apply(cluster: Sandbox, route: dict[str, Any]) -> tuple[int, str]:
    """Exit code and complaint of applying a route, unknown fields refused."""
    done = cluster.kubectl.attempt("apply", "-n", "ml", "--validate=strict", "-f", "-", stdin=yaml.safe_dump(route))
    return done.returncode, done.stderr


@pytest.mark.usefixtures("gateways")
def test_the_route_is_accepted_and_kept_as_written(cluster: Sandbox, guide: Any) -> None:
    """Every field of it exists, `timeouts` included, in the standard channel."""
    route = guide("HTTPRoute")
    assert apply(cluster, route) == (0, "")
    [rule] = cluster.kubectl.json("get", "httproute", route["metadata"]["name"], "-n", "ml")["spec"]["rules"]
    [wanted] = route["spec"]["rules"]
    assert rule["timeouts"] == wanted["timeouts"]
    kept = [{key: one[key] for key in ("name", "port", "weight")} for one in rule["backendRefs"]]
    assert kept == wanted["backendRefs"]


@pytest.mark.usefixtures("gateways")
@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("timeouts", {"request": "ten minutes"}, "should match"),
        ("timeouts", {"request": "1s", "backendRequest": "2s"}, "backendRequest timeout cannot be longer than request"),
        ("timeouts", {"response": "10m"}, 'unknown field "spec.rules[0].timeouts.response"'),
        ("backendRefs", [{"name": "chat", "weight": 90}], "Must have port for Service reference"),
    ],
)
def test_a_broken_route_is_refused(cluster: Sandbox, guide: Any, field: str, value: Any, complaint: str) -> None:
    """Controls: the definitions check what the first test relies on."""
    route = guide("HTTPRoute")
    route["metadata"]["name"] = "broken"
    route["spec"]["rules"][0][field] = value
    code, said = apply(cluster, route)
    assert code == 1
    assert complaint in said

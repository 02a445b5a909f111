"""Fixtures that every test may use: a real control plane, a namespace of one's own in it, and kubectl.

All are lazy: a test that does not ask for one does not start anything. With pytest-xdist each worker that needs a
control plane has its own (two processes, about 310 MB); mark tests that share one with `xdist_group("control_plane")`,
and each test that uses `sandbox` with `xdist_group("sandbox")`, so that one worker starts it once (`--dist loadgroup`).
"""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, settings

from plimsoll_api import names
from plimsoll_api.service_series import WANTED_REPLICAS
from plimsoll_cli.sandbox import definitions
from plimsoll_cli.sandbox.control_plane import ControlPlane
from plimsoll_cli.sandbox.kubectl import Kubectl
from plimsoll_cli.sandbox.node_settings import CPU_IMAGE
from plimsoll_cli.sandbox.options import NodeShape, SandboxOptions
from plimsoll_cli.sandbox.sandbox import Sandbox
from plimsoll_runtime import tiny_model, vllm_environment

# The same examples every time, and no verdict on how fast this machine makes them.
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")

SERVERS = ("agent", "bare", "bare_cluster", "cluster", "control_plane", "installed", "sandbox")
"""Session fixtures that are servers, which the tests of a group share."""

REAL_ENGINE_SECONDS = 480
"""vLLM imports torch and makes its kernels ready: 25 to 100 s on two idle cores, much more on busy ones."""


SAMPLE_SECONDS = 60.0
"""A scrape a second, on a machine that may be sixty times too slow."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the real engine goes after all else that uses the sandbox, so that it starts meanwhile; the contract's
    tests, which end it, go last of these."""
    early = [item for item in items if not needs_real_engine(item)]
    late = sorted((item for item in items if needs_real_engine(item)), key=lambda item: "contract" in item.path.parts)
    after = max((at for at, item in enumerate(early, start=1) if "e2e" in item.path.parts), default=0)
    items[:] = [*early[:after], *late, *early[after:]]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """End the servers of a group with its last test: idle ones, until the session ends, cost as much as a test does.

    A later group that asks for one starts it again.
    """
    result = yield
    if nextitem is not None and group_of(nextitem) != group_of(item):
        for name in SERVERS:
            for definition in item.session._fixturemanager._arg2fixturedefs.get(name, ()):
                if definition.scope == "session" and definition.cached_result is not None:
                    definition.finish(item._request)  # type: ignore[attr-defined]
    return result


def group_of(item: pytest.Item) -> str:
    """Its `xdist_group`; empty for a test without."""
    marker = item.get_closest_marker("xdist_group")
    return str(marker.args[0]) if marker is not None else ""


def needs_real_engine(item: pytest.Item) -> bool:
    """Whether a test is marked so."""
    return item.get_closest_marker("vllm") is not None


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd and kube-apiserver, RBAC on, with the definitions of LLMService, PodMonitor and PrometheusRule."""
    with ControlPlane.start(tmp_path_factory.mktemp("control-plane")) as plane:
        known = (definitions.llm_service(), definitions.pod_monitor(), definitions.prometheus_rule())
        plane.kubectl.install_definitions("\n---\n".join(known))
        yield plane


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A fresh namespace with its `default` service account, so that pods can be created in it."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    control_plane.kubectl("create", "namespace", name)
    control_plane.kubectl("create", "serviceaccount", "default", "-n", name)
    yield name
    # No controller runs, so the namespace stays Terminating with all that is in it; a process under test that watches
    # the whole cluster must not meet the services of earlier tests.
    control_plane.kubectl("delete", "llmservices.plimsoll.dev", "--all", "-n", name)
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def kubectl(control_plane: ControlPlane) -> Kubectl:
    """The real kubectl as administrator: `kubectl("get", "pods", "-n", namespace)` returns what it prints."""
    return control_plane.kubectl


@pytest.fixture(scope="session")
def sandbox(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Everything: two nodes with 8 GPUs each, Prometheus, operator and detector, at intervals a test can wait for."""
    options = SandboxOptions(
        name="tests",
        directory=tmp_path_factory.mktemp("sandbox"),
        nodes=(NodeShape(name="gpu-1"), NodeShape(name="gpu-2")),
        cpu_image=any(needs_real_engine(item) for item in request.session.items),
        scrape_interval=1.0,
        detector_interval=2.0,
        detector_arguments=("--window=15s",),
    )
    with Sandbox.start(options) as running:
        yield running


def await_sample(sandbox: Sandbox, promql: str) -> None:
    """Wait until the sandbox's Prometheus answers a query with something."""
    url = f"{sandbox.prometheus_url}/api/v1/query?{urllib.parse.urlencode({'query': promql})}"
    deadline = time.monotonic() + SAMPLE_SECONDS
    while True:
        with urllib.request.urlopen(url, timeout=30) as answer:
            if json.load(answer)["data"]["result"]:
                return
        assert time.monotonic() < deadline, f"no sample of {promql} in {SAMPLE_SECONDS:g} s"
        time.sleep(0.1)


@dataclass(frozen=True)
class RealEngine:
    """A service of the sandbox whose one replica is vLLM itself, its CPU build with a tiny model.

    Args:
        sandbox: where it runs.
        namespace: of the service.
        name: of the service and of the model it serves; `alias` is the model's second name.
        arguments: the engine's, the model first.
    """

    sandbox: Sandbox
    namespace: str
    name: str
    arguments: Sequence[str]

    def await_available(self) -> None:
        """Wait until it serves; a failure shows the end of its log."""
        waited = self.sandbox.kubectl.attempt(
            "wait", "-n", self.namespace, "--for=condition=Available", f"--timeout={REAL_ENGINE_SECONDS}s",
            f"llm/{self.name}", timeout=REAL_ENGINE_SECONDS + 30,
        )  # fmt: skip
        if waited.returncode != 0:
            log = ("logs", f"deployment/{self.name}-engine", "-n", self.namespace, "--tail=25")
            pytest.fail(f"{waited.stderr}{self.sandbox.kubectl.attempt(*log).stdout}")

    def pod(self) -> dict[str, Any]:
        """Its only pod."""
        selected = (f"--selector={names.SERVICE_LABEL}={self.name}", "-n", self.namespace)
        [pod] = self.sandbox.kubectl.json("get", "pods", *selected)["items"]
        return dict(pod)

    def delete(self) -> None:
        """End it now, wherever it stands."""
        self.sandbox.kubectl("delete", "llm", self.name, "-n", self.namespace)
        self.sandbox.kubectl("delete", "deployment,pods", "--all", "-n", self.namespace, "--grace-period=0", "--force")


@pytest.fixture(scope="session")
def real_engine(sandbox: Sandbox) -> RealEngine:
    """The real engine, asked for and not waited for.

    Its arguments are what the operator renders, which a service without replicas shows, but for a second name of the
    model, which a service cannot ask for.
    """
    model = tiny_model.ensure(vllm_environment.ensure())
    namespace, name = "real-engine", "tiny"
    spec = {
        "model": {"uri": f"file://{model}", "servedName": name},
        "engine": {
            "image": f"{CPU_IMAGE}:v0.32.0",
            "maxModelLen": 1024,
            "maxNumSeqs": 16,
            "extraArgs": ["--enforce-eager", "--max-num-queued-reqs=8"],
        },
        "workload": {"inputTokens": {"mean": 200}, "outputTokens": {"mean": 40}, "requestsPerSecond": "1"},
        "objectives": {"ttft": "20s", "tpot": "2s"},
        "rollout": {"drainTimeout": "120s"},
        "scaling": {"mode": "Manual", "minReplicas": 0, "maxReplicas": 1},
        "replicas": 0,
    }
    service = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": name}, "spec": spec}
    kubectl = sandbox.kubectl
    kubectl("create", "namespace", namespace)
    kubectl("apply", "-n", namespace, "-f", "-", stdin=yaml.safe_dump(service))
    kubectl("wait", "--for=create", f"deployment/{name}-engine", "-n", namespace, "--timeout=90s", timeout=120)
    template = kubectl.json("get", "deployment", f"{name}-engine", "-n", namespace)["spec"]["template"]
    [served] = [argument for argument in template["spec"]["containers"][0]["args"] if "--served-model-name" in argument]
    arguments = list(template["spec"]["containers"][0]["args"])
    at = arguments.index(served)
    arguments[at : at + 1] = ["--served-model-name", name, "alias"]
    container = {"name": names.ENGINE_CONTAINER, "args": arguments}
    change = {"spec": {"podTemplate": {"spec": {"containers": [container]}}}}
    kubectl("patch", "llm", name, "-n", namespace, "--type=merge", "-p", json.dumps(change))
    kubectl(
        "wait", f"--for=jsonpath={{.spec.template.spec.containers[0].args[{at}]}}=--served-model-name",
        f"deployment/{name}-engine", "-n", namespace, "--timeout=90s", timeout=120,
    )  # fmt: skip
    # Only once Prometheus has seen none, the first replica is a decision that a dashboard can show.
    await_sample(sandbox, f'{WANTED_REPLICAS}{{{names.SERIES_NAMESPACE}="{namespace}"}} == 0')
    kubectl("scale", f"llm/{name}", "-n", namespace, "--replicas=1")
    return RealEngine(sandbox, namespace, name, tuple(arguments))

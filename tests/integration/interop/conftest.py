"""One cluster with the programs of other projects in it, configured by docs/guides/interop.md."""

from __future__ import annotations

import base64
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from plimsoll_cli.sandbox import binaries, control_plane, processes
from plimsoll_cli.sandbox.addresses import free_port
from plimsoll_cli.sandbox.certificates import KeyPair
from plimsoll_cli.sandbox.fleet import Fleet
from plimsoll_cli.sandbox.neighbours import KEDA
from plimsoll_cli.sandbox.options import NodeShape, SandboxOptions
from plimsoll_cli.sandbox.processes import Component
from plimsoll_cli.sandbox.sandbox import Sandbox

ROOT: Final = Path(__file__).resolve().parents[3]
NAMESPACE: Final = "ml"
"""Where the page's examples live: its query for KEDA names it."""
PATIENCE_SECONDS: Final = 90.0
LOOK_SECONDS: Final = 0.5
"""Pause between two looks: a kubectl takes a tenth of a second of a core that the rest needs."""
REQUEST_TOKENS: Final = 30_000
"""More than any replica here generates for one request within a test: 210 s of a batch of one, at 7 ms a step."""
GENTLE: Final = {"GOMAXPROCS": "1"}
"""Four programs start beside a control plane, on two cores."""

Manifest = dict[str, Any]
Guide = Callable[..., Manifest]
Eventually = Callable[[Callable[[], Any], str], Any]


@pytest.fixture(scope="session")
def eventually() -> Eventually:
    """Wait until a check returns something true, and return that; the failure says what was waited for."""

    def wait(check: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := check()):
            assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:.0f} s: {what}"
            time.sleep(LOOK_SECONDS)
        return found

    return wait


@pytest.fixture(scope="session")
def guide() -> Guide:
    """The one object of a kind, and a name where there are several, in docs/guides/interop.md or examples/hpa.yaml."""
    page = (ROOT / "docs" / "guides" / "interop.md").read_text(encoding="utf-8")
    texts = [*re.findall(r"```yaml\n(.*?)```", page, re.DOTALL), (ROOT / "examples" / "hpa.yaml").read_text("utf-8")]
    documents = [document for text in texts for document in yaml.safe_load_all(text)]

    def find(kind: str, name: str | None = None) -> Manifest:
        [found] = [
            one for one in documents if one["kind"] == kind and name in (None, one.get("metadata", {}).get("name"))
        ]
        copy: Manifest = json.loads(json.dumps(found))
        return copy

    return find


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, keda_definitions: str) -> Iterator[Sandbox]:
    """Eight GPUs, Prometheus, operator and detector; everything at intervals a test can wait for."""
    options = SandboxOptions(
        name="interop",
        nodes=(NodeShape(name="gpu-1"),),
        scrape_interval=1.0,
        detector_interval=1.0,
        detector_arguments=("--window=6s",),
        controller_manager_arguments=(
            "--horizontal-pod-autoscaler-sync-period=1s",
            "--horizontal-pod-autoscaler-downscale-stabilization=2s",
        ),
        directory=tmp_path_factory.mktemp("interop"),
    )
    with Sandbox.start(options) as running:
        running.kubectl.apply(
            yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        )
        # The API server's check of owners knows a new kind after up to 30 s; until then KEDA may not create its HPA.
        running.kubectl.apply(keda_definitions)
        yield running


@pytest.fixture(scope="session")
def keda_definitions() -> str:
    """KEDA's custom resource definitions, from its module."""
    folder = binaries.module_directory(KEDA.path, KEDA.version) / "config" / "crd" / "bases"
    return "\n---\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.yaml")))


@dataclass(frozen=True)
class Neighbours:
    """Starts programs of other projects beside the cluster, and ends them with it.

    Attributes:
        cluster: what they run against.
        fleet: the programs.
    """

    cluster: Sandbox
    fleet: Fleet = field(default_factory=Fleet)

    @property
    def address(self) -> str:
        """Where all of them listen: this cluster's own address, so that two clusters never meet."""
        return self.cluster.plane.layout.block.control_address

    def port(self, usual: int) -> int:
        """The usual port of something, or another one that is free."""
        return free_port(self.address, usual)

    def file(self, name: str, content: str) -> Path:
        """Write one of their files."""
        path = self.cluster.directory / "neighbours" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return path

    def launch(self, name: str, *arguments: str, ready: str, **environment: str) -> None:
        """Start a program without waiting for it.

        Args:
            name: the program.
            arguments: its arguments.
            ready: URL that answers 200 when it is ready.
            environment: variables on top of this process's own.
        """
        layout = self.cluster.plane.layout
        command = (str(binaries.resolve(name)), *arguments)
        component = Component(name, command, layout.log(name), GENTLE | environment)
        self.fleet.launch(component, lambda: control_plane.answers(ready, layout))

    def serving_certificate(self, name: str, namespace: str) -> KeyPair:
        """Certificate and key of a server behind a Service."""
        return self.cluster.plane.authority.server(name, (self.address,), (f"{name}.{namespace}.svc",))

    def aggregate(self, group: str, name: str, namespace: str, port: int) -> None:
        """Have the API server ask a ready program for an API group, under the name of a Service.

        Endpoints cannot be loopback addresses, so the Service stands for an address instead of for pods. A program that
        is not ready yet would hold up everybody's discovery.
        """
        meta = {"name": name, "namespace": namespace}
        service = {"type": "ExternalName", "externalName": self.address}
        authority = base64.b64encode(self.cluster.plane.authority.certificate.read_bytes()).decode()
        api = {
            "group": group,
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {**meta, "port": port},
            "caBundle": authority,
        }
        objects = [
            {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service},
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": f"v1beta1.{group}"},
                "spec": api,
            },
        ]
        self.cluster.kubectl.apply(yaml.safe_dump_all(objects))
        self.cluster.kubectl(
            "wait", "--for=condition=Available", "--timeout=90s", f"apiservice/v1beta1.{group}", timeout=120
        )


@pytest.fixture(scope="session")
def neighbours(cluster: Sandbox) -> Iterator[Neighbours]:
    """Starts programs beside the cluster."""
    started = Neighbours(cluster)
    yield started
    started.fleet.close()


@pytest.fixture(autouse=True)
def show_logs_on_failure(request: pytest.FixtureRequest, neighbours: Neighbours) -> Iterator[None]:
    """When a test failed, print the end of every program's log."""
    failed_before = request.session.testsfailed
    yield
    if request.session.testsfailed > failed_before:
        layout = neighbours.cluster.plane.layout
        for name in (*neighbours.fleet.names, *neighbours.cluster.components):
            print(f"--- end of {name}'s log", processes.log_end(layout.log(name)), sep="\n")


@pytest.fixture(scope="session")
def requests(cluster: Sandbox) -> Callable[[str], list[Manifest]]:
    """Finished requests to the API server whose audit entry holds a text."""

    def find(text: str) -> list[Manifest]:
        *whole, _unfinished = cluster.audit_log.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in whole if text in line]

    return find


@pytest.fixture(scope="session")
def crowd(cluster: Sandbox) -> Callable[..., AbstractContextManager[None]]:
    """Keep a number of long requests with a service: `with crowd("chat", 12): ...`; at the end all clients leave."""

    @contextmanager
    def keep(name: str, clients: int) -> Iterator[None]:
        front = cluster.kubectl.json("get", "service", name, "-n", NAMESPACE)["spec"]
        address = (front["clusterIP"], front["ports"][0]["port"])
        served = cluster.kubectl.json("get", "llm", name, "-n", NAMESPACE)["spec"]["model"].get("servedName", name)
        body = json.dumps({"model": served, "prompt": "Count.", "max_tokens": REQUEST_TOKENS, "ignore_eos": True})
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {name}\r\nContent-Type: application/json\r\n"
        message = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        with ExitStack() as connections:
            for _ in range(clients):
                connections.enter_context(socket.create_connection(address, timeout=30)).sendall(message)
            yield

    return keep

"""A real API server, a real Prometheus that scrapes vLLM-shaped series, and the detector as a process."""

from __future__ import annotations

import asyncio
import http.server
import json
import re
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
import yaml

from plimsoll_api import names, series
from plimsoll_cli.sandbox import binaries, processes
from plimsoll_cli.sandbox.addresses import free_port
from plimsoll_cli.sandbox.control_plane import ControlPlane
from plimsoll_cli.sandbox.processes import Component, Process
from plimsoll_kube.client import KubeClient
from plimsoll_kube.resources import LLM_SERVICE, POD, Manifest

T = TypeVar("T")
OPERATOR: Final = names.FieldManager.OPERATOR
OPERATOR_SEED: Final = names.FieldManager.OPERATOR_SEED

SCRAPE_SECONDS = 1
WINDOW = "6s"
INTERVAL = "500ms"
PATIENCE_SECONDS = 90.0
"""What takes ten seconds on an idle machine, on one that is nine times too slow."""


def eventually(check: Callable[[], Any], what: str, explain: Callable[[], str] = lambda: "") -> Any:
    """Wait until a check returns something true, and return that; the failure says what was waited for."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:.0f} s: {what}\n{explain()}"
        time.sleep(0.1)
    return found


@dataclass
class Engine:
    """What one replica's /metrics says.

    Attributes:
        rate: requests per second that it serves.
        running: requests in its batch.
        waiting: requests in its queue.
        text: replaces the page: `nan` values, another engine, nothing.
        age: seconds by which the samples' own timestamps lie back; None has them stamped by Prometheus.
        up: whether it answers.
    """

    rate: float = 1.0
    running: float = 5.0
    waiting: float = 0.0
    nan: bool = False
    age: float | None = None
    up: bool = True
    served: float = 0.0
    at: float = field(default_factory=time.monotonic)

    def page(self) -> str:
        """The series, in Prometheus' text format."""
        now = time.monotonic()
        self.served += self.rate * (now - self.at)
        self.at = now
        done, labels = self.served, '{model_name="chat",engine="0"'
        reason = f'{labels},finished_reason="stop"}}'
        lines = [
            f"{series.RUNNING}{labels}}} {'NaN' if self.nan else self.running}",
            f"{series.WAITING}{labels}}} {self.waiting}",
            f'{series.WAITING_BY_REASON}{labels},reason="capacity"}} {self.waiting}',
            f"{series.KV_CACHE_USAGE}{labels}}} 0.4",
            f"{series.PROMPT_TOKENS}{labels}}} {done * 1000}",
            f"{series.GENERATION_TOKENS}{labels}}} {done * 250}",
            f"{series.PREEMPTIONS}{labels}}} 0",
            f"{series.REQUEST_SUCCESS}{reason} {done}",
            f"{series.count(series.ITERATION_TOKENS)}{labels}}} {now * 20}",
        ]
        for name, value in (
            (series.TIME_TO_FIRST_TOKEN, 0.3),
            (series.INTER_TOKEN_LATENCY, 0.03),
            (series.TIME_PER_OUTPUT_TOKEN, 0.03),
            (series.E2E_LATENCY, 8.0),
            (series.QUEUE_TIME, 0.1),
            (series.REQUEST_PROMPT_TOKENS, 1000.0),
            (series.REQUEST_GENERATION_TOKENS, 250.0),
        ):
            below = [f'{series.bucket(name)}{labels},le="{edge}"}} {done}' for edge in (value, 2 * value, "+Inf")]
            lines += [
                *below,
                f"{series.total(name)}{labels}}} {done * value}",
                f"{series.count(name)}{labels}}} {done}",
            ]
        stamp = "" if self.age is None else f" {int((time.time() - self.age) * 1000)}"
        return "".join(f"{line}{stamp}\n" for line in lines)


@dataclass
class Exposition:
    """Serves the pages of all engines on one port, by path /NAMESPACE/SERVICE/POD."""

    engines: dict[tuple[str, str, str], Engine] = field(default_factory=dict)
    port: int = 0

    def start(self) -> http.server.ThreadingHTTPServer:
        """Start serving."""
        engines = self.engines

        class Page(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                namespace, service, pod = self.path.strip("/").split("/")
                engine = engines.get((namespace, service, pod))
                body = engine.page().encode() if engine and engine.up else b""
                self.send_response(200 if body else 503)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self.port = server.server_port
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return server

    def targets(self) -> list[dict[str, Any]]:
        """The targets as Prometheus' file discovery reads them."""
        return [
            {
                "targets": [f"127.0.0.1:{self.port}"],
                "labels": {
                    "__metrics_path__": f"/{namespace}/{service}/{pod}",
                    "instance": pod,
                    names.SERIES_NAMESPACE: namespace,
                    names.SERIES_SERVICE: service,
                    names.SERIES_POD: pod,
                },
            }
            for namespace, service, pod in self.engines
        ]


@dataclass
class PrometheusServer:
    """A real Prometheus with file discovery."""

    folder: Path
    address: str
    process: Process | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self.address}"

    def targets(self, targets: list[dict[str, Any]]) -> None:
        """What to scrape."""
        new = self.folder / "targets.new"
        new.write_text(json.dumps(targets))
        new.rename(self.folder / "targets.json")

    def start(self) -> None:
        """Start it and wait until it is ready."""
        config = {
            "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "scrape_timeout": f"{SCRAPE_SECONDS}s"},
            "scrape_configs": [
                {
                    "job_name": "engines",
                    "honor_timestamps": True,
                    "file_sd_configs": [{"files": [str(self.folder / "targets.json")], "refresh_interval": "1s"}],
                }
            ],
        }
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        arguments = (
            str(binaries.resolve("prometheus")),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
        )
        self.process = processes.start(Component("prometheus", arguments, self.folder / "prometheus.log"))
        processes.wait_ready(self.process, self._ready, 60.0)

    def stop(self) -> None:
        """Stop it."""
        if self.process is not None:
            self.process.stop()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@dataclass
class DetectorProcess:
    """A running detector."""

    process: Process
    log: Path

    def entries(self) -> list[dict[str, Any]]:
        """What it has logged; the last line may still be being written."""
        return [json.loads(line) for line in self.log.read_text().split("\n")[:-1] if line.startswith("{")]

    def port(self, what: str) -> int | None:
        """The port it said it listens on."""
        found = [int(entry["port"]) for entry in self.entries() if entry.get("what") == what]
        return found[-1] if found else None

    def metric(self, name: str) -> float:
        """One of its own metrics, 0 when there is none; an answer that is late is waited for, it is not a 0."""
        page = eventually(self._metrics, "the detector's metrics", self.end_of_log)
        found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.M)
        return float(found.group(1)) if found else 0.0

    def _metrics(self) -> str:
        """All of its own metrics; empty when it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port('metrics')}/metrics", timeout=10) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    @property
    def ticks(self) -> float:
        """Ticks it has made."""
        return self.metric("plimsoll_detector_tick_seconds_count")

    def wait_ticks(self, count: int) -> None:
        """Wait for so many more ticks."""
        before = self.ticks
        eventually(lambda: self.ticks >= before + count, f"{count} ticks", self.end_of_log)

    def end_of_log(self) -> str:
        """The last of what it logged."""
        return processes.log_end(self.log)


@dataclass
class Cluster:
    """The API server as administrator, called from synchronous tests."""

    runner: asyncio.Runner
    api: KubeClient

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something with the API server."""
        return self.runner.run(work)

    async def apply(self, manifest: Manifest, manager: str, subresource: str = "") -> None:
        """Server-side apply of a part of an object."""
        await self.api.apply(manifest, field_manager=manager, subresource=subresource)


@dataclass
class Service:
    """One LLMService under test, with its pods and their engines."""

    cluster: Cluster
    exposition: Exposition
    prometheus: PrometheusServer
    namespace: str
    name: str = "chat"
    pods: list[str] = field(default_factory=list)

    def create(self, replicas: int, says: Mapping[str, Any] | None = None, **scaling: Any) -> Service:
        """Create the object as a person and the operator would, and ready pods for it.

        `says` is what the engines say from their first scrape on, which may come before this returns.
        """
        self.pods = [f"{self.name}-{index}" for index in range(replicas)]
        for pod in self.pods:
            self.exposition.engines[self.namespace, self.name, pod] = Engine(**(says or {}))
        self.prometheus.targets(self.exposition.targets())
        self.cluster.run(self._create(replicas, scaling))
        return self

    async def _create(self, replicas: int, scaling: dict[str, Any]) -> None:
        spec = {
            "model": {"uri": "hf://org/model"},
            "workload": {"inputTokens": {"mean": 1000}, "outputTokens": {"mean": 250}},
            "scaling": {"minReplicas": 1, "maxReplicas": 8, "scaleInStabilization": "2s", **scaling},
        }
        await asyncio.gather(*(self._create_pod(pod) for pod in self.pods))
        part = partial(LLM_SERVICE.manifest, self.namespace, self.name)
        await self.cluster.apply(part(spec=spec), "a-person")
        await self.cluster.apply(part(status={"recommendation": RECOMMENDATION}), OPERATOR.value, "status")
        await self.cluster.apply(part(spec={"replicas": replicas}), OPERATOR_SEED.value)

    async def _create_pod(self, name: str) -> None:
        """A ready pod."""
        metadata = {"labels": {names.SERVICE_LABEL: self.name}}
        spec = {"containers": [{"name": "engine", "image": "engine"}]}
        await self.cluster.api.create(POD.manifest(self.namespace, name, metadata=metadata, spec=spec))
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        patch = {"status": {"phase": "Running", "conditions": [ready]}}
        await self.cluster.api.patch(POD, self.namespace, name, patch, subresource="status")

    @property
    def engines(self) -> list[Engine]:
        """The engines of its pods."""
        return [self.exposition.engines[self.namespace, self.name, pod] for pod in self.pods]

    def engines_say(self, **changes: Any) -> None:
        """Change what every engine says."""
        for engine in self.engines:
            for name, value in changes.items():
                setattr(engine, name, value)

    def get(self) -> Manifest:
        """The object as it is."""
        found = self.cluster.run(self.cluster.api.get(LLM_SERVICE, self.namespace, self.name))
        assert found is not None
        return found

    @property
    def replicas(self) -> int:
        """Replicas asked for."""
        return int(self.get()["spec"]["replicas"])

    def wait_replicas(self, replicas: int, detector: DetectorProcess) -> None:
        """Wait until so many are asked for."""
        explain = lambda: f"{self.get().get('status')}\n{detector.end_of_log()}"  # noqa: E731
        eventually(lambda: self.replicas == replicas, f"{replicas} replicas", explain)

    def condition(self, kind: str) -> dict[str, Any]:
        """One condition; empty when it is not there."""
        conditions = self.get().get("status", {}).get("conditions", [])
        found: dict[str, Any] = next((one for one in conditions if one["type"] == kind), {})
        return found

    def wait_condition(self, kind: str, status: str, reason: str, detector: DetectorProcess) -> dict[str, Any]:
        """Wait for a condition to say something."""

        def says() -> dict[str, Any] | None:
            found = self.condition(kind)
            return found if (found.get("status"), found.get("reason")) == (status, reason) else None

        found: dict[str, Any] = eventually(
            says,
            f"{self.name}: {kind}={status} {reason}",
            lambda: f"{self.get().get('status')}\n{detector.end_of_log()}",
        )
        return found

    def wait_decision(self, reason: str, detector: DetectorProcess) -> Manifest:
        """Wait for a decision, and return the object that has it: all that one status says is of one tick."""

        def decided() -> Manifest | None:
            found = self.get()
            return found if found.get("status", {}).get("decision", {}).get("reason") == reason else None

        explain = lambda: f"{self.get().get('status')}\n{detector.end_of_log()}"  # noqa: E731
        found: Manifest = eventually(decided, f"{self.name}: decision {reason}", explain)
        return found

    def scale_as(self, manager: str, replicas: int) -> None:
        """Write /scale as somebody else."""
        self.cluster.run(
            self.cluster.api.scale(LLM_SERVICE, self.namespace, self.name, replicas, field_manager=manager)
        )


RECOMMENDATION = {
    "config": {
        "accelerator": "NVIDIA-L4",
        "tensorParallelSize": 1,
        "pipelineParallelSize": 1,
        "maxNumSeqs": 64,
        "maxNumBatchedTokens": 2048,
        "gpuMemoryUtilization": "0.92",
        "maxModelLen": 8192,
        "kvCacheDtype": "auto",
        "replicas": 1,
    },
    "ledger": {
        "totalGib": "22.5",
        "weightsGib": "15",
        "activationPeakGib": "1.2",
        "nonTorchGib": "0.1",
        "cudaGraphsGib": "0.3",
        "kvCacheGib": "4.1",
        "kvCacheTokens": 33000,
    },
    "predicted": {
        "ttft": "300ms",
        "tpot": "60ms",
        "e2e": "15s",
        "loadLineRequestsPerSecond": "2",
        "loadLineConcurrency": "20",
        "outputTokensPerSecond": "500",
    },
    "confidence": "High",
    "inputHash": "abc",
    "appliedGeneration": 1,
}


@pytest.fixture(scope="session")
def identities(control_plane: ControlPlane) -> ControlPlane:
    """The control plane with the product's own service accounts and roles."""
    for entry in sorted(files("plimsoll_cli").joinpath("manifests").iterdir(), key=lambda entry: entry.name):
        control_plane.kubectl.apply(entry.read_text(encoding="utf-8"))
    return control_plane


@pytest.fixture
def exposition() -> Iterator[Exposition]:
    """The engines' /metrics."""
    pages = Exposition()
    server = pages.start()
    yield pages
    server.shutdown()
    server.server_close()


@pytest.fixture
def prometheus(identities: ControlPlane, tmp_path: Path) -> Iterator[PrometheusServer]:
    """A real Prometheus, started; on the control plane's address, which nobody else takes a port of."""
    folder = tmp_path / "prometheus"
    folder.mkdir()
    address = identities.layout.block.control_address
    server = PrometheusServer(folder, f"{address}:{free_port(address, 19090)}")
    server.targets([])
    server.start()
    yield server
    server.stop()


@pytest.fixture
def cluster(identities: ControlPlane) -> Iterator[Cluster]:
    """The API server as administrator."""
    with asyncio.Runner() as runner:
        api = runner.run(KubeClient.connect(identities.admin_kubeconfig))
        yield Cluster(runner, api)
        runner.run(api.close())


@pytest.fixture
def new_service(
    cluster: Cluster, exposition: Exposition, prometheus: PrometheusServer, namespace: str
) -> Iterator[Callable[[str], Service]]:
    """`new_service("chat")`, not created yet; gone afterwards, so that the next test's detector does not see it."""
    made: list[Service] = []

    def make(name: str) -> Service:
        made.append(Service(cluster, exposition, prometheus, namespace, name))
        return made[-1]

    yield make
    for one in made:
        cluster.run(cluster.api.delete(LLM_SERVICE, namespace, one.name))


@pytest.fixture
def service(new_service: Callable[[str], Service]) -> Service:
    """An LLMService `chat`, not created yet."""
    return new_service("chat")


@pytest.fixture
def detector(
    identities: ControlPlane, prometheus: PrometheusServer, tmp_path: Path
) -> Iterator[Callable[..., DetectorProcess]]:
    """Start a detector under its own service account: `detector("--log-level=DEBUG")`."""
    kubeconfig = identities.kubeconfig_for("plimsoll-system", "plimsoll-detector")
    started: list[DetectorProcess] = []

    def start(*more: str) -> DetectorProcess:
        log = tmp_path / f"detector-{len(started)}.log"
        arguments = (
            sys.executable,
            "-m",
            "plimsoll_detector",
            f"--kubeconfig={kubeconfig}",
            f"--prometheus-url={prometheus.url}",
            f"--interval={INTERVAL}",
            f"--window={WINDOW}",
            "--health-port=0",
            "--metrics-port=0",
            *more,
        )
        environment = {"PLIMSOLL_BIND_ADDRESS": "127.0.0.1"}
        component = Component("detector", arguments, log, environment, stop_seconds=PATIENCE_SECONDS)
        running = DetectorProcess(processes.start(component), log)
        started.append(running)
        eventually(lambda: running.port("metrics"), "the detector listens", running.end_of_log)
        return running

    yield start
    for one in started:
        one.process.stop()

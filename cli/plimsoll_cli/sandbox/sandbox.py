"""A whole cluster on this machine: control plane, nodes, Prometheus, operator and detector."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from plimsoll_cli.chart import sandbox_release
from plimsoll_cli.chart.helm import Helm
from plimsoll_cli.errors import CommandError
from plimsoll_cli.monitoring.files import rules_object
from plimsoll_cli.sandbox import binaries, control_plane, definitions, guard, health, node_settings
from plimsoll_cli.sandbox.addresses import reserve_block
from plimsoll_cli.sandbox.control_plane import ControlPlane
from plimsoll_cli.sandbox.fleet import Fleet, Standing
from plimsoll_cli.sandbox.health import DETECTOR, NODE_AGENT, OPERATOR, PROMETHEUS
from plimsoll_cli.sandbox.kubectl import Kubectl
from plimsoll_cli.sandbox.monitor_sync import MonitorSync, Source
from plimsoll_cli.sandbox.options import SandboxOptions
from plimsoll_cli.sandbox.processes import Component

MARKER: Final = "PLIMSOLL_SANDBOX"
"""Environment variable of everything that a sandbox starts; its value is the sandbox's folder."""
BIND_VARIABLE: Final = "PLIMSOLL_BIND_ADDRESS"
"""Address that operator and detector bind; without it they would listen on every interface of this machine."""
STATE_FILE: Final = "state.json"
LOCK_FILE: Final = "lock"
GUARD_LOCK_FILE: Final = "guard-lock"
SANDBOX_NAMESPACE: Final = "plimsoll-sandbox"
SYSTEM_NAMESPACE: Final = "plimsoll-system"
BINARIES: Final = (*control_plane.ORDER, "kubectl", "prometheus")
"""Programs a whole sandbox needs."""

_PROMETHEUS_RETENTION: Final = "6h"
"""Longer than a sandbox is looked at, short enough for a laptop's disk."""
_NAMESPACE_MANIFEST: Final = "00-namespace.yaml"
_RULES_NAME: Final = "plimsoll-rules"
"""As the chart names it."""
_NODE_AGENT_STOP_SECONDS: Final = 20.0

Announce = Callable[[str, float], None]
"""Told the name of a component that became ready, and the seconds since the start."""


class Sandbox:
    """A running sandbox; use it as a context manager. Everything ends with the process that started it."""

    def __init__(self, options: SandboxOptions, plane: ControlPlane, fleet: Fleet, lock: IO[str]) -> None:
        self.options = options
        self.plane = plane
        self.directory = plane.layout.root
        self._fleet = fleet
        self._lock = lock
        self._block: Any = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._monitors: MonitorSync | None = None
        self._ready = False
        self._started = time.time()

    @classmethod
    def start(cls, options: SandboxOptions | None = None, announce: Announce = lambda *_: None) -> Sandbox:
        """Start everything and wait until it is ready.

        Raises:
            CommandError: one of this name runs already, a binary is missing, or a component did not start.
        """
        options = options or SandboxOptions()
        began = time.monotonic()

        def tell(name: str) -> None:
            announce(name, time.monotonic() - began)

        directory = options.state_directory
        lock = take_lock(directory)
        fleet = Fleet()
        reserved = reserve_block()
        watchdog = start_guard(directory.resolve())
        try:
            for stale in (STATE_FILE, PROMETHEUS, "node-agent"):
                _remove(directory / stale)
            further = {control_plane.CONTROLLER_MANAGER: options.controller_manager_arguments}
            plane = ControlPlane.start(directory, control_plane.ORDER, reserved.block, fleet, tell, further)
            sandbox = cls(options, plane, fleet, lock)
            sandbox._guard, sandbox._block = watchdog, reserved
            fleet.changed = sandbox._write_state
            sandbox._start_rest(tell)
        except BaseException:
            fleet.close()
            guard.sweep(marker(directory.resolve()).encode())
            watchdog.kill()
            watchdog.wait()
            reserved.close()
            lock.close()
            raise
        return sandbox

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig that may do everything."""
        return self.plane.admin_kubeconfig

    @property
    def kubectl(self) -> Kubectl:
        """The real kubectl as administrator."""
        return self.plane.kubectl

    @property
    def prometheus_url(self) -> str:
        """Address of Prometheus."""
        return health.prometheus_url(self.plane.layout)

    @property
    def audit_log(self) -> Path:
        """The API server's audit log: JSON lines, one per request."""
        return self.plane.audit_log

    @property
    def components(self) -> tuple[str, ...]:
        """Names of all components, in the order of their start."""
        return self._fleet.names

    def log(self, component: str) -> Path:
        """A component's log file."""
        return self._fleet.member(component).component.log

    def standings(self) -> tuple[Standing, ...]:
        """How each component is doing now."""
        return self._fleet.standings()

    def stop(self, component: str) -> None:
        """Stop a component; it stays stopped until `start_component`."""
        self._fleet.stop(component)

    def kill(self, component: str) -> None:
        """End a component as a crash would; it is started again after half a second."""
        self._fleet.kill(component)

    def start_component(self, component: str) -> None:
        """Start a stopped component and wait until it is ready."""
        self._fleet.start(component)

    def restart(self, component: str) -> None:
        """Stop a component and start it again."""
        self.stop(component)
        self.start_component(component)

    def close(self) -> None:
        """Stop everything, and kill what is left. Idempotent."""
        if self._monitors is not None:
            self._monitors.stop()
        self._fleet.changed = lambda: None
        self._fleet.close()
        guard.sweep(marker(self.directory).encode())
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
        if self._block is not None:
            self._block.close()
        for used_up in (STATE_FILE, control_plane.ETCD):  # logs stay
            _remove(self.directory / used_up)
        self._lock.close()

    def _start_rest(self, tell: Callable[[str], None]) -> None:
        """What comes after the API server: definitions and roles, then everything else at once."""
        self._install()
        launches = {PROMETHEUS: self._launch_prometheus, NODE_AGENT: self._launch_node_agent}
        if not self.options.helm:
            launches |= {OPERATOR: self._launch_operator, DETECTOR: self._launch_detector}
        for name, launch in launches.items():
            if name not in self.options.without:
                launch()
        self._start_release(tell)
        self._fleet.await_ready([n for n in self._fleet.names if n not in control_plane.ORDER[:2]], tell)
        # Without it the first `kubectl run` after the start would be refused.
        self.kubectl("wait", "--for=create", "serviceaccount/default", "-n", "default", "--timeout=30s")
        if self._monitors is not None:
            self._monitors.start()
        self._fleet.watch()
        self._ready = True
        self._write_state()

    def _install(self) -> None:
        """Apply definitions, roles and identities; with helm, only those that the chart does not bring."""
        own = [] if self.options.helm else [definitions.llm_service()]
        crds = "\n---\n".join([*own, definitions.pod_monitor(), definitions.prometheus_rule()])
        rest = "\n---\n".join(_manifests(only_namespace=self.options.helm))
        self.kubectl.apply(f"{crds}\n---\n{rest}")
        self.kubectl.await_definitions(crds)
        if not self.options.helm:
            self.kubectl.apply(rules_object(_RULES_NAME, SYSTEM_NAMESPACE))

    @property
    def helm(self) -> Helm:
        """The real helm as administrator."""
        return Helm(binaries.resolve("helm"), self.directory / "helm", self.kubeconfig)

    def _start_release(self, tell: Callable[[str], None]) -> None:
        """With helm: install the chart and wait for its pods, unless both are left out."""
        wanted = [name for name in sandbox_release.COMPONENTS if name not in self.options.without]
        if not self.options.helm or not wanted:
            return
        sandbox_release.install(self.helm, self.options, self.prometheus_url)
        self.kubectl.await_definitions(definitions.llm_service())
        for name in wanted if NODE_AGENT not in self.options.without else ():
            sandbox_release.await_ready(self.kubectl, name)
            tell(f"{name} (pod)")

    def _launch(self, name: str, *arguments: str, **settings: Any) -> None:
        """Start a component that carries the sandbox's marker."""
        layout = self.plane.layout
        environment = {MARKER: str(self.directory), BIND_VARIABLE: layout.block.control_address}
        component = Component(name, arguments, layout.log(name), environment, **settings)
        self._fleet.launch(component, lambda: health.ready(name, layout))

    def _launch_prometheus(self) -> None:
        """Prometheus under its own service account, following the PodMonitors."""
        layout, url = self.plane.layout, health.prometheus_url(self.plane.layout)
        kubeconfig = self.plane.kubeconfig_for(SANDBOX_NAMESPACE, "prometheus")
        config = layout.root / "prometheus.yaml"
        self._monitors = MonitorSync(
            source=Source(self.plane.url, self.plane.authority.certificate, _token(kubeconfig)),
            config=config,
            prometheus_url=url,
            kubeconfig=kubeconfig,
            scrape_interval=seconds(self.options.scrape_interval),
            own_targets=self._own_targets,
        )
        self._monitors.write_first()
        self._launch(
            PROMETHEUS,
            str(binaries.resolve("prometheus")),
            f"--config.file={config}",
            f"--storage.tsdb.path={layout.root / PROMETHEUS}",
            f"--storage.tsdb.retention.time={_PROMETHEUS_RETENTION}",
            f"--web.listen-address={url.removeprefix('http://')}",
            "--web.enable-lifecycle",
            "--log.level=warn",
        )

    def _launch_node_agent(self) -> None:
        """The kubelet of all nodes, with a certificate that the API server trusts."""
        layout, options, mark = self.plane.layout, self.options, marker(self.directory)
        draft = node_settings.agent_config(layout, options, None, os.getpid(), mark)
        addresses = tuple(draft.node_address(node.name) for node in draft.nodes)
        serving = self.plane.authority.server("kubelet", addresses)
        config = draft.model_copy(update={"kubelet_certificate": serving.certificate, "kubelet_key": serving.key})
        path = health.node_settings(layout)
        path.write_text(config.model_dump_json(indent=2), encoding="utf-8")
        kubeconfig = self.plane.kubeconfig_for(SANDBOX_NAMESPACE, NODE_AGENT)
        module = (sys.executable, "-m", "plimsoll_cli.sandbox.node")
        self._launch(
            NODE_AGENT,
            *module,
            f"--kubeconfig={kubeconfig}",
            f"--config={path}",
            stop_seconds=_NODE_AGENT_STOP_SECONDS,
        )

    def _launch_operator(self) -> None:
        """The operator under its own service account; no more than its roles allow."""
        kubeconfig = self.plane.kubeconfig_for(SYSTEM_NAMESPACE, "plimsoll-operator")
        for name in replica_names(OPERATOR, self.options.operators):
            self._launch(
                name,
                *(sys.executable, "-m", "plimsoll_operator"),
                f"--kubeconfig={kubeconfig}",
                f"--scrape-interval={seconds(self.options.scrape_interval)}",
                "--health-port=0",
                "--metrics-port=0",
                *self.options.operator_arguments,
            )

    def _launch_detector(self) -> None:
        """The detector under its own service account; no more than its roles allow."""
        kubeconfig = self.plane.kubeconfig_for(SYSTEM_NAMESPACE, "plimsoll-detector")
        for name in replica_names(DETECTOR, self.options.detectors):
            self._launch(
                name,
                *(sys.executable, "-m", "plimsoll_detector"),
                f"--kubeconfig={kubeconfig}",
                f"--prometheus-url={self.prometheus_url}",
                f"--interval={seconds(self.options.detector_interval)}",
                "--health-port=0",
                "--metrics-port=0",
                *self.options.detector_arguments,
            )

    def _own_targets(self) -> dict[str, list[str]]:
        """Metrics ports of operator and detector, which are not pods here."""
        targets: dict[str, list[str]] = {}
        address = self.plane.layout.block.control_address
        for name in self._fleet.names:
            if name.startswith((OPERATOR, DETECTOR)) and (port := health.logged_port(self.log(name), "metrics")):
                targets.setdefault(f"plimsoll-{name.split('-')[0]}", []).append(f"{address}:{port}")
        return targets

    def _write_state(self) -> None:
        """Tell other processes what runs where."""
        pids, crashes = self._fleet.pids(), self._fleet.crashes()
        content = {
            "name": self.options.name,
            "pid": os.getpid(),
            "started": self._started,
            "ready": self._ready,
            "kubeconfig": str(self.kubeconfig),
            "apiServer": self.plane.url,
            "prometheus": self.prometheus_url,
            "auditLog": str(self.audit_log),
            "secondOctet": self.plane.layout.block.second_octet,
            "ports": asdict(self.plane.layout.ports),
            "options": self.options.as_json(),
            "components": [
                {"name": name, "pid": pids[name], "crashes": crashes[name], "log": str(self.log(name))}
                for name in self._fleet.names
            ],
        }
        partial = self.directory / f".{STATE_FILE}"
        partial.write_text(json.dumps(content, indent=2), encoding="utf-8")
        partial.rename(self.directory / STATE_FILE)


def marker(directory: Path) -> str:
    """The environment entry that everything started by the sandbox in `directory` carries."""
    return f"{MARKER}={directory}"


def seconds(value: float) -> str:
    """A duration as Kubernetes, Prometheus and our own flags write it.

    >>> seconds(5.0)
    '5s'
    """
    return f"{value:g}s"


def replica_names(name: str, count: int) -> list[str]:
    """Component names of one or more processes of a kind.

    >>> replica_names("operator", 2)
    ['operator', 'operator-2']
    """
    return [name if number == 1 else f"{name}-{number}" for number in range(1, count + 1)]


def take_lock(directory: Path) -> IO[str]:
    """Be the only one that runs a sandbox in this folder, until the file is closed or this process ends.

    Raises:
        CommandError: another process has it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    file = (directory / LOCK_FILE).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise CommandError(
            f"sandbox {directory.name} runs already: `plimsoll sandbox down --name {directory.name}` ends it, "
            "another --name starts one beside it"
        ) from None
    return file


def start_guard(directory: Path) -> subprocess.Popen[bytes]:
    """Start the process that cleans up when this one is killed, once that of a sandbox killed before it has done so.

    It would take what starts now for what was left over. Each keeps its file locked for as long as it lives.
    """
    arguments = [sys.executable, "-I", "-S", str(Path(guard.__file__)), str(os.getpid()), marker(directory)]
    environment = {name: value for name, value in os.environ.items() if name != MARKER}
    with (directory / GUARD_LOCK_FILE).open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=environment,
            cwd="/",
            pass_fds=(lock.fileno(),),
        )


def log_to(path: Path) -> None:
    """Write what the sandbox itself has to say to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.getLogger("plimsoll.sandbox").addHandler(handler)
    logging.getLogger("plimsoll.sandbox").setLevel(logging.INFO)


def _manifests(*, only_namespace: bool) -> list[str]:
    """Namespaces, identities and roles: the product's (or, of those, only its namespace), then the sandbox's own."""
    product = sorted(files("plimsoll_cli").joinpath("manifests").iterdir(), key=lambda entry: entry.name)
    product = [entry for entry in product if not only_namespace or entry.name == _NAMESPACE_MANIFEST]
    own = files("plimsoll_cli").joinpath("sandbox", "manifests", "sandbox.yaml")
    return [entry.read_text(encoding="utf-8") for entry in (*product, own) if entry.name.endswith(".yaml")]


def _token(kubeconfig: Path) -> str:
    """The token in a kubeconfig written by this package."""
    import yaml

    token: str = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))["users"][0]["user"]["token"]
    return token


def _remove(path: Path) -> None:
    """Remove a file or a folder; absent is fine."""
    import shutil

    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

"""The real helm on the chart, and what it renders."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from plimsoll_cli.chart.helm import Helm, told
from plimsoll_cli.chart.location import NAMESPACE, RELEASE, chart_directory
from plimsoll_cli.sandbox import binaries, definitions
from plimsoll_cli.sandbox.control_plane import ControlPlane
from plimsoll_cli.sandbox.options import NodeShape, SandboxOptions
from plimsoll_cli.sandbox.sandbox import Sandbox

Manifest = dict[str, Any]
MONITORING = ("PodMonitor", "ServiceMonitor", "PrometheusRule")


@pytest.fixture(scope="session")
def chart() -> Path:
    """The chart's folder."""
    return chart_directory()


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The real helm, for what needs no cluster."""
    return Helm(binaries.resolve("helm"), tmp_path_factory.mktemp("helm"))


@dataclass(frozen=True)
class Render:
    """`helm template` of the chart."""

    helm: Helm
    chart: Path

    def attempt(
        self, values: Mapping[str, Any], *, kubernetes: str = "1.36.0", monitoring: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Render, whatever comes of it."""
        apis = [f"--api-versions=monitoring.coreos.com/v1/{kind}" for kind in MONITORING if monitoring]
        return self.helm.attempt(
            "template", RELEASE, str(self.chart), f"--namespace={NAMESPACE}", f"--kube-version={kubernetes}", *apis,
            values=values,
        )  # fmt: skip

    def __call__(
        self, values: Mapping[str, Any] | None = None, *, kubernetes: str = "1.36.0", monitoring: bool = True
    ) -> list[Manifest]:
        """The objects that the chart makes."""
        done = self.attempt(values or {}, kubernetes=kubernetes, monitoring=monitoring)
        assert done.returncode == 0, told(done)
        return [document for document in yaml.safe_load_all(done.stdout) if document]


@pytest.fixture(scope="session")
def render(helm: Helm, chart: Path) -> Render:
    """`helm template` of the chart."""
    return Render(helm, chart)


@dataclass(frozen=True)
class Cluster:
    """An API server without any definition of ours, and helm as its administrator."""

    plane: ControlPlane
    helm: Helm
    chart: Path

    def release(self, *arguments: str, values: Mapping[str, Any] | None = None, chart: Path | None = None) -> Manifest:
        """Install or upgrade the release; what helm says of it."""
        done = self.helm(
            "upgrade",
            "--install",
            RELEASE,
            str(chart or self.chart),
            f"--namespace={NAMESPACE}",
            "--create-namespace",
            "-o=json",
            *arguments,
            values=values or {},
        )
        return dict(json.loads(done))

    def uninstall(self) -> None:
        """Uninstall the release."""
        self.helm("uninstall", RELEASE, f"--namespace={NAMESPACE}")


@pytest.fixture(scope="session")
def bare_cluster(tmp_path_factory: pytest.TempPathFactory, helm: Helm, chart: Path) -> Iterator[Cluster]:
    """etcd and kube-apiserver, with PodMonitors but without LLMServices: what the chart meets."""
    with ControlPlane.start(tmp_path_factory.mktemp("bare")) as plane:
        plane.kubectl.install_definitions(definitions.pod_monitor())
        yield Cluster(plane, Helm(helm.program, helm.home, plane.admin_kubeconfig), chart)


@pytest.fixture
def older_chart(chart: Path, tmp_path: Path) -> Path:
    """A version before this one: a field fewer in the definition, no PodDisruptionBudgets."""
    folder = tmp_path / "plimsoll"
    shutil.copytree(chart, folder)  # links become files
    description = folder / "Chart.yaml"
    about = yaml.safe_load(description.read_text(encoding="utf-8"))
    description.write_text(yaml.safe_dump({**about, "version": "0.0.9"}), encoding="utf-8")
    (folder / "templates" / "availability.yaml").unlink()
    [path] = (folder / "files" / "crds").iterdir()
    definition = yaml.safe_load(path.read_text(encoding="utf-8"))
    spec = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del spec["properties"]["rollout"]
    path.write_text(yaml.safe_dump(definition), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox whose operator and detector are pods of the chart."""
    options = SandboxOptions(
        name="chart",
        helm=True,
        nodes=(NodeShape(name="gpu-1"),),
        scrape_interval=1.0,
        detector_interval=1.0,
        directory=tmp_path_factory.mktemp("chart-sandbox"),
    )
    with Sandbox.start(options) as running:
        yield running

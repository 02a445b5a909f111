"""Fixtures that every test may use: a real control plane, a namespace of one's own in it, and kubectl.

All are lazy: a test that does not ask for one does not start anything. With pytest-xdist each worker that needs a
control plane has its own (two processes, about 310 MB); mark tests that share one with `xdist_group("control_plane")`,
and each test that uses `sandbox` with `xdist_group("sandbox")`, so that one worker starts it once (`--dist loadgroup`).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from plimsoll_cli.sandbox import definitions
from plimsoll_cli.sandbox.control_plane import ControlPlane
from plimsoll_cli.sandbox.kubectl import Kubectl
from plimsoll_cli.sandbox.options import NodeShape, SandboxOptions
from plimsoll_cli.sandbox.sandbox import Sandbox


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd and kube-apiserver, RBAC on, with the definitions of LLMService and PodMonitor."""
    with ControlPlane.start(tmp_path_factory.mktemp("control-plane")) as plane:
        plane.kubectl.install_definitions(f"{definitions.llm_service()}\n---\n{definitions.pod_monitor()}")
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
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Everything: two nodes with 8 GPUs each, Prometheus, operator and detector, at intervals a test can wait for."""
    options = SandboxOptions(
        name="tests",
        directory=tmp_path_factory.mktemp("sandbox"),
        nodes=(NodeShape(name="gpu-1"), NodeShape(name="gpu-2")),
        scrape_interval=1.0,
        detector_interval=2.0,
    )
    with Sandbox.start(options) as running:
        yield running

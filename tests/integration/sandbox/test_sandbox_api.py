"""The sandbox as a library, as the demo and the end-to-end tests use it."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest

from plimsoll_cli.errors import CommandError
from plimsoll_cli.sandbox import sandbox as module
from plimsoll_cli.sandbox.kubectl import Kubectl
from plimsoll_cli.sandbox.options import SandboxOptions
from plimsoll_cli.sandbox.sandbox import Sandbox

pytestmark = [
    pytest.mark.api_server,
    pytest.mark.slow,
    pytest.mark.xdist_group("sandbox-life"),
    pytest.mark.timeout(300),  # each brings a whole sandbox up and down, on two cores beside other tests
]


def options(directory: Path) -> SandboxOptions:
    """A small sandbox in a folder of the test's own."""
    return SandboxOptions(name="api", without=frozenset({"operator", "detector", "node-agent"}), directory=directory)


def test_components_are_stopped_and_started_one_by_one(tmp_path: Path) -> None:
    """A stopped one stays stopped, a restarted one is another process, the rest goes on."""
    with Sandbox.start(options(tmp_path)) as sandbox:
        before = {s.name: s.pid for s in sandbox.standings()}
        assert all(s.ready for s in sandbox.standings())
        # Handles, because a number may be another process's by the time that it is asked about.
        handles = [os.pidfd_open(pid) for pid in before.values() if pid]
        assert not select.select(handles, [], [], 0)[0], "control: all are alive before"

        sandbox.stop("prometheus")
        stopped = {s.name: s for s in sandbox.standings()}["prometheus"]
        assert (stopped.pid, stopped.ready, stopped.crashes) == (None, False, 0)

        sandbox.start_component("prometheus")
        sandbox.restart("kube-scheduler")
        after = {s.name: s for s in sandbox.standings()}
        assert all(s.ready and s.crashes == 0 for s in after.values())
        assert after["prometheus"].pid != before["prometheus"]
        assert after["kube-scheduler"].pid != before["kube-scheduler"]
        assert after["etcd"].pid == before["etcd"]
        with pytest.raises(CommandError, match="no component kubelet here: there are etcd"):
            sandbox.stop("kubelet")
    assert sorted(select.select(handles, [], [], 0)[0]) == sorted(handles)
    for handle in handles:
        os.close(handle)


def test_product_identities_have_only_their_own_rights(bare: Sandbox) -> None:
    """Operator and detector are not administrators: the first reads no Secret, the second writes no Deployment."""

    def may(account: str, *question: str) -> bool:
        kubeconfig = bare.plane.kubeconfig_for("plimsoll-system", account)
        answer = Kubectl(bare.kubectl.program, kubeconfig).attempt("auth", "can-i", *question, "-A")
        return answer.stdout.strip() == "yes"

    assert may("plimsoll-operator", "patch", "deployments.apps")
    assert not may("plimsoll-operator", "get", "secrets")
    assert may("plimsoll-detector", "patch", "llmservices.plimsoll.dev", "--subresource=scale")
    assert not may("plimsoll-detector", "patch", "deployments.apps")


def test_one_folder_holds_one_sandbox(bare: Sandbox) -> None:
    """A second start is refused before it touches anything of the first."""
    with pytest.raises(CommandError, match="runs already"):
        Sandbox.start(options(Path(bare.directory)))
    assert all(s.ready for s in bare.standings())


def test_a_component_that_does_not_start_ends_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names it and shows its log; the control plane that was up by then is gone."""
    monkeypatch.setattr(module, "_PROMETHEUS_RETENTION", "soon")
    with pytest.raises(CommandError) as failure:
        Sandbox.start(options(tmp_path))
    assert "prometheus ended with exit code" in str(failure.value)
    assert "soon" in str(failure.value)
    assert not processes_of(tmp_path)
    module.take_lock(tmp_path).close()


def processes_of(folder: Path) -> list[str]:
    """Command lines that name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError):
            continue
        if str(folder) in text:
            found.append(text.replace("\0", " "))
    return found

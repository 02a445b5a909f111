"""Back-off, GPU assignment, images, refusals, log tails, configuration, volumes for claims."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_cli.errors import CommandError
from plimsoll_cli.sandbox.node.backoff import Backoff, BackoffPolicy, restored, should_restart
from plimsoll_cli.sandbox.node.claims import volume_for
from plimsoll_cli.sandbox.node.config import AgentConfig, ImageEntry, NodeConfig, load
from plimsoll_cli.sandbox.node.gpus import NotEnoughGpusError, assign
from plimsoll_cli.sandbox.node.images import ImageNotFoundError, ProgramNotFoundError, entry_for, program_for
from plimsoll_cli.sandbox.node.last_words import termination_message
from plimsoll_cli.sandbox.node.log_tail import tail_offset
from plimsoll_cli.sandbox.node.refusal import unsupported
from plimsoll_cli.sandbox.node.resource_fields import quantity, resource_field


def test_back_off_is_the_kubelet_s() -> None:
    """0, 10, 20, ... 300 s; a run of ten minutes starts anew."""
    policy, state, delays = BackoffPolicy(), Backoff(), []
    for _ in range(8):
        delay, state = state.after(policy, ran_seconds=1)
        delays.append(delay)
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300]
    assert state.after(policy, ran_seconds=600)[0] == 0
    assert restored(policy, 3).after(policy, 1)[0] == 40


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [("Always", 0, True), ("Always", 1, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 1, False)],
)
def test_restart_policy(policy: str, code: int, again: bool) -> None:
    """core/v1 restartPolicy."""
    assert should_restart(policy, code) is again


def gpu_pod(*counts: int, init: tuple[int, ...] = ()) -> dict[str, Any]:
    """A pod whose containers want GPUs."""

    def make(prefix: str, wanted: tuple[int, ...]) -> list[dict[str, Any]]:
        return [
            {"name": f"{prefix}{i}", "resources": {"limits": {"nvidia.com/gpu": str(n)}} if n else {}}
            for i, n in enumerate(wanted)
        ]

    return {"spec": {"containers": make("c", counts), "initContainers": make("i", init)}}


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), max_size=6), st.integers(1, 8))
def test_gpus_are_never_shared(pods: list[list[int]], total: int) -> None:
    """Indices of different containers are disjoint and exist; a refusal means that too few were free."""
    taken: list[int] = []
    for counts in pods:
        try:
            assigned = assign(gpu_pod(*counts), total, taken)
        except NotEnoughGpusError:
            assert sum(counts) > total - len(taken)
            continue
        indices = [index for given_ in assigned.values() for index in given_]
        assert [len(assigned.get(f"c{i}", ())) for i in range(len(counts))] == counts
        assert not set(indices) & set(taken)
        assert len(set(indices)) == len(indices)
        assert all(0 <= index < total for index in indices)
        taken += indices


def test_init_containers_use_the_same_gpus() -> None:
    """They end before the others begin."""
    assert assign(gpu_pod(1, 2, init=(3,)), 3, ()) == {"c0": (0,), "c1": (1, 2), "i0": (0, 1, 2)}


ENTRIES = (
    ImageEntry(
        pattern="vllm/vllm-openai:*",
        commands={"vllm serve": (sys.executable, "-m", "engine"), "vllm": (sys.executable, "-m", "other")},
        entrypoint=(sys.executable, "-m", "engine"),
    ),
    ImageEntry(pattern="busybox:*", local=True, nice=3),
)


def test_the_longest_leading_words_are_replaced() -> None:
    """`vllm serve MODEL` and `vllm bench` are different programs; without a command the entrypoint is run."""
    entry = entry_for("vllm/vllm-openai:v0.32.0", ENTRIES)
    assert program_for(entry, ["vllm", "serve", "m", "--x"], "").arguments == (
        sys.executable,
        "-m",
        "engine",
        "m",
        "--x",
    )
    assert program_for(entry, ["vllm", "bench"], "").arguments == (sys.executable, "-m", "other", "bench")
    assert program_for(entry, [*entry.entrypoint, "m"], "").arguments[-1] == "m"
    with pytest.raises(ProgramNotFoundError, match="does not have 'sh'"):
        program_for(entry, ["sh"], "/bin")


def test_no_volume_hides_the_words_that_an_entry_brings() -> None:
    """A checkout below /tmp is found also where the pod has a volume at /tmp."""
    entry = entry_for("vllm/vllm-openai:v0.32.0", ENTRIES)
    assert program_for(entry, ["vllm", "serve", "/tmp/model"], "").local == 3
    assert program_for(entry, [*entry.entrypoint, "/tmp/model"], "").local == 3
    assert program_for(entry_for("busybox", ENTRIES), ["sh", "/tmp/script"], "/bin").local == 1


def test_local_images_run_this_machine_s_programs() -> None:
    """By path, else by name on PATH."""
    entry = entry_for("busybox", ENTRIES)
    assert program_for(entry, ["/somewhere/else/sh", "-c", "x"], "/bin").arguments == ("/bin/sh", "-c", "x")
    assert program_for(entry, ["sh"], "/bin").nice == 3
    with pytest.raises(ProgramNotFoundError, match="executable file not found"):
        program_for(entry, ["no-such-program"], "/bin")
    with pytest.raises(ProgramNotFoundError, match="no command specified"):
        program_for(entry, [], "/bin")


def test_an_unknown_image_names_the_known_ones() -> None:
    """What a person needs to add an entry."""
    with pytest.raises(ImageNotFoundError, match=r"'nginx'.*vllm/vllm-openai:\*, busybox:\*"):
        entry_for("nginx", ENTRIES)


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({"hostNetwork": True}, "spec.hostNetwork"),
        ({"hostPID": True}, "spec.hostPID"),
        ({"volumes": [{"name": "v", "nfs": {}}]}, "spec.volumes[0].nfs"),
        ({"volumes": [{"name": "v", "image": {}}]}, "spec.volumes[0].image"),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"clusterTrustBundle": {}}]}}]},
            "spec.volumes[0].projected.sources[0].clusterTrustBundle",
        ),
        ({"containers": [{"securityContext": {"privileged": True}}]}, "spec.containers[0].securityContext.privileged"),
        ({"containers": [{"ports": [{"hostPort": 80}]}]}, "spec.containers[0].ports[0].hostPort"),
        ({"initContainers": [{"volumeDevices": [{}]}]}, "spec.initContainers[0].volumeDevices"),
        ({"containers": [{"livenessProbe": {"grpc": {}}}]}, "spec.containers[0].livenessProbe.grpc"),
    ],
)
def test_refusals_name_the_field(spec: dict[str, Any], place: str) -> None:
    """One line for each, beginning with its place; the same pod without it is taken."""
    found = unsupported({"spec": {"containers": [{}], **spec}})
    assert len(found) == 1
    assert found[0].startswith(f"{place}: ")
    plain = {"volumes": [{"name": "v"}, {"name": "w", "emptyDir": {}}], "containers": [{"ports": [{}]}]}
    assert unsupported({"spec": plain}) == ()


@given(st.lists(st.text("ab", max_size=5), max_size=20), st.booleans(), st.integers(0, 25))
def test_tail_is_the_last_lines(tmp_path_factory: pytest.TempPathFactory, lines: list[str], end: bool, n: int) -> None:
    """Whatever the file's end looks like."""
    log = tmp_path_factory.mktemp("log") / "log"
    text = "\n".join(lines) + ("\n" if end and lines else "")
    log.write_text(text)
    assert text[tail_offset(log, n) :] == "".join(text.splitlines(keepends=True)[-n:] if n else [])
    assert tail_offset(log, None) == 0


def test_last_words(tmp_path: Path) -> None:
    """The file first; the log's end only after a failure and only when asked for."""
    file, log = tmp_path / "message", tmp_path / "log"
    log.write_text("".join(f"line {i}\n" for i in range(200)))
    fallback = "FallbackToLogsOnError"
    assert termination_message(file, log, "File", failed=True) == ""
    assert termination_message(file, log, fallback, failed=False) == ""
    assert termination_message(file, log, fallback, failed=True).startswith("line 120\n")
    file.write_text("said")
    assert termination_message(file, log, fallback, failed=True) == "said"


@pytest.mark.parametrize(
    ("text", "number"), [("1500m", "1.5"), ("2Gi", str(2 << 30)), ("1e3", "1000"), ("5k", "5000"), ("0", "0")]
)
def test_quantities(text: str, number: str) -> None:
    """Decimal and binary suffixes."""
    assert quantity(text) == quantity(number)


def test_resource_fields_are_rounded_up_and_default_to_the_node() -> None:
    """1500m CPU is 2 whole ones; an absent limit is what the node has."""
    container = {"name": "c", "resources": {"limits": {"cpu": "1500m"}}}
    pod = {"spec": {"containers": [container]}}
    node = {"cpu": "64", "memory": "8Gi"}
    assert resource_field(pod, container, {"resource": "limits.cpu"}, node) == "2"
    assert resource_field(pod, container, {"resource": "limits.memory", "divisor": "1Mi"}, node) == "8192"
    assert resource_field(pod, container, {"resource": "requests.memory"}, node) == "0"


def test_configuration_errors_name_the_field(tmp_path: Path) -> None:
    """A misspelt field is not ignored."""
    file = tmp_path / "node.json"
    file.write_text(
        json.dumps({"nodes": [{"name": "a", "gpus": 8}], "pod_cidr": "127.64.0.0/16", "state_directory": "/x"})
    )
    with pytest.raises(CommandError, match=r"nodes\.0\.gpus"):
        load(file)
    with pytest.raises(CommandError, match="cannot read"):
        load(tmp_path / "absent.json")


def test_node_addresses_are_in_the_first_block() -> None:
    """In the order of the file; pods are given none of these."""
    nodes = (NodeConfig(name="a"), NodeConfig(name="b"))
    config = AgentConfig(nodes=nodes, pod_cidr="127.64.0.0/16", state_directory=Path("/x"))
    assert [config.node_address(name) for name in "ab"] == ["127.64.0.1", "127.64.0.2"]


def test_only_pending_claims_of_the_class_get_a_volume() -> None:
    """Bound, foreign and deleted ones do not."""
    claim: dict[str, Any] = {
        "metadata": {"namespace": "n", "name": "c", "uid": "u"},
        "spec": {
            "storageClassName": "sandbox",
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "5Gi"}},
        },
    }
    volume = volume_for(claim, "sandbox", Path("/claims"))
    assert volume is not None
    assert volume["spec"]["hostPath"]["path"] == "/claims/pvc-u"
    assert volume["spec"]["claimRef"]["uid"] == "u"
    assert volume_for(claim, "other", Path("/claims")) is None
    assert volume_for({**claim, "status": {"phase": "Bound"}}, "sandbox", Path("/claims")) is None
    gone = {**claim, "metadata": {**claim["metadata"], "deletionTimestamp": "now"}}
    assert volume_for(gone, "sandbox", Path("/claims")) is None

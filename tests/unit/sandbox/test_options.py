"""What a sandbox is started with: parsed, checked, and the same after a trip through JSON."""

from __future__ import annotations

import json
import socket
from dataclasses import astuple
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_cli.errors import CommandError
from plimsoll_cli.sandbox.addresses import Ports, free_port, free_ports, reserve_block
from plimsoll_cli.sandbox.fleet import restart_pause
from plimsoll_cli.sandbox.options import NodeShape, SandboxOptions, parse_node


def test_a_node_is_product_count_and_what_is_added() -> None:
    """A product may hold anything but a comma; the count follows the last colon."""
    assert parse_node("gpu=NVIDIA-L4:4") == NodeShape("NVIDIA-L4", 4)
    assert parse_node("gpu=NVIDIA-L4:4,name=small,cpu=16,memory=64Gi") == NodeShape(
        "NVIDIA-L4", 4, "small", "16", "64Gi"
    )
    assert parse_node("gpu=none,name=cpu-only").gpus == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gpu=NVIDIA-L4", "write PRODUCT:COUNT"),
        ("gpu=NVIDIA-L4:0", "1 to 16 GPUs"),
        ("gpu=NVIDIA-L4:x", "write PRODUCT:COUNT"),
        ("cpu=4", "gpu=PRODUCT:COUNT is missing"),
        ("gpu=NVIDIA-L4:1,colour=red", "'colour=red' is not one of gpu="),
        ("gpu=NVIDIA-L4:1,gpu=NVIDIA-L4:2", "is not one of"),
    ],
)
def test_a_malformed_node_is_refused_with_the_fix(text: str, says: str) -> None:
    """The message names the part that is wrong."""
    with pytest.raises(CommandError, match="--node") as failure:
        parse_node(text)
    assert says in str(failure.value)
    assert failure.value.exit_code == 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "Demo"}, "--name 'Demo'"),
        ({"name": "../x"}, "--name"),
        ({"without": frozenset({"etcd"})}, "--without etcd"),
        ({"scrape_interval": 0.1}, "at least 1 s"),
        ({"nodes": (NodeShape(name="a"), NodeShape("NVIDIA-L4", 1, "a"))}, "--node: two are called a"),
        ({"nodes": (NodeShape(name="node-2"), NodeShape())}, "--node: two are called node-2"),
        ({"operators": 0}, "--operators 0: at least 1; --without=operator"),
        ({"detectors": -1}, "--detectors -1: at least 1; --without=detector"),
    ],
)
def test_options_out_of_range_are_refused(changes: dict[str, object], says: str) -> None:
    """Before anything is started."""
    with pytest.raises(CommandError) as failure:
        SandboxOptions(**changes)  # type: ignore[arg-type]
    assert says in str(failure.value)


@pytest.mark.parametrize("component", ["operator", "detector"])
def test_a_component_that_is_left_out_may_be_counted_as_none(component: str) -> None:
    changes: dict[str, Any] = {f"{component}s": 0}
    assert component in SandboxOptions(without=frozenset({component}), **changes).without


@given(
    st.builds(
        SandboxOptions,
        name=st.sampled_from(["default", "demo-2"]),
        nodes=st.lists(
            st.builds(NodeShape, name=st.sampled_from(["", "n"])), min_size=1, max_size=2, unique_by=lambda n: n.name
        ).map(tuple),
        engine=st.sampled_from(["simulated", "vllm"]),
        without=st.frozensets(st.sampled_from(["operator", "detector"])),
        operator_arguments=st.lists(st.text(max_size=5), max_size=2).map(tuple),
    )
)
def test_options_survive_json(options: SandboxOptions) -> None:
    """The supervisor gets exactly what the command was given."""
    assert SandboxOptions.from_json(json.loads(json.dumps(options.as_json()))) == options


def test_two_reservations_differ_and_a_closed_one_is_free_again() -> None:
    """Ranges of one block do not meet, nor those of two blocks."""
    first, second = reserve_block(), reserve_block()
    try:
        one, two = first.block, second.block
        assert len({one.pod_cidr, one.service_cidr, two.pod_cidr, two.service_cidr}) == 4
        assert one.control_address != two.control_address
    finally:
        first.close()
        second.close()


@given(st.integers(min_value=1, max_value=10_000))
def test_pauses_after_crashes_grow_to_a_limit(crashes: int) -> None:
    """Never shorter after one crash more, never above 10 s."""
    assert 0 < restart_pause(crashes) <= restart_pause(crashes + 1) <= 10


def test_a_port_that_a_stranger_has_on_every_address_is_not_taken() -> None:
    """A program on 0.0.0.0:6443 is in the way of every address's port 6443."""
    with socket.socket() as stranger:
        stranger.bind(("0.0.0.0", 0))
        stranger.listen()
        taken = stranger.getsockname()[1]
        found = free_port("127.63.255.1", taken) if taken < 60_000 else taken + 1000
    assert found != taken
    assert (found - taken) % 1000 == 0


def test_components_never_get_the_same_port() -> None:
    """Neither the usual ones nor those moved to."""
    assert len(set(astuple(free_ports("127.63.255.2")))) == len(astuple(Ports()))
    assert len({port % 1000 for port in astuple(Ports())}) == len(astuple(Ports()))

"""Loopback addresses of one sandbox, chosen so that two sandboxes on one machine never meet.

Linux answers on all of 127.0.0.0/8 without configuration. A sandbox takes two neighbouring /16 blocks of it: one for
its pods, one for its Services and its own components. Since no two sandboxes share an address, all of them use the
usual ports (6443, 2379, 9090). Only a stranger that listens on a port of every address is in the way: the next free
port is taken then.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, fields
from typing import Final

from plimsoll_cli.errors import CommandError

_FIRST_BLOCK: Final = 64
_LAST_BLOCK: Final = 126
"""Second octets in use. Below 64 lie 127.0.0.1, systemd-resolved's 127.0.0.53 and what people pick by hand."""

_PORT_TRIES: Final = 20


@dataclass(frozen=True)
class AddressBlock:
    """The addresses of one sandbox.

    Args:
        second_octet: even; pods live in 127.N.0.0/16, the rest in 127.(N+1).0.0/16.
    """

    second_octet: int

    @property
    def pod_cidr(self) -> str:
        """Range that pods take their addresses from."""
        return f"127.{self.second_octet}.0.0/16"

    @property
    def service_cidr(self) -> str:
        """Range that the API server takes cluster IPs from."""
        return f"127.{self.second_octet + 1}.0.0/17"

    @property
    def control_address(self) -> str:
        """Address that every component of the sandbox listens on; outside both ranges."""
        return f"127.{self.second_octet + 1}.255.1"

    @property
    def first_service_address(self) -> str:
        """Cluster IP of the `kubernetes` Service: always the first of the range."""
        return f"127.{self.second_octet + 1}.0.1"


@dataclass(frozen=True)
class Ports:
    """Ports of a sandbox's own components; the usual ones unless a stranger has them on every address."""

    etcd: int = 2379
    etcd_peer: int = 2380
    api: int = 6443
    controller_manager: int = 10257
    scheduler: int = 10259
    kubelet: int = 10250
    prometheus: int = 9090


def free_ports(address: str) -> Ports:
    """The usual ports, each moved to the next free one where it is taken.

    Raises:
        CommandError: no port near a usual one is free.
    """
    return Ports(**{field.name: free_port(address, getattr(Ports, field.name)) for field in fields(Ports)})


def free_port(address: str, usual: int) -> int:
    """The usual port, or the next one that is free on an address.

    Steps of 1000, so that two components whose usual ports are neighbours do not take each other's.

    Raises:
        CommandError: none is free.
    """
    candidates = range(usual, min(usual + 1000 * _PORT_TRIES, 65536), 1000)
    for port in candidates:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
                probe.listen()
            except OSError:
                continue
            return port
    raise CommandError(f"no free port on {address}: tried {', '.join(map(str, candidates))}")


class ReservedBlock:
    """An `AddressBlock` that no other sandbox can take while this object is open."""

    def __init__(self, block: AddressBlock, lock: socket.socket) -> None:
        self.block = block
        self._lock = lock

    def close(self) -> None:
        """Give the block back."""
        self._lock.close()


def reserve_block() -> ReservedBlock:
    """Take the first free block.

    The lock is an abstract Unix socket name: it exists once per network namespace, exactly like the loopback
    addresses it stands for, and the kernel drops it when the process ends however it ends.

    Raises:
        CommandError: every block is taken.
    """
    for octet in range(_FIRST_BLOCK, _LAST_BLOCK, 2):
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            lock.bind(f"\0plimsoll-sandbox-127.{octet}")
        except OSError:
            lock.close()
            continue
        return ReservedBlock(AddressBlock(octet), lock)
    taken = (_LAST_BLOCK - _FIRST_BLOCK) // 2
    raise CommandError(
        f"all {taken} address blocks are taken by running sandboxes: stop one with `plimsoll sandbox down`"
    )

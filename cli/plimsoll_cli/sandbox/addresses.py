"""Loopback addresses of one sandbox, chosen so that two sandboxes on one machine never meet.

Linux answers on all of 127.0.0.0/8 without configuration. A sandbox takes two neighbouring /16 blocks of it: one for
its pods, one for its Services and its own components. Since no two sandboxes share an address, all of them use the
usual ports (6443, 2379, 9090) and none is ever probed for.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Final

from plimsoll_cli.errors import CommandError

_FIRST_BLOCK: Final = 64
_LAST_BLOCK: Final = 126
"""Second octets in use. Below 64 lie 127.0.0.1, systemd-resolved's 127.0.0.53 and what people pick by hand."""


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

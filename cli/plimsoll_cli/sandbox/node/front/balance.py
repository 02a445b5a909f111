"""Which pod gets the next request."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Backend:
    """One port of one Ready pod.

    Args:
        pod: uid of the pod: requests of all its Services and ports are counted together.
        address: its address.
        port: port number.
    """

    pod: str
    address: str
    port: int


def choose(
    backends: Sequence[Backend], outstanding: Mapping[str, int], turn: int, avoid: Collection[Backend] = ()
) -> Backend | None:
    """The backend with the least outstanding requests; among equals, the first at or after `turn` in a circle.

    Args:
        backends: the candidates, in a stable order.
        outstanding: requests that each pod has not finished answering; absent means none.
        turn: any number; one more each time gives every equal backend its turn.
        avoid: backends that just failed; None is returned when no other is left.
    """
    count = len(backends)
    best: Backend | None = None
    fewest = 0
    for offset in range(count):
        backend = backends[(turn + offset) % count]
        if backend in avoid:
            continue
        load = outstanding.get(backend.pod, 0)
        if best is None or load < fewest:
            best, fewest = backend, load
    return best

"""Which replica is out of line with its peers. Pure.

Every replica of one revision runs the same engine on the same kind of GPU behind the same front, so each is the others'
control: load and request mix cancel out. A replica is held against the median and the median absolute deviation of
the *others*, so that it does not hide itself in a small fleet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Final

from plimsoll_detector.observation import PodReading

OUTLIER_Z: Final = 3.5
"""Robust z-score of an outlier (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993)."""

MAD_TO_SIGMA: Final = 1.4826
"""Standard deviations per median absolute deviation of a normal distribution."""

SCALE_FLOOR_SHARE: Final = 0.1
"""Least spread assumed among peers, as a share of their median: two alike by chance are no yardstick of 0."""

MIN_RATIO: Final = 1.5
"""How many times its peers' median an outlier must be: below that, a bigger batch explains it."""

MIN_RATIO_OF_ONE_PEER: Final = 2.0
"""The same where there is one peer only, which may itself be the odd one."""

MIN_RATE: Final = 0.05
"""Requests per second below which a replica's means are of too few requests (3 per minute)."""

MIN_ERROR_SHARE: Final = 0.1
"""Share of a replica's requests that must fail before its errors count, however well its peers do."""


@dataclass(frozen=True)
class Outlier:
    """A replica that is out of line.

    Attributes:
        pod: its name.
        signal: in what: `itl`, `ttft` or `errors`.
        value: its value; seconds, or a share of requests.
        peers: the median of its peers.
    """

    pod: str
    signal: str
    value: float
    peers: float


@dataclass(frozen=True)
class _Comparison:
    """One signal to compare.

    Attributes:
        value: of a replica; None when it has none.
        floor: value below which nothing is out of line.
        spread: least spread assumed among peers.
    """

    value: Callable[[PodReading], float | None]
    floor: float
    spread: float


def _error_share(pod: PodReading) -> float | None:
    return pod.errors / pod.finished if pod.errors is not None and pod.finished else None


def outliers(pods: Collection[PodReading], floors: Mapping[str, float], together: float = math.inf) -> list[Outlier]:
    """The replicas out of line with their peers, at most one entry for each.

    Args:
        pods: the serving replicas.
        floors: by signal (`itl`, `ttft`), the seconds below which a replica is well whatever its peers do.
        together: seconds that they have served side by side. A first token that took longer was asked for before some
            of them came: what queued up then is not the fault of the replica that works it off.
    """

    def comparable_ttft(pod: PodReading) -> float | None:
        return pod.ttft if pod.ttft is not None and pod.ttft <= together else None

    comparisons = {
        "itl": _Comparison(lambda pod: pod.itl, floors.get("itl", 0.0), 0.0),
        "ttft": _Comparison(comparable_ttft, floors.get("ttft", 0.0), 0.0),
        "errors": _Comparison(_error_share, MIN_ERROR_SHARE, MIN_ERROR_SHARE / OUTLIER_Z),
    }
    busy = [pod for pod in pods if max(pod.started or 0.0, pod.finished or 0.0) >= MIN_RATE]
    found: dict[str, Outlier] = {}
    for signal, comparison in comparisons.items():
        values = [(pod, value) for pod in busy if (value := comparison.value(pod)) is not None]
        for pod, value in values:
            peers = [other for peer, other in values if peer is not pod and peer.revision == pod.revision]
            if pod.name not in found and peers and _stands_out(value, peers, comparison):
                found[pod.name] = Outlier(pod.name, signal, value, median(peers))
    return list(found.values())


def _stands_out(value: float, peers: Collection[float], comparison: _Comparison) -> bool:
    """Whether a value is beyond the spread of its peers, and enough to matter."""
    middle = median(peers)
    deviation = MAD_TO_SIGMA * median(abs(peer - middle) for peer in peers)
    scale = max(deviation, SCALE_FLOOR_SHARE * middle, comparison.spread)
    ratio = MIN_RATIO if len(peers) > 1 else MIN_RATIO_OF_ONE_PEER
    far = value - middle > OUTLIER_Z * scale
    return value > comparison.floor and value >= ratio * middle and far

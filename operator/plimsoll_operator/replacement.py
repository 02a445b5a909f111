"""Pure: which replica to replace because its engine is wedged.

Such an engine answers `/health`, so no probe restarts it, and more replicas would not mend it. The detector names it
in `status.diagnosis`; here it is decided whether it goes now. Nothing is remembered: a pod's name is never used again,
so a diagnosis that is out of date asks for nothing twice, and a replica's age tells how long ago the last one went.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from plimsoll_api.v1alpha1 import DiagnosisKind
from plimsoll_operator.pods import PodView

LEAST_AGE: Final = timedelta(minutes=10)
"""Age below which a stalled replica is left for a person to look at. A fault that comes with the configuration or the
node strikes again soon, and replacing it for ever would cost a model's load time each time and hide the cause."""


@dataclass(frozen=True)
class Plan:
    """What to do about stalled replicas.

    Attributes:
        pod: the replica to replace now; None when none is.
        look_again: seconds until the answer may be another without any event; None when only an event changes it.
    """

    pod: PodView | None = None
    look_again: float | None = None


def named(status: Mapping[str, Any]) -> frozenset[str]:
    """Pods that the detector calls stalled; none while it says anything else."""
    diagnosis = status.get("diagnosis") or {}
    if diagnosis.get("kind") != DiagnosisKind.STALLED.value:
        return frozenset()
    return frozenset(diagnosis.get("pods") or ())


def plan(stalled: frozenset[str], pods: tuple[PodView, ...], now: datetime) -> Plan:
    """The replica to replace: the oldest of those named, one at a time, while no other comes or goes.

    A replica that finds no node holds nothing up: the GPUs of the one that goes may be what it waits for.

    Args:
        stalled: names of stalled replicas.
        pods: of the service, those that leave included.
        now: time that ages are counted to.
    """
    found = sorted((pod for pod in pods if pod.name in stalled and not pod.terminating), key=lambda pod: pod.created)
    if not found or any(pod.terminating or not (pod.ready or pod.unschedulable) for pod in pods):
        return Plan()
    left = (found[0].created + LEAST_AGE - now).total_seconds()
    return Plan(look_again=left) if left > 0 else Plan(pod=found[0])

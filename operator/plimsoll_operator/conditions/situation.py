"""All that the conditions of a service depend on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plimsoll_api.v1alpha1 import MemoryStep, RecommendationStatus
from plimsoll_kube.resources import Manifest
from plimsoll_operator.errors import ReconcileError
from plimsoll_operator.memory_steps import NOTHING, Outlook
from plimsoll_operator.pods import PodView

Status = Literal["True", "False", "Unknown"]


@dataclass(frozen=True)
class Verdict:
    """One condition's status, and why."""

    status: Status
    reason: str
    message: str


@dataclass(frozen=True)
class Situation:
    """What is true of a service.

    Attributes:
        generation: of the spec that was looked at.
        refused: why the spec cannot be acted on; None when it can.
        blocked: why children could not be applied; None when they were.
        recommendation: the configuration in force; None when there is none.
        wanted: replicas wanted; None when nobody has said yet.
        deployment: the live Deployment; None when it does not exist.
        pods: pods that have not ended.
        paused: whether a person asked to leave the children as they are.
        revision: of the pods as they should be; empty while that is not known.
        served_revision: the last that served; None when none did.
        memory: what is to be done about a start that ran out of GPU memory.
        memory_steps: memory settings lowered so far.
    """

    generation: int
    refused: ReconcileError | None = None
    blocked: ReconcileError | None = None
    recommendation: RecommendationStatus | None = None
    wanted: int | None = None
    deployment: Manifest | None = None
    pods: tuple[PodView, ...] = ()
    paused: bool = False
    revision: str = ""
    served_revision: str | None = None
    memory: Outlook = NOTHING
    memory_steps: tuple[MemoryStep, ...] = ()

    @property
    def current(self) -> tuple[PodView, ...]:
        """Pods that are meant to stay."""
        return tuple(pod for pod in self.pods if not pod.terminating)

    @property
    def ready(self) -> int:
        """Pods that serve and are meant to stay."""
        return sum(pod.ready for pod in self.current)

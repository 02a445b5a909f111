"""Pure: which memory setting to lower after a start that ran out of GPU memory.

A revision is one pod template. A step is taken for a revision at most once, and only for one that never had a ready
replica: its failure is then one of the configuration, and not of something that befell a fleet that ran well. Each
step is remembered before it is acted on (`memory_ceilings`), so that whoever reconciles next starts from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from plimsoll_api.v1alpha1 import Engine, EngineConfigStatus, MemoryStep
from plimsoll_operator.gpu_memory import Shortage, excerpt
from plimsoll_operator.memory_ceilings import Subject, step_for
from plimsoll_operator.pods import PodView

FRACTION_STEP: Final = Decimal("0.04")
"""Of the GPU's memory: 3.2 GiB of 80, more than the reserve that sizing leaves and than a ledger is usually off by."""

LEAST_FRACTION: Final = Decimal("0.75")
"""A GPU of which more than a quarter is not free has a tenant or a fault that settings should not hide."""

SEQUENCES_DIVISOR: Final = 2
"""The sampler's memory is in proportion to max_num_seqs: a smaller step would be lost in what profiling varies by."""

LEAST_SEQUENCES: Final = 8
"""The least that the recommender chooses, and a multiple of the batches that CUDA graphs are captured for."""

MOST_STEPS: Final = 8
"""For one model, GPU and image: each costs a start, which is minutes of a GPU. Five lead the fraction from its largest
to its least, three more an eighth of the sequences."""

QUOTED: Final = 200
"""Characters of the engine's last words that are remembered."""

_FRACTION_IGNORED: Final = "--kv-cache-memory-bytes"
"""With it vLLM takes no notice of the fraction."""


class Finding(StrEnum):
    """What is to be done about the revision in force."""

    NOTHING = "Nothing"
    """No start of it ran out of memory that lower settings would leave free."""
    SERVED = "Served"
    """It served before: its settings are not what is wrong."""
    RECORDED = "Recorded"
    """A step was taken for it already."""
    EXHAUSTED = "Exhausted"
    """Nothing may be lowered any more."""
    DUE = "Due"
    """A step is to be taken."""


@dataclass(frozen=True)
class Case:
    """All that a step is decided from.

    Attributes:
        subject: what runs.
        engine: what a person pinned.
        config: the configuration in force.
        revision: of the pods as they should be; empty while there are none.
        served: whether that revision ever served.
        pods: of the service.
        remembered: steps so far, of every subject, the newest first.
    """

    subject: Subject
    engine: Engine
    config: EngineConfigStatus
    revision: str
    served: bool
    pods: Sequence[PodView]
    remembered: tuple[MemoryStep, ...] = ()


@dataclass(frozen=True)
class Proposal:
    """A step that is allowed.

    Attributes:
        step: what would be remembered.
        change: the field, from what to what, and which step it is.
    """

    step: MemoryStep
    change: str


@dataclass(frozen=True)
class Outlook:
    """What is to be done, and from what.

    Attributes:
        finding: what.
        pod: name of the pod whose start failed.
        taken: steps so far for what runs.
        proposals: steps to choose from when one is due, in the order of preference; the choice alone, once made.
        limits: why fields may not be lowered any more, one clause each.
    """

    finding: Finding
    pod: str = ""
    taken: int = 0
    proposals: tuple[Proposal, ...] = ()
    limits: tuple[str, ...] = ()


NOTHING: Final = Outlook(Finding.NOTHING)


def has_served(revision: str, served: str | None, pods: Sequence[PodView]) -> bool:
    """Whether a replica of a revision ever served.

    Args:
        revision: the revision.
        served: the last that the status has recorded as serving.
        pods: of the service; one that served while nobody looked still shows it.
    """
    return revision == served or any(pod.served for pod in pods if pod.revision == revision)


def outlook(case: Case, now: datetime) -> Outlook:
    """What is to be done about a start that ran out of GPU memory."""
    failed = _failed_start(case)
    if failed is None:
        return NOTHING
    before = step_for(case.subject, case.remembered)
    taken = before.steps if before else 0
    if case.served:
        return Outlook(Finding.SERVED, failed.name, taken)
    if before is not None and before.revision == case.revision:
        return Outlook(Finding.RECORDED, failed.name, taken)
    if taken >= MOST_STEPS:
        return Outlook(Finding.EXHAUSTED, failed.name, taken, limits=(f"all {MOST_STEPS} steps were taken",))
    proposals, limits = _proposals(case, _unlowered(case, failed, before, now))
    finding = Finding.DUE if proposals else Finding.EXHAUSTED
    return Outlook(finding, failed.name, taken, proposals, limits)


def chosen(found: Outlook, proposal: Proposal) -> Outlook:
    """The outlook with the proposal that is taken."""
    return replace(found, proposals=(proposal,))


def refused(found: Outlook, refusals: Sequence[str]) -> Outlook:
    """The outlook when sizing refuses every proposal, with what it said of each."""
    return replace(found, finding=Finding.EXHAUSTED, proposals=(), limits=(*found.limits, *refusals))


def told(found: Outlook) -> str:
    """A step that is taken, for an Event."""
    [proposal] = found.proposals
    step = proposal.step
    where = f"{step.model} on {step.accelerator} with {step.image}"
    return f"{found.pod} ran out of GPU memory at start: {proposal.change}, for {where}: {step.message}"


def _failed_start(case: Case) -> PodView | None:
    """The first pod of the revision in force whose start ran out of memory that lower settings would leave free."""
    for pod in case.pods:
        ours = bool(case.revision) and pod.revision == case.revision and not pod.terminating
        if ours and pod.failure is not None and pod.failure.shortage is Shortage.LOWER:
            return pod
    return None


def _unlowered(case: Case, failed: PodView, before: MemoryStep | None, now: datetime) -> MemoryStep:
    """What is to be remembered of a failure, before a setting is lowered."""
    subject = case.subject
    return MemoryStep(
        model=subject.model,
        accelerator=subject.accelerator,
        image=subject.image,
        steps=1 + (before.steps if before else 0),
        gpu_memory_utilization=before.gpu_memory_utilization if before else None,
        max_num_seqs=before.max_num_seqs if before else None,
        revision=case.revision,
        message=excerpt(failed.failure.message if failed.failure else "", QUOTED),
        at=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _proposals(case: Case, next_step: MemoryStep) -> tuple[tuple[Proposal, ...], tuple[str, ...]]:
    """The steps that are allowed, the fraction's first, and why others are not."""
    proposals: list[Proposal] = []
    limits: list[str] = []
    for found in (_lower_fraction(case, next_step), _fewer_sequences(case, next_step)):
        if isinstance(found, Proposal):
            proposals.append(found)
        else:
            limits.append(found)
    return tuple(proposals), tuple(limits)


def _lower_fraction(case: Case, step: MemoryStep) -> Proposal | str:
    """The step with a lower memory fraction, or why there is none."""
    engine, now = case.engine, Decimal(case.config.gpu_memory_utilization)
    if engine.gpu_memory_utilization is not None:
        return f"engine.gpuMemoryUtilization is pinned to {engine.gpu_memory_utilization}"
    if any(argument.replace("_", "-").startswith(_FRACTION_IGNORED) for argument in engine.extra_args):
        return f"{_FRACTION_IGNORED} in engine.extraArgs makes the fraction meaningless"
    if now <= LEAST_FRACTION:
        return f"gpuMemoryUtilization {now} is at its bound of {LEAST_FRACTION}"
    lower = f"{max(LEAST_FRACTION, now - FRACTION_STEP).normalize():f}"
    change = f"gpuMemoryUtilization from {now} to {lower}, step {step.steps} of {MOST_STEPS}"
    return Proposal(step.model_copy(update={"gpu_memory_utilization": lower}), change)


def _fewer_sequences(case: Case, step: MemoryStep) -> Proposal | str:
    """The step with fewer sequences, or why there is none."""
    engine, now = case.engine, case.config.max_num_seqs
    if engine.max_num_seqs is not None:
        return f"engine.maxNumSeqs is pinned to {engine.max_num_seqs}"
    if now <= LEAST_SEQUENCES:
        return f"maxNumSeqs {now} is at its bound of {LEAST_SEQUENCES}"
    fewer = max(LEAST_SEQUENCES, now // SEQUENCES_DIVISOR // LEAST_SEQUENCES * LEAST_SEQUENCES)
    change = f"maxNumSeqs from {now} to {fewer}, step {step.steps} of {MOST_STEPS}"
    return Proposal(step.model_copy(update={"max_num_seqs": fewer}), change)

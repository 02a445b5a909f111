"""Pure: memory settings that were lowered, remembered for each model, GPU and image in the service's status.

They are ceilings of what sizing may recommend there. What a person pinned has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from plimsoll_api.v1alpha1 import MEMORY_STEPS_KEPT, Engine, MemoryStep, Reason, RecommendationStatus


@dataclass(frozen=True)
class Subject:
    """What steps are remembered for.

    Attributes:
        model: identity of the model's facts.
        accelerator: GPU product.
        image: the engine's.
    """

    model: str
    accelerator: str
    image: str


@dataclass(frozen=True)
class Ceilings:
    """Most that may be recommended, by GPU product; what a person pinned has none."""

    gpu_memory_utilization: Mapping[str, str] = field(default_factory=dict)
    max_num_seqs: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.gpu_memory_utilization or self.max_num_seqs)


NO_CEILINGS: Final = Ceilings()


def remembered(status: Mapping[str, Any]) -> tuple[MemoryStep, ...]:
    """The steps in a status, without entries of an API that is no longer understood."""
    found = []
    for entry in status.get("memorySteps") or ():
        try:
            found.append(MemoryStep.model_validate(entry))
        except ValidationError:
            continue
    return tuple(found)


def step_for(subject: Subject, steps: Sequence[MemoryStep]) -> MemoryStep | None:
    """What is remembered for a model on a GPU with an image."""
    return next((step for step in steps if Subject(step.model, step.accelerator, step.image) == subject), None)


def with_step(steps: Sequence[MemoryStep], new: MemoryStep) -> tuple[MemoryStep, ...]:
    """The steps with that of one subject replaced, the newest first; the oldest subjects are forgotten."""
    subject = Subject(new.model, new.accelerator, new.image)
    others = (step for step in steps if Subject(step.model, step.accelerator, step.image) != subject)
    return (new, *others)[:MEMORY_STEPS_KEPT]


def ceilings(steps: Sequence[MemoryStep], model: str, image: str, engine: Engine) -> Ceilings:
    """What sizing may recommend at most for a model and an image, on each GPU that has steps."""
    ours = [step for step in steps if (step.model, step.image) == (model, image)]
    return Ceilings(
        gpu_memory_utilization={
            step.accelerator: step.gpu_memory_utilization
            for step in ours
            if step.gpu_memory_utilization is not None and engine.gpu_memory_utilization is None
        },
        max_num_seqs={
            step.accelerator: step.max_num_seqs
            for step in ours
            if step.max_num_seqs is not None and engine.max_num_seqs is None
        },
    )


def explained(recommendation: RecommendationStatus, step: MemoryStep | None, engine: Engine) -> RecommendationStatus:
    """A recommendation that says which of its fields are as low as they are on account of steps."""
    if step is None:
        return recommendation
    config, times = recommendation.config, "once" if step.steps == 1 else f"{step.steps} times"
    because = f"stepped down {times} after CUDA out of memory on {step.accelerator} with {step.image}: {step.message}"
    lowered = {
        "gpuMemoryUtilization": engine.gpu_memory_utilization is None
        and step.gpu_memory_utilization == config.gpu_memory_utilization,
        "maxNumSeqs": engine.max_num_seqs is None and step.max_num_seqs == config.max_num_seqs,
    }
    reasons = [
        Reason(field=reason.field, value=reason.value, because=because) if lowered.get(reason.field) else reason
        for reason in recommendation.reasons
    ]
    return recommendation.model_copy(update={"reasons": reasons})

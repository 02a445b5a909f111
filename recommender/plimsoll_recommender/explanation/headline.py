"""The answer in one sentence: what to run, what it carries, what it costs, and what binds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import EngineConfig
from plimsoll_recommender.prediction import Prediction
from plimsoll_recommender.recommendation import FleetMember, Recommendation
from plimsoll_recommender.traffic import Objectives, Workload

BINDS_FROM: Final = 0.97
"""An objective of which this share is used at the load line is what stops the line from being higher."""


@dataclass(frozen=True)
class Binding:
    """The objective that a prediction uses most of.

    Args:
        name: `TTFT`, `TPOT` or `E2E`.
        reached: seconds at the percentile.
        target: seconds allowed.
    """

    name: str
    reached: float
    target: float

    @property
    def share(self) -> float:
        """Part of the target that is used; 1 is all of it."""
        return self.reached / self.target


def nearest_objective(predicted: Prediction, objectives: Objectives) -> Binding | None:
    """The objective that is nearest to its limit, or None when nothing is asked."""
    asked = [
        Binding(name, latency.at(objectives.percentile), target)
        for name, latency, target in (
            ("TTFT", predicted.ttft, objectives.ttft),
            ("TPOT", predicted.tpot, objectives.tpot),
            ("E2E", predicted.e2e, objectives.e2e),
        )
        if target is not None
    ]
    return max(asked, key=lambda binding: binding.share) if asked else None


def binding_text(predicted: Prediction, objectives: Objectives) -> str:
    """What keeps the load line from being higher, with its numbers."""
    nearest = nearest_objective(predicted, objectives)
    if nearest is not None and nearest.share >= BINDS_FROM:
        return (
            f"{nearest.name} binds, {_duration(nearest.reached)} of {_duration(nearest.target)} "
            f"at p{objectives.percentile:g}"
        )
    if nearest is None:
        return f"no objective is stated, so {predicted.bound} sets the load line"
    return (
        f"{predicted.bound} sets the load line; of the objectives {nearest.name} is nearest, "
        f"{_duration(nearest.reached)} of {_duration(nearest.target)} at p{objectives.percentile:g}"
    )


def layout_text(config: EngineConfig) -> str:
    """`TP 4 PP 2`: how one replica is laid out; sizes of one are left out but for TP."""
    parts = [f"TP {config.tensor_parallel_size}"]
    for name, size in (("PP", config.pipeline_parallel_size), ("DP", config.data_parallel_size)):
        if size > 1:
            parts.append(f"{name} {size}")
    if config.expert_parallel:
        parts.append("EP")
    return " ".join(parts)


def fleet_text(answer: Recommendation) -> str:
    """`2 x NVIDIA-L4 TP 2`: replicas, accelerator and layout, of every kind in the fleet."""
    if len(answer.fleet) > 1:
        return " + ".join(map(member_text, answer.fleet))
    return _kind(answer.replicas, answer.accelerator, answer.config, answer.variant)


def member_text(member: FleetMember) -> str:
    """`2 x NVIDIA-L4 TP 2` of one kind in a fleet."""
    return _kind(member.replicas, member.accelerator, member.config, member.variant)


def _kind(replicas: int, gpu: Accelerator, config: EngineConfig, variant: str) -> str:
    return f"{replicas} x {gpu.product} {layout_text(config)}" + (f" with {variant}" if variant else "")


def headline(answer: Recommendation, workload: Workload, objectives: Objectives) -> str:
    """The answer in one sentence."""
    return (
        f"Run {fleet_text(answer)} ({_gpus(answer.cost.gpus)}): carries {_carried(answer, workload)}, "
        f"for {answer.cost.per_hour:.2f} per hour; {binding_text(answer.predicted, objectives)}."
    )


def _carried(answer: Recommendation, workload: Workload) -> str:
    kinds = [(m.replicas, m.load_line_rps, m.load_line_concurrency) for m in answer.fleet] or [
        (answer.replicas, answer.load_line_rps, answer.load_line_concurrency)
    ]
    rate = sum(replicas * line for replicas, line, _ in kinds)
    if workload.requests_per_second is not None:
        return f"up to {rate:.3g} req/s where {workload.requests_per_second:g} are expected"
    if workload.concurrency is not None:
        most = sum(replicas * held for replicas, _, held in kinds)
        return f"up to {most:.0f} requests in flight where {workload.concurrency:g} are expected"
    return f"up to {rate:.3g} req/s"


def _duration(seconds: float) -> str:
    if seconds >= 10:
        return f"{seconds:.0f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.1 else f"{seconds * 1000:.1f} ms"


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"

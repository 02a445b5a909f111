"""An LLMService as the detector reads it: the object's JSON as policy, objectives and what was decided before. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from plimsoll_api.v1alpha1 import LLMServiceSpec, parse_duration
from plimsoll_detector.decision.policy import LoadLine, Policy
from plimsoll_detector.features import Key, Objectives

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Rules:
    """The process's own settings that go into every policy.

    Attributes:
        window: seconds over which rates are taken.
        interval: seconds between two ticks.
        wake_signal: whether something brings a stopped service back when a request arrives.
    """

    window: float
    interval: float
    wake_signal: bool = False


@dataclass(frozen=True)
class Service:
    """One LLMService.

    Attributes:
        manifest: the object.
        policy: what decisions keep to.
        objectives: what users should see.
    """

    manifest: Manifest
    policy: Policy
    objectives: Objectives

    @property
    def key(self) -> Key:
        """Namespace and name."""
        metadata = self.manifest["metadata"]
        return metadata["namespace"], metadata["name"]

    @property
    def uid(self) -> str:
        """Which object of that name it is."""
        return str(self.manifest["metadata"]["uid"])

    @property
    def generation(self) -> int:
        """Of the spec."""
        return int(self.manifest["metadata"].get("generation", 0))

    @property
    def current(self) -> int | None:
        """Replicas asked for; None before anybody asked."""
        value = self.manifest.get("spec", {}).get("replicas")
        return None if value is None else int(value)

    @property
    def revision(self) -> str | None:
        """Of the pods that the recommendation is of; None before there are any."""
        return self.status.get("revision")

    @property
    def status(self) -> Mapping[str, Any]:
        """The status as read."""
        status = self.manifest.get("status") or {}
        assert isinstance(status, dict)
        return status


def read(manifest: Manifest, spec: LLMServiceSpec, rules: Rules) -> Service:
    """A service from its object and its parsed spec.

    Raises:
        ValueError: a number of the status cannot be read.
    """
    status = manifest.get("status") or {}
    scaling, aims = spec.scaling, spec.objectives
    targets = {"ttft": parse_duration(aims.ttft), "tpot": parse_duration(aims.tpot)}
    if aims.e2e is not None:
        targets["e2e"] = parse_duration(aims.e2e)
    policy = Policy(
        mode=scaling.mode,
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        scale_out_stabilization=parse_duration(scaling.scale_out_stabilization),
        scale_in_stabilization=parse_duration(scaling.scale_in_stabilization),
        scale_to_zero_after=_seconds(scaling.scale_to_zero_after),
        budget_per_hour=None if scaling.budget_per_hour is None else float(scaling.budget_per_hour),
        max_count_replicas=max_count_replicas(status, spec),
        replica_cost=replica_cost(status, spec),
        load_line=load_line(status, spec),
        paused=spec.paused,
        window=rules.window,
        interval=rules.interval,
        startup_timeout=parse_duration(spec.rollout.startup_timeout),
        wake_signal=rules.wake_signal,
    )
    return Service(manifest, policy, Objectives(aims.percentile / 100, targets))


def load_line(status: Mapping[str, Any], spec: LLMServiceSpec) -> LoadLine | None:
    """The predicted load line; None without a recommendation, or when it says that a replica carries nothing."""
    predicted = (status.get("recommendation") or {}).get("predicted")
    if not predicted:
        return None
    line = LoadLine(
        requests_per_second=float(predicted["loadLineRequestsPerSecond"]),
        concurrency=float(predicted["loadLineConcurrency"]),
        output_tokens_per_second=float(predicted["outputTokensPerSecond"]),
        # Its own, not the spec's: a spec that was refused leaves the recommendation before it in force.
        input_tokens_mean=float(predicted.get("inputTokensMean") or spec.workload.input_tokens.mean),
        tpot=parse_duration(predicted["tpot"]),
    )
    carries = min(line.requests_per_second, line.concurrency, line.output_tokens_per_second)
    return line if carries > 0 else None


def max_count_replicas(status: Mapping[str, Any], spec: LLMServiceSpec) -> int | None:
    """Replicas that `maxCount` of the recommended accelerator has GPUs for; None where it is not given."""
    config = (status.get("recommendation") or {}).get("config")
    if not config:
        return None
    gpus = int(config["tensorParallelSize"]) * int(config["pipelineParallelSize"])
    for kind in spec.accelerators:
        if kind.product == config["accelerator"] and kind.max_count is not None:
            return kind.max_count // gpus
    return None


def replica_cost(status: Mapping[str, Any], spec: LLMServiceSpec) -> float | None:
    """Money per replica and hour: price of a GPU-hour times the GPUs of a replica; None when either is unknown."""
    config = (status.get("recommendation") or {}).get("config")
    if not config:
        return None
    gpus = int(config["tensorParallelSize"]) * int(config["pipelineParallelSize"])
    cost = status.get("cost") or {}
    if cost.get("gpus"):
        return float(cost["perHour"]) / int(cost["gpus"]) * gpus
    for kind in spec.accelerators:
        if kind.product == config["accelerator"] and kind.hourly_cost is not None:
            return float(kind.hourly_cost) * gpus
    return None


def timestamp(at: float) -> str:
    """Seconds since the epoch as the API server writes them."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(text: str) -> float:
    """The API server's timestamp in seconds since the epoch.

    Raises:
        ValueError: it is not an RFC 3339 time.
    """
    return datetime.fromisoformat(text).timestamp()


def _seconds(duration: str | None) -> float | None:
    return None if duration is None else parse_duration(duration)

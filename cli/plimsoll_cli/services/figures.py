"""The figures of one LLMService, read from its object (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from plimsoll_api.v1alpha1 import parse_duration

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class ServiceFigures:
    """What is known of one service. None is not known; times are seconds, rates per second.

    Args:
        namespace, name: which one.
        model: what it serves.
        wanted, ready: replicas.
        accelerator: GPU and how many one replica takes, such as `NVIDIA-L40S x2`.
        diagnosis: what the detector says.
        diagnosis_message: on what grounds.
        arrivals: requests per second.
        running, waiting: requests now.
        load_line: requests per second of one replica, measured, else predicted.
        ttft, tpot: measured at the percentile.
        attainment: share of requests that met every objective.
        cost_per_hour: of the pods that exist.
        cost_per_million: per million output tokens.
        age: seconds since it was made.
    """

    namespace: str
    name: str
    model: str
    wanted: int | None
    ready: int | None
    accelerator: str
    diagnosis: str
    diagnosis_message: str
    arrivals: float | None
    running: float | None
    waiting: float | None
    load_line: float | None
    ttft: float | None
    tpot: float | None
    attainment: float | None
    cost_per_hour: float | None
    cost_per_million: float | None
    age: float

    @property
    def load(self) -> float | None:
        """Arrivals over what the serving replicas carry."""
        if self.arrivals is None or not self.load_line or not self.ready:
            return None
        return self.arrivals / (self.load_line * self.ready)


def figures_of(service: Manifest, now: datetime) -> ServiceFigures:
    """The figures of an LLMService as the API server returns it."""
    metadata, spec, status = service["metadata"], service["spec"], service.get("status") or {}
    observed, diagnosis = status.get("observed") or {}, status.get("diagnosis") or {}
    recommendation, cost = status.get("recommendation") or {}, status.get("cost") or {}
    predicted = recommendation.get("predicted") or {}
    made = datetime.fromisoformat(metadata["creationTimestamp"].replace("Z", "+00:00"))
    return ServiceFigures(
        namespace=metadata["namespace"],
        name=metadata["name"],
        model=spec["model"].get("baseModel") or str(spec["model"]["uri"]).removeprefix("hf://"),
        wanted=spec.get("replicas"),
        ready=status.get("readyReplicas"),
        accelerator=_accelerator(recommendation.get("config")),
        diagnosis=diagnosis.get("kind", ""),
        diagnosis_message=diagnosis.get("message", ""),
        arrivals=_number(observed.get("requestsPerSecond")),
        running=_number(observed.get("running")),
        waiting=_number(observed.get("waiting")),
        load_line=_number(observed.get("loadLine")) or _number(predicted.get("loadLineRequestsPerSecond")),
        ttft=_seconds(observed.get("ttft")),
        tpot=_seconds(observed.get("tpot")),
        attainment=_number(observed.get("attainment")),
        cost_per_hour=_number(cost.get("perHour")),
        cost_per_million=_number(cost.get("perMillionOutputTokens")),
        age=max(0.0, (now - made).total_seconds()),
    )


def _accelerator(config: Manifest | None) -> str:
    if not config:
        return ""
    gpus = int(config["tensorParallelSize"]) * int(config["pipelineParallelSize"])
    return f"{config['accelerator']} x{gpus}" if gpus > 1 else str(config["accelerator"])


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _seconds(value: Any) -> float | None:
    return None if value is None else parse_duration(value)

"""Answers as plain data, for -o json and -o yaml: every name is the Python field's, every unit SI or GiB."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from plimsoll_cli.sizing.arguments import engine_arguments
from plimsoll_recommender import (
    Accelerator,
    EngineConfig,
    MemoryLedger,
    ModelFacts,
    Objectives,
    Prediction,
    Recommendation,
    Workload,
)
from plimsoll_recommender.explanation.headline import headline
from plimsoll_recommender.explanation.question import Question

if TYPE_CHECKING:
    from plimsoll_recommender.observation.corrections import Corrections


def memory_document(
    facts: ModelFacts,
    gpu: Accelerator,
    config: EngineConfig,
    ledger: MemoryLedger,
    corrections: Corrections | None = None,
) -> dict[str, Any]:
    """The answer of `plimsoll memory`: the ledger's fields beside what was asked."""
    return {
        "model": facts.name,
        "accelerator": gpu.product,
        "config": plain(config),
        **plain(ledger),
        **_observed(corrections),
    }


def prediction_document(
    facts: ModelFacts,
    gpu: Accelerator,
    config: EngineConfig,
    workload: Workload,
    objectives: Objectives,
    prediction: Prediction,
    corrections: Corrections | None = None,
) -> dict[str, Any]:
    """The answer of `plimsoll predict`: the prediction's fields beside what was asked."""
    return {
        "model": facts.name,
        "accelerator": gpu.product,
        "config": plain(config),
        "workload": plain(workload),
        "objectives": plain(objectives),
        **plain(prediction),
        **_observed(corrections),
    }


def recommendation_document(question: Question, answer: Recommendation) -> dict[str, Any]:
    """The answer of `plimsoll recommend`: the recommendation's fields beside what was asked."""
    return {
        "model": question.facts.name,
        "headline": headline(answer, question.workload, question.objectives),
        **plain(answer),
        "engine_arguments": engine_arguments(answer.config),
        **_observed(question.corrections),
        "asked": {
            "accelerators": [gpu.product for gpu in question.accelerators],
            "workload": plain(question.workload),
            "objectives": plain(question.objectives),
            "limits": plain(question.limits),
        },
    }


def _observed(corrections: Corrections | None) -> dict[str, Any]:
    """What --observed was held against: measured, predicted without it and corrected by it."""
    if corrections is None:
        return {}
    return {"observed": [plain(row) for row in corrections.report()]}


def as_text(document: dict[str, Any], form: str) -> str:
    """A document as JSON or YAML, with a newline at the end."""
    if form == "json":
        return json.dumps(document, indent=2) + "\n"
    import yaml

    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def plain(value: Any) -> Any:
    """Plain lists and dictionaries: numbers to six figures, not finite as null; accelerators and facts by name."""
    if isinstance(value, Accelerator):
        return value.product
    if isinstance(value, ModelFacts):
        return value.name
    if is_dataclass(value) and not isinstance(value, type):
        found = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        return found | ({"unused_gib": plain(value.unused_gib)} if isinstance(value, MemoryLedger) else {})
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value

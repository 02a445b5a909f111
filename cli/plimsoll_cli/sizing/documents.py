"""Answers as plain data, for -o json and -o yaml."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import yaml

from plimsoll_recommender import MemoryLedger, Prediction, Recommendation


def ledger_document(ledger: MemoryLedger) -> dict[str, Any]:
    """A ledger as data."""
    return {name: _rounded(value) for name, value in (asdict(ledger) | {"unused_gib": ledger.unused_gib}).items()}


def prediction_document(prediction: Prediction) -> dict[str, Any]:
    """A prediction as data; an endless latency becomes null."""
    return {name: _rounded(value) for name, value in asdict(prediction).items()}


def recommendation_document(recommendation: Recommendation) -> dict[str, Any]:
    """A recommendation as data."""
    answer = {
        "accelerator": recommendation.accelerator.product,
        "config": asdict(recommendation.config),
        "replicas": recommendation.replicas,
        "ledger": ledger_document(recommendation.ledger),
        "predicted_at_rps": recommendation.predicted_at,
        "predicted": asdict(recommendation.predicted),
        "load_line_rps": recommendation.load_line_rps,
        "load_line_concurrency": recommendation.load_line_concurrency,
        "reasons": [asdict(reason) for reason in recommendation.reasons],
        "alternatives": [asdict(alternative) for alternative in recommendation.alternatives],
        "cost": asdict(recommendation.cost),
        "confidence": recommendation.confidence,
        "confidence_why": recommendation.confidence_why,
    }
    return {name: _rounded(value) for name, value in answer.items()}


def as_text(document: dict[str, Any], form: str) -> str:
    """A document as JSON or YAML, with a newline at the end."""
    if form == "json":
        return json.dumps(document, indent=2) + "\n"
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _rounded(value: Any) -> Any:
    """Plain lists and dictionaries, numbers to six figures, what is not finite as null."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value

"""A result as JSON: for machines, for the test record in the cluster."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from plimsoll_api.v1alpha1.base import to_camel
from plimsoll_cli.load.records import LoadResult
from plimsoll_cli.load.statistics import Summary, series


def summary_document(result: LoadResult, summary: Summary) -> dict[str, Any]:
    """The plan and the summary. Durations are seconds, rates per second, shares 0 to 1; null was not measured."""
    plan = result.plan
    document = {
        "label": plan.label,
        "url": plan.url,
        "model": plan.model,
        "api": plan.api,
        "seed": plan.seed,
        "salt": plan.salt,
        "started_at": timestamp(result.started_at),
        "duration": plan.duration,
        "timeout": plan.timeout,
        "objectives": asdict(plan.objectives),
        "summary": {**asdict(summary), "errors": None, "trusted": summary.trusted},
    }
    plain = _plain(document)
    plain["summary"]["errors"] = dict(summary.errors)  # its keys are messages, not field names
    assert isinstance(plain, dict)
    return plain


def full_document(result: LoadResult, summary: Summary) -> dict[str, Any]:
    """The summary document with the series over time."""
    return {**summary_document(result, summary), "series": _plain(asdict(series(result)))}


def timestamp(unix_seconds: float) -> str:
    """RFC 3339 in UTC, to the second, as Kubernetes writes it."""
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _plain(value: Any) -> Any:
    """Only what JSON knows, keys in camel case; what was not measured is null."""
    match value:
        case dict():
            return {to_camel(str(key)): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case np.ndarray():
            return [_plain(item) for item in value.tolist()]
        case float():
            return round(value, 6) if math.isfinite(value) else None
        case _:
            return value

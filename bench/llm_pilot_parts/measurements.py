"""LLM-Pilot's measurements, prices and published predictions, as the data folder holds them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

METHODS: Final = ("LLM-Pilot", "PARIS", "Selecta", "RF", "PerfNetV2", "PerfNet", "Morphling")
"""The published recommenders, each with a file of predictions."""


@dataclass(frozen=True)
class Point:
    """One measurement or one prediction of it.

    Args:
        users: users in the closed loop, each with one request in flight.
        nttft: median time to first token over the request's prompt tokens, milliseconds.
        itl: median time between tokens, milliseconds.
    """

    users: int
    nttft: float
    itl: float


Curve = tuple[Point, ...]
"""Points of one LLM on one GPU profile, users rising."""


@dataclass(frozen=True)
class Requests:
    """What the load generator saw of one run's requests.

    Args:
        prompt, output: mean tokens of those that were answered.
        rate: answered per second.
    """

    prompt: float
    output: float
    rate: float


RunKey = tuple[str, str, int]
"""LLM, GPU profile and users of a run."""

Table = dict[str, dict[str, Curve]]
"""Curves by LLM, then by GPU profile such as `2 x A100`, in the data's order."""


@dataclass(frozen=True)
class Recorded:
    """The data set.

    Args:
        measured: measurements.
        published: predictions of each published recommender.
        scores: (success rate, overspend, S/O) as published, by recommender; shares, not per cent.
        prices: US dollars per hour by GPU profile.
        requests: what was seen of each run's requests; two runs of the predictions have none.
    """

    measured: Table
    published: dict[str, Table]
    scores: dict[str, tuple[float, float, float]]
    prices: dict[str, float]
    requests: dict[RunKey, Requests]


def read(folder: Path) -> Recorded:
    """The data set in a folder (`perf/llm_pilot` of the data)."""
    predictions = {method: _rows(folder / "expected_predictions" / f"{method}.csv") for method in METHODS}
    return Recorded(
        measured=_table(predictions["LLM-Pilot"], ""),
        published={method: _table(rows, "prediction_") for method, rows in predictions.items()},
        scores={
            row[""]: (float(row["success_rate"]) / 100, float(row["overspend"]) / 100, float(row["so_score"]))
            for row in _rows(folder / "expected_recommendation_scores.csv")
        },
        prices={row["GPU"]: float(row["price"]) for row in _rows(folder / "prices.csv")},
        requests={
            (row["model"], f"{row['n_gpus']} x {row['gpu'].upper()}", int(row["users"])): Requests(
                float(row["mean_in"]), float(row["mean_out"]), float(row["req_per_s"])
            )
            for row in _rows(folder / "llm_pilot_aggregated.csv")
        },
    )


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _table(rows: list[dict[str, str]], prefix: str) -> Table:
    found: dict[str, dict[str, list[Point]]] = {}
    for row in rows:
        point = Point(int(row["num_users"]), float(row[f"{prefix}median_nttft"]), float(row[f"{prefix}median_itl"]))
        found.setdefault(row["model"], {}).setdefault(row["gpu"], []).append(point)
    return {
        llm: {profile: tuple(sorted(points, key=lambda point: point.users)) for profile, points in profiles.items()}
        for llm, profiles in found.items()
    }

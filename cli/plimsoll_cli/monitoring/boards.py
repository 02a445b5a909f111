"""The four dashboards: the fleet, one service, its decisions, and the prediction beside the measurement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

from plimsoll_api import series as engine
from plimsoll_api import service_series as own
from plimsoll_api.names import SERIES_NAMESPACE, SERIES_POD, SERIES_SERVICE
from plimsoll_cli.monitoring import rules
from plimsoll_cli.monitoring.panels import (
    DATASOURCE,
    HALF,
    QUARTER,
    SELECTED,
    THIRD,
    WIDE,
    Line,
    board,
    by,
    figure,
    latencies,
    lines,
    rows,
    states,
)

NAME: Final = f"{by(SERIES_NAMESPACE)}/{by(SERIES_SERVICE)}"
CONDITION: Final = f"{own.LABEL_CONDITION}, {own.LABEL_STATUS}, {own.LABEL_REASON}"


def _all(metric: str) -> str:
    """One sample per service, whichever process exposes it."""
    return f"max by ({rules.SERVICE}) ({metric})"


def _one(metric: str, extra: str = "") -> str:
    """The chosen service's."""
    return f"max({metric}{{{SELECTED}{extra}}})"


def _recorded(metric: str) -> str:
    """A recorded series of the chosen service."""
    return f"{metric}{{{SELECTED}}}"


def _engine_sum(metric: str) -> str:
    return f"sum({metric}{{{SELECTED}}})"


def _engine_rate(metric: str) -> str:
    return f"sum(rate({metric}{{{SELECTED}}}[$__rate_interval]))"


def _latency(metric: str, name: str) -> str:
    return f'max({metric}{{{SELECTED},{own.LABEL_LATENCY}="{name}"}})'


def _load_line(span: int) -> Any:
    """The load line as measured and as predicted."""
    measured, predicted = Line(_one(own.LOAD_LINE), "measured"), Line(_one(own.PREDICTED_LOAD_LINE), "predicted")
    return lines("Load line", "Requests per second of one replica.", "reqps", measured, predicted, span=span)


def fleet() -> Any:
    """Every service at a glance."""
    attained = Line(f"sum({rules.JUDGED}) - sum({rules.MISSED})")
    million = f"sum({_all(own.COST_PER_HOUR)}) / (sum({rules.OUTPUT_TOKENS}) * 3600 / 1e6 > 0)"
    return (
        board(
            "plimsoll-fleet", "Plimsoll / Fleet", "All services: who misses, who waits, what it costs.", service=False
        )
        .with_panel(figure("Services", "LLMServices.", "short", Line(f"count({_all(own.WANTED_REPLICAS)})")))
        .with_panel(figure("Requests in time", "Per second, over all services.", "reqps", attained))
        .with_panel(figure("GPUs", "Of all pods that exist.", "short", Line(f"sum({_all(own.GPUS)})")))
        .with_panel(
            figure("Cost per hour", "In the currency of hourlyCost.", "short", Line(f"sum({_all(own.COST_PER_HOUR)})"))
        )
        .with_panel(figure("Cost per 1M output tokens", "At the tokens generated now.", "short", Line(million)))
        .with_panel(
            figure(
                "Operators and detectors that lead",
                "2 when all is well: one of each.",
                "short",
                Line(f"max({own.OPERATOR_LEADER}) + max({own.DETECTOR_LEADER})"),
            )
        )
        .with_panel(
            lines(
                "Attainment",
                "Share of requests that met every objective, at least.",
                "percentunit",
                Line(_all(own.ATTAINMENT), NAME),
            )
        )
        .with_panel(
            lines("Error budget burn, 1 h", "1 spends exactly what is allowed.", "short", Line(rules.burn("1h"), NAME))
        )
        .with_panel(
            lines(
                "Load over the load line",
                "Above 0.85 replicas are added.",
                "percentunit",
                Line(_all(own.LOAD_RATIO), NAME),
            )
        )
        .with_panel(lines("Replicas", "That serve.", "short", Line(_all(own.READY_REPLICAS), NAME), stacked=True))
        .with_panel(
            rows(
                "Conditions",
                "What every service says of itself now.",
                Line(f"max by ({rules.SERVICE}, {CONDITION}) ({own.CONDITION})"),
            )
        )
    )


def service() -> Any:
    """One service: what its users see and what its engines do."""
    burning = Line(_recorded(rules.burn("1h")))
    per_minute = Line(f"{_one(own.ARRIVALS)} * 60", "arrive")
    finished = f"rate({engine.REQUEST_SUCCESS}{{{SELECTED}}}[$__rate_interval])"
    ended = Line(
        f"sum by ({engine.LABEL_FINISHED_REASON}) ({finished}) * 60", f"end: {by(engine.LABEL_FINISHED_REASON)}"
    )
    return (
        board("plimsoll-service", "Plimsoll / Service", "What users see and what the engines do.", service=True)
        .with_panel(figure("Attainment", "Of every objective, at least.", "percentunit", Line(_one(own.ATTAINMENT))))
        .with_panel(figure("Budget burn, 1 h", "1 spends what is allowed.", "short", burning, bad_above=1.0))
        .with_panel(figure("TTFT", "At the percentile.", "s", Line(_latency(own.LATENCY_SECONDS, "ttft"))))
        .with_panel(figure("TPOT", "At the percentile.", "s", Line(_latency(own.LATENCY_SECONDS, "tpot"))))
        .with_panel(figure("Requests", "Per second.", "reqps", Line(_one(own.ARRIVALS))))
        .with_panel(figure("Cost per hour", "Of the pods that exist.", "short", Line(_one(own.COST_PER_HOUR))))
        .with_panel(latencies("TTFT", "From arrival to the first token.", rules.observed(engine.TIME_TO_FIRST_TOKEN)))
        .with_panel(latencies("TPOT", "Mean of each request.", rules.observed(engine.TIME_PER_OUTPUT_TOKEN)))
        .with_panel(latencies("Inter-token latency", "Every token.", rules.observed(engine.INTER_TOKEN_LATENCY)))
        .with_panel(latencies("Whole response", "From arrival to the last token.", rules.observed(engine.E2E_LATENCY)))
        .with_panel(lines("Requests per minute", "Arriving, and ended by reason.", "short", per_minute, ended))
        .with_panel(
            lines(
                "Queue and batch",
                "Requests that wait and that run, over all replicas.",
                "short",
                Line(_engine_sum(engine.WAITING), "wait"),
                Line(_engine_sum(engine.RUNNING), "run"),
            )
        )
        .with_panel(
            lines(
                "KV cache",
                "Share of blocks in use, per replica.",
                "percentunit",
                Line(f"{engine.KV_CACHE_USAGE}{{{SELECTED}}}", by(SERIES_POD)),
            )
        )
        .with_panel(
            lines(
                "Tokens",
                "Per second.",
                "short",
                Line(_engine_rate(engine.PROMPT_TOKENS), "prompt"),
                Line(_engine_rate(engine.GENERATION_TOKENS), "generated"),
            )
        )
    )


def decision() -> Any:
    """Why a service has the replicas it has."""
    changes = (
        dashboard.AnnotationQuery()
        .name("Decisions")
        .datasource(DATASOURCE)
        .enable(True)
        .hide(False)
        .icon_color("blue")
        .expr(f"changes({_recorded(own.WANTED_REPLICAS)}[$__interval]) > 0")
    )
    fixed = f"max_over_time({_one(own.GPUS)}[24h:1m]) * 24"
    used = f"sum_over_time({_one(own.GPUS)}[24h:1m]) / 60"
    return (
        board("plimsoll-decision", "Plimsoll / Decision", "Why a service has the replicas it has.", service=True)
        .annotation(changes)
        .with_panel(
            lines(
                "Replicas",
                "Asked for by the load, allowed by bounds and pace, wanted, serving, and existing.",
                "short",
                Line(_one(own.DESIRED_REPLICAS), "load asks for"),
                Line(_one(own.BOUNDED_REPLICAS), "allowed"),
                Line(_one(own.WANTED_REPLICAS), "wanted"),
                Line(_one(own.READY_REPLICAS), "serving"),
                Line(_one(own.EXISTING_REPLICAS), "existing"),
                span=WIDE,
            )
        )
        .with_panel(
            states(
                "Diagnosis",
                "What the detector says is happening.",
                Line(f"max by ({own.LABEL_DIAGNOSIS}) ({own.DIAGNOSIS}{{{SELECTED}}})", by(own.LABEL_DIAGNOSIS)),
            )
        )
        .with_panel(
            lines(
                "Load over the load line",
                "Per serving replica; above 0.85 replicas are added.",
                "percentunit",
                Line(_one(own.LOAD_RATIO), "load"),
                span=THIRD,
            )
        )
        .with_panel(_load_line(THIRD))
        .with_panel(
            lines(
                "Data",
                "Share of the replicas with fresh data.",
                "percentunit",
                Line(_one(own.DATA_COVERAGE), "coverage"),
                span=THIRD,
            )
        )
        .with_panel(figure("GPU-hours, 24 h", "Of the pods that existed.", "short", Line(used), span=QUARTER))
        .with_panel(
            figure(
                "GPU-hours, fixed at the peak",
                "What a fleet of the day's peak would have used.",
                "short",
                Line(fixed),
                span=QUARTER,
            )
        )
        .with_panel(
            rows(
                "Conditions",
                "Each with its status and reason.",
                Line(f"max by ({CONDITION}) ({own.CONDITION}{{{SELECTED}}})"),
                span=HALF,
            )
        )
    )


def accuracy() -> Any:
    """The recommendation beside what is measured."""

    def beside(title: str, name: str) -> Any:
        return lines(
            title,
            "Measured at the percentile; predicted at the load line; the objective.",
            "s",
            Line(_latency(own.LATENCY_SECONDS, name), "measured"),
            Line(_latency(own.PREDICTED_SECONDS, name), "predicted at the load line"),
            Line(_latency(own.OBJECTIVE_SECONDS, name), "objective"),
        )

    off = f"abs({_one(own.PREDICTED_LOAD_LINE)} - {_one(own.LOAD_LINE)}) / {_one(own.LOAD_LINE)}"
    million = f"{_one(own.COST_PER_HOUR)} / ({_one(rules.OUTPUT_TOKENS)} * 3600 / 1e6 > 0)"
    request = f"{_one(own.COST_PER_HOUR)} / ({_one(own.ARRIVALS)} * 3600 > 0)"
    return (
        board(
            "plimsoll-accuracy",
            "Plimsoll / Recommendation and measurement",
            "How far the recommendation is from what is measured, and what an answer costs.",
            service=True,
        )
        .with_panel(beside("TTFT", "ttft"))
        .with_panel(beside("TPOT", "tpot"))
        .with_panel(_load_line(HALF))
        .with_panel(
            lines("Error of the load line", "|predicted - measured| / measured.", "percentunit", Line(off, "error"))
        )
        .with_panel(lines("Cost per 1M output tokens", "At the tokens generated now.", "short", Line(million, "cost")))
        .with_panel(lines("Cost per request", "At the requests that arrive now.", "short", Line(request, "cost")))
    )


def dashboards() -> Mapping[str, models.Dashboard]:
    """Every dashboard by the name of its file."""
    made = {"fleet": fleet(), "service": service(), "decision": decision(), "accuracy": accuracy()}
    return {f"plimsoll-{name}.json": builder.build() for name, builder in made.items()}

"""Recording rules and alerts as Prometheus loads them (pure).

Every expression aggregates over the processes that expose a series: two operators or detectors run for availability,
and a failover must not double a figure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from plimsoll_api import series as engine
from plimsoll_api import service_series as own
from plimsoll_api.names import SERIES_NAMESPACE, SERIES_SERVICE

SERVICE: Final = f"{SERIES_NAMESPACE}, {SERIES_SERVICE}"

JUDGED: Final = "namespace_llmservice:plimsoll_judged_requests:rate"
"""Requests per second whose attainment is known."""
MISSED: Final = "namespace_llmservice:plimsoll_missed_requests:rate"
"""Requests per second that missed an objective, at most."""
BUDGET: Final = "namespace_llmservice:plimsoll_error_budget:ratio"
"""Share of requests that may miss."""
OUTPUT_TOKENS: Final = "namespace_llmservice:vllm_generation_tokens:rate5m"

RECORDED_LATENCIES: Final = (
    engine.TIME_TO_FIRST_TOKEN,
    engine.TIME_PER_OUTPUT_TOKEN,
    engine.INTER_TOKEN_LATENCY,
    engine.E2E_LATENCY,
)
"""Histograms that dashboards draw."""
LATENCY_WINDOW: Final = "2m"
"""Holds two samples of an engine that is scraped once a minute."""

BURN_WINDOWS: Final = ("5m", "30m", "1h", "6h")


def burn(window: str) -> str:
    """Name of the recorded burn rate over a window: 1 spends the whole budget in the budget's own period."""
    return f"namespace_llmservice:plimsoll_error_budget_burn:{window}"


def observed(histogram: str) -> str:
    """Name of the recorded rate of a service's observations by bucket.

    >>> observed("vllm:time_to_first_token_seconds")
    'namespace_llmservice_le:vllm_time_to_first_token_seconds_bucket:rate2m'
    """
    return f"namespace_llmservice_le:{engine.bucket(histogram).replace(':', '_')}:rate{LATENCY_WINDOW}"


@dataclass(frozen=True)
class Recording:
    """One recording rule."""

    record: str
    expr: str

    def as_rule(self) -> dict[str, Any]:
        """As a rule file has it."""
        return {"record": self.record, "expr": self.expr}


@dataclass(frozen=True)
class Alert:
    """One alert.

    Args:
        name: without the prefix `Plimsoll`; also the runbook's page.
        expr: fires where it has a sample.
        wait: how long it must hold, as Prometheus writes a duration.
        severity: `critical` wakes a person, `warning` is looked at in working hours.
        summary: one line with the labels that say which service.
        description: what it means and what happens meanwhile.
    """

    name: str
    expr: str
    wait: str
    severity: str
    summary: str
    description: str
    labels: dict[str, str] = field(default_factory=dict)

    def as_rule(self) -> dict[str, Any]:
        """As a rule file has it."""
        return {
            "alert": f"Plimsoll{self.name}",
            "expr": self.expr,
            "for": self.wait,
            "labels": {"severity": self.severity, **self.labels},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook": f"docs/runbooks/{self.name}.md",
            },
        }


def _per_service(metric: str, selector: str = "") -> str:
    return f"max by ({SERVICE}) ({metric}{selector})"


def recordings() -> tuple[Recording, ...]:
    """What dashboards and alerts would otherwise compute again and again."""
    arrivals, attainment = _per_service(own.ARRIVALS), _per_service(own.ATTAINMENT)
    matched = f"on ({SERVICE})"
    found = [
        Recording(JUDGED, f"{arrivals} and {matched} {attainment}"),
        Recording(MISSED, f"{arrivals} * {matched} (1 - {attainment})"),
        # An attainment of 1 leaves no budget; a ten-thousandth keeps the division finite.
        Recording(BUDGET, f"clamp_min(1 - {_per_service(own.OBJECTIVE_ATTAINMENT)}, 0.0001)"),
        Recording(OUTPUT_TOKENS, f"sum by ({SERVICE}) (rate({engine.GENERATION_TOKENS}[5m]))"),
    ]
    for histogram in RECORDED_LATENCIES:
        # Twelve hours of 20 buckets of 64 replicas, scraped every 15 s, take Prometheus 3 1.3 s to draw and a week 14
        # times that; recorded over replicas 0.03 s, and 6 ms for each evaluation (measured on two busy cores).
        rate = f"rate({engine.bucket(histogram)}[{LATENCY_WINDOW}])"
        found.append(Recording(observed(histogram), f"sum by ({SERVICE}, {engine.LABEL_BUCKET}) ({rate})"))
    for window in BURN_WINDOWS:
        share = f"avg_over_time({MISSED}[{window}]) / {matched} (avg_over_time({JUDGED}[{window}]) > 0)"
        found.append(Recording(burn(window), f"{share} / {matched} {BUDGET}"))
    return tuple(found)


FAST_BURN: Final = 14.4
"""Spends 2 % of a 30-day budget in an hour (Google SRE Workbook, chapter 5, multiwindow alerts)."""
SLOW_BURN: Final = 6.0
"""Spends 5 % of a 30-day budget in six hours (same source)."""

_WHICH: Final = "{{ $labels.namespace }}/{{ $labels.llmservice }}"


def _burning(short: str, long: str, rate: float) -> str:
    return f"{burn(long)} > {rate:g} and on ({SERVICE}) {burn(short)} > {rate:g}"


def _condition(kind: str, status: str, reason: str = "") -> str:
    selector = f'{own.LABEL_CONDITION}="{kind}",{own.LABEL_STATUS}="{status}"'
    if reason:
        selector += f',{own.LABEL_REASON}="{reason}"'
    return f"max by ({SERVICE}, {own.LABEL_REASON}) ({own.CONDITION}{{{selector}}}) == 1"


def _diagnosis(kind: str) -> str:
    return _per_service(own.DIAGNOSIS, f'{{{own.LABEL_DIAGNOSIS}="{kind}"}}') + " == 1"


def _nobody(leader: str) -> str:
    return f"(max({leader}) or vector(0)) < 1"


def alerts() -> tuple[Alert, ...]:
    """Every alert."""
    return (*_service_alerts(), *_process_alerts())


def _service_alerts() -> tuple[Alert, ...]:
    return (
        Alert(
            "ObjectiveBurnFast",
            _burning("5m", "1h", FAST_BURN),
            "2m",
            "critical",
            f"{_WHICH} misses its objectives {{{{ $value | humanize }}}} times as often as it may",
            "At this rate a month's allowance of late answers is gone in two days. Users notice now.",
        ),
        Alert(
            "ObjectiveBurnSlow",
            _burning("30m", "6h", SLOW_BURN),
            "15m",
            "warning",
            f"{_WHICH} has missed its objectives {{{{ $value | humanize }}}} times as often as it may for hours",
            "At this rate a month's allowance of late answers is gone in five days.",
        ),
        Alert(
            "Blind",
            _diagnosis("Blind"),
            "5m",
            "warning",
            f"{_WHICH} cannot be measured; its replicas are held",
            "The series of its replicas are absent, old or broken. It serves on, and does not scale.",
        ),
        Alert(
            "Stalled",
            _diagnosis("Stalled"),
            "1m",
            "critical",
            f"{_WHICH} has a replica that holds requests and generates nothing",
            "Requests sent to that replica hang. status.diagnosis.pods names it.",
        ),
        Alert(
            "NoAccelerators",
            _condition("Progressing", "False", "Unschedulable"),
            "5m",
            "warning",
            f"{_WHICH} wants replicas for which no node has free GPUs",
            "The replicas that exist serve on. Pending ones count as supply, so nothing more is asked for.",
        ),
        Alert(
            "ConfigRejected",
            _condition("Accepted", "False"),
            "1m",
            "warning",
            f"{_WHICH} is not accepted: {{{{ $labels.reason }}}}",
            "What ran before runs on unchanged. The condition Accepted has the numbers and the fix.",
        ),
        Alert(
            "ScaleContended",
            _condition("ScalingActive", "False", "Contended"),
            "5m",
            "warning",
            f"{_WHICH} has a second scaler: its replicas are left to that one",
            "The condition ScalingActive names the field manager that writes spec.replicas.",
        ),
    )


def _process_alerts() -> tuple[Alert, ...]:
    late = f"sum(increase({own.DETECTOR_LATE_TICKS}[10m])) + sum(increase({own.DETECTOR_FAILED_TICKS}[10m])) > 2"
    return (
        Alert(
            "OperatorNotLeading",
            _nobody(own.OPERATOR_LEADER),
            "2m",
            "critical",
            "no operator leads: changes of LLMServices are not acted on",
            "What runs serves on. New and changed services wait.",
        ),
        Alert(
            "DetectorNotLeading",
            _nobody(own.DETECTOR_LEADER),
            "2m",
            "critical",
            "no detector leads: nothing scales",
            "Every service keeps the replicas it has.",
        ),
        Alert(
            "DetectorLate",
            late,
            "5m",
            "warning",
            "the detector's ticks are late or fail",
            "Decisions come later than the interval says, or not at all.",
        ),
    )


def rule_groups() -> dict[str, Any]:
    """The rule file: `groups` of a PrometheusRule's spec."""
    return {
        "groups": [
            {"name": "plimsoll.recording", "rules": [rule.as_rule() for rule in recordings()]},
            {"name": "plimsoll.alerts", "rules": [alert.as_rule() for alert in alerts()]},
        ]
    }

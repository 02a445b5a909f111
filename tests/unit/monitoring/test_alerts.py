"""Every alert fires on what it is for and is quiet otherwise, as promtool judges it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from plimsoll_api import series as engine
from plimsoll_api import service_series as own
from plimsoll_cli.monitoring import rules
from plimsoll_cli.monitoring.files import rules_text
from plimsoll_cli.sandbox import binaries

SERVICE = 'namespace="ml",llmservice="chat"'
OPERATOR = 'pod="operator-0"'


@dataclass(frozen=True)
class Case:
    """Series that make an alert fire, and the same world in which it must not.

    Args:
        alert: its name.
        firing: series -> values, a minute apart.
        quiet: the same, in a world without the trouble.
        at: when to look.
    """

    alert: str
    firing: dict[str, str]
    quiet: dict[str, str]
    at: str = "20m"


def _state(series: str, value: str = "1+0x400") -> dict[str, str]:
    return {series: value}


def _traffic(attainment: str) -> dict[str, str]:
    return {
        f"{own.ARRIVALS}{{{SERVICE},{OPERATOR}}}": "10+0x400",
        f"{own.ATTAINMENT}{{{SERVICE},{OPERATOR}}}": attainment,
        f"{own.OBJECTIVE_ATTAINMENT}{{{SERVICE}}}": "0.99+0x400",
    }


def _condition(kind: str, status: str, reason: str) -> dict[str, str]:
    return _state(f'{own.CONDITION}{{{SERVICE},type="{kind}",status="{status}",reason="{reason}"}}')


def _diagnosis(kind: str) -> dict[str, str]:
    return {
        f'{own.DIAGNOSIS}{{{SERVICE},kind="{kind}"}}': "1+0x400",
        f'{own.DIAGNOSIS}{{{SERVICE},kind="Normal"}}': "0+0x400",
    }


CASES = (
    Case("ObjectiveBurnFast", _traffic("0.8+0x400"), _traffic("0.999+0x400"), "1h30m"),
    Case("ObjectiveBurnSlow", _traffic("0.9+0x400"), _traffic("0.96+0x400"), "6h30m"),
    Case("Blind", _diagnosis("Blind"), _diagnosis("Overload")),
    Case("Stalled", _diagnosis("Stalled"), _diagnosis("Degraded")),
    Case(
        "NoAccelerators",
        _condition("Progressing", "False", "Unschedulable"),
        _condition("Progressing", "False", "Complete"),
    ),
    Case("ConfigRejected", _condition("Accepted", "False", "Infeasible"), _condition("Accepted", "True", "Accepted")),
    Case(
        "ScaleContended",
        _condition("ScalingActive", "False", "Contended"),
        _condition("ScalingActive", "False", "Manual"),
    ),
    # Of two operators one leads; none may be left, and a name that nobody exposes is not quiet.
    Case(
        "OperatorNotLeading",
        {f'{own.OPERATOR_LEADER}{{pod="a"}}': "0+0x400", f'{own.OPERATOR_LEADER}{{pod="b"}}': "0+0x400"},
        {f'{own.OPERATOR_LEADER}{{pod="a"}}': "0+0x400", f'{own.OPERATOR_LEADER}{{pod="b"}}': "1+0x400"},
    ),
    Case("DetectorNotLeading", {}, {f'{own.DETECTOR_LEADER}{{pod="a"}}': "1+0x400"}),
    Case(
        "DetectorLate",
        {
            own.DETECTOR_LATE_TICKS: "0+1x400",
            own.DETECTOR_FAILED_TICKS: "0+0x400",
        },
        {
            own.DETECTOR_LATE_TICKS: "7+0x400",
            own.DETECTOR_FAILED_TICKS: "2+0x400",
        },
    ),
)


def test_every_alert_has_a_case() -> None:
    """A new alert without one is not finished."""
    assert {case.alert for case in CASES} == {alert.name for alert in rules.alerts()}


def judged(folder: Path, case: Case, series: dict[str, str], *, fires: bool) -> subprocess.CompletedProcess[str]:
    """promtool's verdict on one world."""
    (folder / "rules.yaml").write_text(rules_text())
    question: dict[str, Any] = {"eval_time": case.at, "alertname": f"Plimsoll{case.alert}", "exp_alerts": []}
    expression = f'count(ALERTS{{alertname="Plimsoll{case.alert}",alertstate="firing"}}) or vector(0)'
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {"expr": expression, "eval_time": case.at, "exp_samples": [{"labels": "{}", "value": int(fires)}]}
                ],
                **({} if fires else {"alert_rule_test": [question]}),
            }
        ],
    }
    path = folder / "test.yaml"
    path.write_text(yaml.safe_dump(test))
    promtool = binaries.resolve("promtool")
    return subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_it_fires(case: Case, tmp_path: Path) -> None:
    """On what it is for."""
    verdict = judged(tmp_path, case, case.firing, fires=True)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_it_is_quiet(case: Case, tmp_path: Path) -> None:
    """On its neighbour."""
    verdict = judged(tmp_path, case, case.quiet, fires=False)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def test_a_failover_does_not_double_a_burn(tmp_path: Path) -> None:
    """Two detectors that show the same service count once."""
    case = CASES[0]
    twice = case.quiet | {name.replace("operator-0", "operator-1"): values for name, values in case.quiet.items()}
    verdict = judged(tmp_path, case, twice, fires=False)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def test_the_judge_can_say_no(tmp_path: Path) -> None:
    """The control: a quiet world that is claimed to fire."""
    assert judged(tmp_path, CASES[2], CASES[2].quiet, fires=True).returncode != 0


@pytest.mark.parametrize("histogram", rules.RECORDED_LATENCIES)
def test_latencies_are_recorded_over_replicas(histogram: str, tmp_path: Path) -> None:
    """By bucket, whatever pods and engines a service has."""
    (tmp_path / "rules.yaml").write_text(rules_text())
    bucket = engine.bucket(histogram)
    rising = {
        f'{bucket}{{{SERVICE},pod="{pod}",le="{edge}"}}': f"0+{count}x60"
        for pod, counts in {"a": (60, 120), "b": (180, 240)}.items()
        for edge, count in zip(("0.1", "+Inf"), counts, strict=True)
    }
    expected = [
        {"labels": f'{rules.observed(histogram)}{{{SERVICE},le="{edge}"}}', "value": value}
        for edge, value in (("0.1", 4), ("+Inf", 6))
    ]
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in rising.items()],
                "promql_expr_test": [{"expr": rules.observed(histogram), "eval_time": "10m", "exp_samples": expected}],
            }
        ],
    }
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump(test))
    promtool = binaries.resolve("promtool")
    verdict = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, check=False)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    """Syntax, names and templates."""
    path = tmp_path / "rules.yaml"
    path.write_text(rules_text())
    promtool = binaries.resolve("promtool")
    checked = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr

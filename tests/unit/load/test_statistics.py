"""The summary of records made by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rich.console import Console

from plimsoll_cli.load import LoadPlan, LoadResult, Objectives, Outcome, summarise
from plimsoll_cli.load.document import full_document, summary_document
from plimsoll_cli.load.histogram import Histogram
from plimsoll_cli.load.records import Record, Records
from plimsoll_cli.load.statistics import LAG_LIMIT_SECONDS, meets, series
from plimsoll_cli.load.terminal import is_met, summary_view
from plimsoll_simulator.traffic import Request


def record(at: float, ttft: float, tpot: float, outcome: Outcome = Outcome.COMPLETED, lag: float = 0.001) -> Record:
    made = Record(at, 100, 11, dispatched=at + lag, sent=at + lag, outcome=outcome, status=200)
    if outcome in (Outcome.COMPLETED, Outcome.TRUNCATED):
        made.first_token, made.last_token, made.tokens = at + ttft, at + ttft + 10 * tpot, 11
    made.ended = at + ttft + 10 * tpot
    made.error = "" if outcome is Outcome.COMPLETED else outcome.name.lower()
    return made


def result(records: list[Record], duration: float = 10.0, **objectives: float) -> LoadResult:
    requests = tuple(Request(r.scheduled, r.input_tokens, r.output_tokens) for r in records)
    plan = LoadPlan("http://x", "m", requests, duration, objectives=Objectives(**objectives), salt=1)  # type: ignore[arg-type]
    elapsed = max([duration, *(r.ended for r in records if np.isfinite(r.ended))])
    return LoadResult(plan, 1_700_000_000.0, elapsed, False, Records.of(records), Histogram(), Histogram())


def test_attainment_is_joint_and_counts_every_miss() -> None:
    records = [
        record(0, 0.1, 0.01),
        record(1, 0.9, 0.01),  # too late
        record(2, 0.1, 0.09),  # too slow
        record(3, 0.1, 0.01, Outcome.TRUNCATED),
        record(4, 0.1, 0.01, Outcome.FAILED),
        record(5, 0.1, 0.01, Outcome.TIMED_OUT),
        record(6, 0.1, 0.01, Outcome.ABANDONED),
        Record(7, 100, 11),  # never sent
    ]
    test = result(records, ttft=0.5, tpot=0.05)
    assert meets(test.records, test.plan.objectives).tolist() == [True] + [False] * 7
    summary = summarise(test)
    assert summary.attainment == pytest.approx(1 / 6)
    assert summary.goodput == pytest.approx(0.1)
    assert (summary.sent, summary.completed, summary.misses, summary.abandoned) == (7, 3, 3, 1)
    assert summary.ttft.count == 4
    assert summary.tpot.count == 3
    assert summary.errors == {"truncated": 1, "failed": 1, "timed_out": 1, "abandoned": 1}


def test_percentiles_are_of_the_latencies() -> None:
    summary = summarise(result([record(i / 10, 0.1 + i / 1000, 0.02) for i in range(101)], percentile=90))
    assert summary.ttft.p50 == pytest.approx(0.15)
    assert summary.ttft.p99 == pytest.approx(0.199)
    assert summary.ttft.maximum == pytest.approx(0.2)
    assert summary.ttft_from_send.p50 == pytest.approx(0.149)
    assert summary.tpot.p95 == pytest.approx(0.02)
    assert summary.e2e.p50 == pytest.approx(0.35)
    assert summary.at_percentile["ttft"] == pytest.approx(0.19)


def test_a_single_token_cannot_miss_the_time_per_token() -> None:
    one = record(0, 0.1, 0.0)
    one.tokens, one.last_token = 1, one.first_token
    summary = summarise(result([one], tpot=0.001))
    assert (summary.attainment, summary.tpot.count) == (1.0, 0)


def test_an_objective_is_held_against_every_request() -> None:
    """Ten answers within 100 ms and ten that never came: the answered ones alone would say that it is met."""
    records = [record(i, 0.1, 0.01) for i in range(10)]
    records += [record(i, 0.1, 0.01, Outcome.TIMED_OUT) for i in range(10, 20)]
    objectives = Objectives(ttft=0.5, e2e=0.1)
    summary = summarise(result(records, ttft=0.5, e2e=0.1))
    assert summary.within == {"ttft": 0.5, "e2e": 0.0}
    assert summary.at_percentile["ttft"] == pytest.approx(0.1)
    assert not is_met("ttft", summary, objectives)
    assert is_met("ttft", summarise(result(records[:10], ttft=0.5)), objectives)


def test_own_lag_decides_whether_figures_are_trusted() -> None:
    assert summarise(result([record(0, 0.1, 0.01)])).trusted
    assert not summarise(result([record(0, 0.1, 0.01, lag=2 * LAG_LIMIT_SECONDS)])).trusted


def test_no_requests_have_no_attainment() -> None:
    summary = summarise(result([Record(7, 100, 11)]))
    assert summary.attainment is None
    assert summary.ttft.p50 is None
    json.dumps(summary_document(result([Record(7, 100, 11)]), summary), allow_nan=False)


def test_a_servers_words_are_shown_as_they_are() -> None:
    """Brackets in them are no markup: not lost, and no crash after a whole run."""
    said = ["conversation must end with [/INST]", "1 validation error [type=missing] :warning:"]
    records = [record(i, 0.1, 0.01, Outcome.FAILED) for i in range(2)]
    for one, text in zip(records, said, strict=True):
        one.error = text
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(summary_view(summarise(result(records)), Objectives()))
    assert all(text in capture.get() for text in said)


def test_the_series_adds_up() -> None:
    records = [record(i / 2, 0.2, 0.05) for i in range(60)]
    records[10].outcome = Outcome.FAILED
    test = result(records, duration=30)
    over_time = series(test, 5)
    assert over_time.offered.sum() * 5 == pytest.approx(60)
    assert over_time.completed.sum() * 5 == pytest.approx(59)
    assert over_time.failed.sum() * 5 == pytest.approx(1)
    assert over_time.in_flight[-1] == 0
    assert over_time.ttft_p50[0] == pytest.approx(0.2)
    assert np.isnan(over_time.ttft_p50[-1])
    assert sum(summarise(test).requests_per_minute) == 60


def test_the_document_is_plain_json_in_camel_case() -> None:
    test = result([record(0, 0.1, 0.01), record(1, 0.1, 0.01, Outcome.FAILED)], ttft=0.5)
    document = json.loads(json.dumps(full_document(test, summarise(test)), allow_nan=False))
    assert document["startedAt"] == "2023-11-14T22:13:20Z"
    assert document["objectives"]["ttft"] == 0.5
    assert document["summary"]["ttftFromSend"]["count"] == 1
    assert document["summary"]["errors"] == {"failed": 1}
    assert document["summary"]["trusted"] is True
    assert len(document["series"]["at"]) == len(document["series"]["offered"])
    assert "apiKey" not in json.dumps(document)

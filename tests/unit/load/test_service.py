"""What `--service` reads and writes, without a cluster."""

from __future__ import annotations

import json

import pytest

from plimsoll_api.v1alpha1 import TokenLengths, Workload
from plimsoll_cli.errors import CommandError
from plimsoll_cli.load import LoadPlan, LoadResult, Objectives, Outcome, summarise
from plimsoll_cli.load.arrivals import TrafficOptions, traffic_of
from plimsoll_cli.load.histogram import Histogram
from plimsoll_cli.load.records import Record, Records
from plimsoll_cli.load.service import Target, cluster_url, config_map, status_patch, with_workload

WORKLOAD = Workload(
    input_tokens=TokenLengths(mean=100, p95=9000), output_tokens=TokenLengths(mean=50), requests_per_second="3"
)
TARGET = Target("ml", "chat", "uid-1", "http://10.0.0.1:8000", "chat", Objectives(ttft=1, tpot=1), WORKLOAD, 4096)


def result(outcome: Outcome) -> LoadResult:
    record = Record(0, 10, 5, 0, 0, 0.1, 0.5, 0.5, tokens=5, status=200, outcome=outcome)
    plan = LoadPlan("http://x", "m", (), 10, objectives=TARGET.objectives, salt=1, api_key="secret")
    return LoadResult(plan, 1_700_000_000.0, 10, False, Records.of([record]), Histogram(), Histogram())


def test_nothing_given_means_the_service_s_own_workload() -> None:
    options = with_workload(TrafficOptions(seed=1), TARGET)
    assert (options.shape, options.rate, options.duration, options.context) == ("poisson", 3.0, 60.0, 4096)
    assert (options.input_tokens, options.output_tokens) == ("100:386", "50:125.0")
    assert traffic_of(options).requests


def test_a_bursty_workload_is_a_gamma_shape() -> None:
    bursty = Target("ml", "c", "u", "http://x", "c", Objectives(), Workload(burstiness="2.5"), None)
    options = with_workload(TrafficOptions(seed=1, duration=30), bursty)
    assert (options.shape, options.cv, options.duration) == ("gamma", 2.5, 30)


def test_what_was_given_stays() -> None:
    given = TrafficOptions(seed=1, shape="poisson", rate=9, duration=5, input_tokens="7", context=64)
    options = with_workload(given, TARGET)
    assert (options.rate, options.input_tokens, options.output_tokens, options.context) == (9, "7", "50:125.0", 64)


def test_a_published_shape_keeps_its_lengths() -> None:
    options = with_workload(TrafficOptions(seed=1, shape="azure2023-conv"), TARGET)
    assert (options.input_tokens, options.rate) == (None, None)


@pytest.mark.parametrize(
    ("front", "url"),
    [
        ({"spec": {"clusterIP": "10.1.2.3", "ports": [{"name": "http", "port": 81}]}}, "http://10.1.2.3:81"),
        ({"spec": {"clusterIP": "fd00::1", "ports": []}}, "http://[fd00::1]:8000"),
    ],
)
def test_the_address_is_the_cluster_s(front: dict[str, object], url: str) -> None:
    assert cluster_url(front, "ml/chat") == url


@pytest.mark.parametrize("front", [None, {"spec": {"clusterIP": "None"}}])
def test_a_service_without_an_address_says_what_to_do(front: dict[str, object] | None) -> None:
    with pytest.raises(CommandError, match="give --url"):
        cluster_url(front, "ml/chat")


def test_the_record_names_its_service_and_keeps_no_secret() -> None:
    test = result(Outcome.COMPLETED)
    record = config_map(TARGET, test, summarise(test))
    assert record["metadata"]["name"] == "chat-load-20231114221320"
    assert record["metadata"]["labels"]["plimsoll.dev/service"] == "chat"
    assert record["metadata"]["ownerReferences"][0]["uid"] == "uid-1"
    assert json.loads(record["data"]["summary.json"])["summary"]["completed"] == 1
    assert "secret" not in json.dumps(record)


def test_the_status_states_the_test() -> None:
    test = result(Outcome.COMPLETED)
    patch = status_patch(TARGET, test, summarise(test), "chat-load-1")
    assert patch is not None
    assert patch["status"]["loadTest"] == {
        "at": "2023-11-14T22:13:20Z",
        "configMap": "chat-load-1",
        "requests": 1,
        "failed": 0,
        "truncated": 0,
        "attainment": "1",
        "ttft": "100ms",
        "tpot": "100ms",
    }


def test_a_test_without_an_answer_states_no_latency() -> None:
    test = result(Outcome.FAILED)
    assert status_patch(TARGET, test, summarise(test), "chat-load-1") is None

"""Settings, logs, metrics, liveness, workers: what surrounds the reconcile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import generate_latest

from plimsoll_kube.errors import ApiUnavailable, Conflict
from plimsoll_kube.resources import DEPLOYMENT, LLM_SERVICE, POD
from plimsoll_operator import events
from plimsoll_operator.liveness import LOOP_LAG_S, OLDEST_KEY_S, WATCHER_GRACE_S, Liveness, Vitals
from plimsoll_operator.metrics import Metrics, Pulse
from plimsoll_operator.reconciler import Outcome
from plimsoll_operator.settings import Settings, parse_settings
from plimsoll_operator.workers import resync, work
from plimsoll_operator.workqueue import WorkQueue


def test_defaults_and_flags() -> None:
    assert parse_settings([], {}) == Settings()
    given = parse_settings(["--namespace", "a", "--namespace", "b", "--lease-duration", "3s", "--health-port=0"], {})
    assert (given.namespaces, given.lease_duration, given.health_port) == (("a", "b"), 3.0, 0)


def test_every_flag_has_a_variable() -> None:
    given = parse_settings(
        [], {"PLIMSOLL_ENGINE_IMAGE": "x", "PLIMSOLL_NAMESPACE": "a,b", "PLIMSOLL_METRICS_PORT": "0"}
    )
    assert (given.engine_image, given.namespaces, given.metrics_port) == ("x", ("a", "b"), 0)
    assert parse_settings(["--engine-image=y"], {"PLIMSOLL_ENGINE_IMAGE": "x"}).engine_image == "y"


def test_a_bad_duration_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings(["--lease-duration", "soon"], {})
    assert "'soon' is not a duration" in capsys.readouterr().err


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


WELL = Vitals(True, frozenset({"llmservices", "pods"}), oldest_key=0.0, resync_age=0.0, loop_lag=0.0)


@pytest.fixture
def liveness() -> tuple[Liveness, Clock]:
    clock = Clock()
    return Liveness([LLM_SERVICE, POD], lambda resource: resource.plural, 300.0, clock), clock


def test_a_dead_watcher_is_noticed_after_its_grace(liveness: tuple[Liveness, Clock]) -> None:
    judge, clock = liveness
    dead = Vitals(True, frozenset({"pods"}), 0.0, 0.0, 0.0)
    assert judge.problems(WELL) == []
    assert judge.problems(dead) == []
    clock.now = WATCHER_GRACE_S + 1
    assert judge.problems(dead) == ["nothing has watched llmservices for 61 s (limit 60 s)"]
    assert judge.problems(WELL) == []
    assert judge.problems(dead) == []


@pytest.mark.parametrize(
    ("vitals", "word"),
    [
        (Vitals(True, WELL.watched, OLDEST_KEY_S + 1, 0.0, 0.0), "waited"),
        (Vitals(True, WELL.watched, 0.0, 961.0, 0.0), "resync"),
        (Vitals(False, frozenset(), 0.0, 0.0, LOOP_LAG_S + 1), "event loop"),
    ],
)
def test_what_is_overdue_is_said(liveness: tuple[Liveness, Clock], vitals: Vitals, word: str) -> None:
    (problem,) = liveness[0].problems(vitals)
    assert word in problem


def test_a_standby_has_nothing_overdue(liveness: tuple[Liveness, Clock]) -> None:
    judge, clock = liveness
    for clock.now in (0.0, 1000.0):
        assert judge.problems(Vitals(False, frozenset(), 1e6, 1e6, 0.0)) == []


def test_watchers_are_named_as_kopf_names_them() -> None:
    assert events.watcher_name(LLM_SERVICE) == "llmservices.v1alpha1.plimsoll.dev"
    assert events.watcher_name(DEPLOYMENT) == "deployments.v1.apps"
    assert events.watcher_name(POD) == "pods.v1"


async def test_running_watchers_are_read_from_the_tasks() -> None:
    task = asyncio.create_task(asyncio.sleep(60), name="watcher for pods.v1@None")
    assert "pods.v1" in events.watchers()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "pods.v1" not in events.watchers()


def test_only_a_new_spec_is_news() -> None:
    seen = events._Generations()

    def item(generation: int, **extra: Any) -> dict[str, Any]:
        return {"metadata": {"namespace": "ml", "name": "a", "uid": "u", "generation": generation, **extra}}

    assert seen.news(None, item(1))
    assert not seen.news("MODIFIED", item(1))
    assert seen.news(None, item(1)), "a list may have missed something"
    assert seen.news("MODIFIED", item(2))
    assert seen.news("MODIFIED", item(2, deletionTimestamp="now"))
    assert seen.news("DELETED", item(2))
    assert seen.news("ADDED", item(2))
    stalled = {**item(2), "status": {"diagnosis": {"kind": "Stalled", "pods": ["a-1"]}}}
    assert seen.news("MODIFIED", stalled), "a replica is to be replaced"
    assert not seen.news("MODIFIED", stalled)
    assert not seen.news("MODIFIED", {**stalled, "status": {**stalled["status"], "observed": {"running": "3"}}})


class Scripted:
    """A reconciler that answers as told."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    async def reconcile(self, key: Any) -> Outcome:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Outcome)
        return answer


async def finished(queue: WorkQueue[Any], reconciler: Any, metrics: Metrics) -> str:
    """Work until nothing is due, and return the metrics."""
    task = asyncio.create_task(work(queue, reconciler, metrics))
    while len(queue) or queue.working:
        await asyncio.sleep(0)
    queue.close()
    await task
    return generate_latest(metrics.registry).decode()


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (ApiUnavailable(503, "", ""), "api_error"),
        (Conflict(409, "", ""), "conflict"),
        (RuntimeError("bug"), "error"),
    ],
)
async def test_an_error_becomes_a_later_try(error: Exception, result: str) -> None:
    queue: WorkQueue[Any] = WorkQueue(Clock())  # on which the later try never comes due
    queue.add(("ml", "a"))
    text = await finished(queue, Scripted(error), Metrics())
    assert f'plimsoll_reconcile_total{{result="{result}"}} 1.0' in text
    assert queue.counts.retries == 1


async def test_metrics_of_a_service_come_and_go() -> None:
    queue: WorkQueue[Any] = WorkQueue()
    metrics = Metrics()
    metrics.show(queue, Pulse())
    metrics.observe_request("apply", 200, 0.01)
    metrics.services.show(("ml", "a"), Outcome("reconciled", ready=1, wanted=3, status={"replicas": 4}))
    text = generate_latest(metrics.registry).decode()
    assert 'plimsoll_service_wanted_replicas{llmservice="a",namespace="ml"} 3.0' in text
    assert 'plimsoll_service_existing_replicas{llmservice="a",namespace="ml"} 4.0' in text
    assert 'plimsoll_api_requests_total{code="200",verb="apply"} 1.0' in text
    assert "plimsoll_workqueue_depth 0.0" in text
    metrics.services.show(("ml", "a"), Outcome("gone"))
    assert "plimsoll_service_wanted_replicas{" not in generate_latest(metrics.registry).decode()


async def test_a_resync_adds_every_service(fake_kube: Any, service: Any) -> None:
    for name in ("a", "b"):
        fake_kube.put(service(name))
    queue: WorkQueue[Any] = WorkQueue()
    task = asyncio.create_task(resync(fake_kube, queue, Pulse(), (), 1000.0))
    while queue.counts.adds < 2:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert queue.counts.adds == 2

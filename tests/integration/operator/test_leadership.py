"""Two operators, one acts; a killed one is followed, a stopped one leaves at once."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("operator"), pytest.mark.timeout(300)]

LEASE = ("get", "lease", "plimsoll-operator", "-n", "plimsoll-system", "-o", "jsonpath={.spec.holderIdentity}")
FOLLOWED_SECONDS = 60.0
"""A Lease of 10 s and a try every 1.3 s; a busy machine gets five times that."""
TRIES = 2


def test_one_of_two_acts_and_the_other_follows_a_kill(eventually: Any, start: Any, services: Any) -> None:
    arguments = ("--namespace", services.namespace)
    with start(*arguments) as first:
        eventually(lambda: first.leading)
        with start(*arguments) as second:
            services.apply()
            eventually(services.settled)
            eventually(services.at_rest)
            eventually(lambda: second.fetch("health", "/readyz") == "ok")
            tried = second.gets()
            eventually(lambda: second.gets() >= tried + TRIES)  # it has tried to lead
            assert not second.leading
            written = len(services.writes())
            first.kill()
            killed = time.monotonic()
            eventually(lambda: second.leading)
            assert time.monotonic() - killed < FOLLOWED_SECONDS
            services.run("scale", "llm/chat", "--replicas=3")
            eventually(lambda: services.get("deployment", "chat-engine")["spec"]["replicas"] == 3)
            eventually(services.settled)
            eventually(services.at_rest)
            again = [entry for entry in services.writes()[written:] if "events" not in entry]
            assert again == ["patch deployments/ chat-engine", "patch llmservices/status chat"]


def test_a_stopped_one_gives_the_lease_back(eventually: Any, start: Any, services: Any) -> None:
    with start("--namespace", services.namespace) as operator:
        eventually(lambda: operator.leading)
        assert operator.stop() == 0
    assert services.kubectl(*LEASE) == ""


def test_one_whose_lease_was_taken_ends(eventually: Any, start: Any, services: Any) -> None:
    with start("--namespace", services.namespace) as operator:
        eventually(lambda: operator.leading)
        services.kubectl(
            "patch", "lease", "plimsoll-operator", "-n", "plimsoll-system", "--type=merge",
            "-p", '{"spec":{"holderIdentity":"somebody"}}',
        )  # fmt: skip
        assert operator.process.wait(60) == 1
        assert any(line["event"] == "leadership lost" for line in operator.lines())
    services.kubectl("delete", "lease", "plimsoll-operator", "-n", "plimsoll-system")

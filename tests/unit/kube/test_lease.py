"""One leads, and stops before another may."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from plimsoll_kube.errors import ApiUnavailable
from plimsoll_kube.lease import Leadership, LeadershipLostError, LeaseTerms
from plimsoll_kube.resources import LEASE

DURATION_S = 15.0


def claim(kube: Any, identity: str) -> Leadership:
    return Leadership(kube, LeaseTerms("system", "plimsoll", identity, DURATION_S), asyncio.get_running_loop().time)


def holder(kube: Any) -> str:
    return str(kube.see(LEASE, "system", "plimsoll")["spec"]["holderIdentity"])


def test_the_first_leads_and_the_second_waits_for_its_release(fake_kube: Any, in_virtual_time: Any) -> None:
    async def scenario() -> None:
        first, second = claim(fake_kube, "a"), claim(fake_kube, "b")
        await first.acquire()
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(DURATION_S / 2)
        assert (holder(fake_kube), waiting.done()) == ("a", False)
        await first.release()
        await waiting
        assert holder(fake_kube) == "b"
        assert fake_kube.see(LEASE, "system", "plimsoll")["spec"]["leaseTransitions"] == 2

    in_virtual_time(scenario())


def test_a_renewal_that_was_cut_off_when_it_was_written_is_released_too(fake_kube: Any, in_virtual_time: Any) -> None:
    """The process is told to stop while the answer to a renewal is on its way."""

    async def scenario() -> None:
        leader = claim(fake_kube, "a")
        await leader.acquire()

        def cut_off(_: int, verb: str, *rest: str) -> None:
            if verb == "update":
                fake_kube.after = lambda *_: None
                raise asyncio.CancelledError

        fake_kube.after = cut_off
        with pytest.raises(asyncio.CancelledError):
            await leader.hold()
        await leader.release()
        assert holder(fake_kube) == ""

    in_virtual_time(scenario())


def test_what_somebody_else_took_meanwhile_is_not_released(fake_kube: Any, in_virtual_time: Any) -> None:
    async def scenario() -> None:
        leader = claim(fake_kube, "a")
        await leader.acquire()
        fake_kube.put(LEASE.manifest("system", "plimsoll", spec={"holderIdentity": "b"}))
        await leader.release()
        assert holder(fake_kube) == "b"

    in_virtual_time(scenario())


def test_a_dead_leaders_lease_runs_out(fake_kube: Any, in_virtual_time: Any) -> None:
    async def scenario() -> None:
        await claim(fake_kube, "a").acquire()
        began = asyncio.get_running_loop().time()
        await claim(fake_kube, "b").acquire()
        assert holder(fake_kube) == "b"
        assert asyncio.get_running_loop().time() - began >= DURATION_S

    in_virtual_time(scenario())


def test_a_leader_keeps_renewing(fake_kube: Any, in_virtual_time: Any) -> None:
    async def scenario() -> None:
        leader = claim(fake_kube, "a")
        await leader.acquire()
        before = fake_kube.see(LEASE, "system", "plimsoll")["spec"]["renewTime"]
        holding = asyncio.create_task(leader.hold())
        await asyncio.sleep(DURATION_S)
        assert not holding.done()
        assert fake_kube.see(LEASE, "system", "plimsoll")["spec"]["renewTime"] > before
        holding.cancel()

    in_virtual_time(scenario())


def test_a_leader_whose_lease_was_taken_stops(fake_kube: Any, in_virtual_time: Any) -> None:
    async def scenario() -> None:
        leader = claim(fake_kube, "a")
        await leader.acquire()
        fake_kube.put(LEASE.manifest("system", "plimsoll", spec={"holderIdentity": "b"}))
        with pytest.raises(LeadershipLostError, match="held by b"):
            await leader.hold()
        assert not leader.leading
        await leader.release()
        assert holder(fake_kube) == "b", "what is not ours is not released"

    in_virtual_time(scenario())


def test_a_leader_that_cannot_renew_stops_before_the_lease_is_free(fake_kube: Any, in_virtual_time: Any) -> None:
    async def scenario() -> None:
        leader = claim(fake_kube, "a")
        await leader.acquire()

        def away(*_: Any) -> None:
            raise ApiUnavailable(0, "NoAnswer", "away")

        fake_kube.before = away
        began = asyncio.get_running_loop().time()
        with pytest.raises(LeadershipLostError, match="not renewed for"):
            await leader.hold()
        assert asyncio.get_running_loop().time() - began < DURATION_S + 0.1

    in_virtual_time(scenario())


def test_a_blip_does_not_cost_the_lead(fake_kube: Any, in_virtual_time: Any) -> None:
    async def scenario() -> None:
        leader = claim(fake_kube, "a")
        await leader.acquire()
        holding = asyncio.create_task(leader.hold())
        failures = iter([True])

        def blip(*_: Any) -> None:
            if next(failures, False):
                raise ApiUnavailable(503, "", "blip")

        fake_kube.before = blip
        await asyncio.sleep(DURATION_S)
        assert not holding.done()
        holding.cancel()

    in_virtual_time(scenario())


def test_two_claims_at_once_have_one_winner(fake_kube: Any, in_virtual_time: Any) -> None:
    async def scenario() -> None:
        claims = [claim(fake_kube, name) for name in "abcde"]
        tasks = [asyncio.create_task(one.acquire()) for one in claims]
        await asyncio.sleep(DURATION_S / 3)
        assert sum(one.leading for one in claims) == 1
        for task in tasks:
            task.cancel()

    in_virtual_time(scenario())


def test_a_lease_that_was_deleted_is_made_again(fake_kube: Any, in_virtual_time: Any) -> None:
    async def scenario() -> None:
        leader = claim(fake_kube, "a")
        await leader.acquire()
        fake_kube.remove(LEASE, "system", "plimsoll")
        holding = asyncio.create_task(leader.hold())
        await asyncio.sleep(DURATION_S)
        assert not holding.done()
        assert holder(fake_kube) == "a"
        holding.cancel()

    in_virtual_time(scenario())

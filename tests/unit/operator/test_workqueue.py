"""Each key once, by one worker at a time; the urgent first; failures later and later."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_operator.workqueue import FIRST_BACKOFF_S, LONGEST_BACKOFF_S, WorkQueue


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def drained(queue: WorkQueue[str]) -> list[str]:
    """Every key that is due, in the order of being taken."""
    taken = []
    while len(queue):
        key = await queue.get()
        assert key is not None
        taken.append(key)
        queue.done(key)
    return taken


async def test_a_burst_is_one_key() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(100):
        queue.add("a")
    assert await drained(queue) == ["a"]


async def test_a_key_changed_while_worked_on_is_worked_on_once_more() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await drained(queue) == ["a"]


async def test_the_urgent_comes_first_and_an_earlier_due_wins() -> None:
    queue: WorkQueue[str] = WorkQueue(Clock())
    queue.add("background")
    queue.add("urgent", urgent=True)
    queue.add("raised")
    queue.add("raised", urgent=True)
    assert await drained(queue) == ["urgent", "raised", "background"]


async def test_a_delayed_key_waits_until_it_is_due() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock)
    queue.add("a", 5.0)
    assert len(queue) == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await queue.get()
    queue.add("a", 1.0)
    clock.now = 1.0
    assert await queue.get() == "a"


async def test_background_work_leaves_workers_for_the_urgent() -> None:
    queue: WorkQueue[str] = WorkQueue(background_limit=1)
    queue.add("a")
    queue.add("b")
    assert await queue.get() == "a"
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("now", urgent=True)
    assert await waiting == "now"
    second = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not second.done()
    queue.done("a")
    assert await second == "b"


async def test_failures_are_put_off_longer_and_longer_up_to_a_limit() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock)
    delays = []
    for _ in range(14):
        delays.append(queue.retry("a"))
        clock.now += 1000
        await drained(queue)
    assert FIRST_BACKOFF_S / 2 <= delays[0] <= FIRST_BACKOFF_S
    assert delays[5] > delays[0]
    assert max(delays) <= LONGEST_BACKOFF_S
    queue.forget("a")
    assert queue.retry("a") <= FIRST_BACKOFF_S


async def test_closing_lets_workers_go() -> None:
    queue: WorkQueue[str] = WorkQueue()
    waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.close()
    assert await asyncio.gather(*waiting) == [None, None, None]
    queue.add("a")
    assert await queue.get() is None


async def test_age_and_counts() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock)
    assert queue.oldest_age() == 0.0
    queue.add("a")
    clock.now = 7.0
    assert queue.oldest_age() == 7.0
    queue.retry("b")
    assert (queue.counts.adds, queue.counts.retries) == (2, 1)


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.booleans()), max_size=60), st.integers(0, 2**16))
def test_no_key_is_lost_and_none_is_worked_on_twice_at_once(adds: list[tuple[str, bool]], seed: int) -> None:
    async def scenario() -> None:
        queue: WorkQueue[str] = WorkQueue()
        working: set[str] = set()
        newest: dict[str, int] = {}
        seen: dict[str, int] = {}
        order = random.Random(seed)

        async def worker() -> None:
            while (key := await queue.get()) is not None:
                assert key not in working
                working.add(key)
                seen[key] = newest[key]
                for _ in range(order.randint(0, 3)):
                    await asyncio.sleep(0)
                working.remove(key)
                queue.done(key)

        workers = [asyncio.create_task(worker()) for _ in range(3)]
        for number, (key, urgent) in enumerate(adds):
            newest[key] = number
            queue.add(key, urgent=urgent)
            if order.random() < 0.5:
                await asyncio.sleep(0)
        while len(queue) or queue.working:
            await asyncio.sleep(0)
        queue.close()
        await asyncio.gather(*workers)
        assert seen == newest

    asyncio.run(scenario())

"""What one replica carries on this machine, measured before the demo's traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from plimsoll_cli.errors import CommandError
from plimsoll_cli.load.plan import LoadPlan
from plimsoll_cli.load.run import run_load
from plimsoll_cli.load.statistics import summarise
from plimsoll_simulator.traffic import Request

ROUNDS: Final = 10
"""Rounds of requests: at a few tenths of a second each, a few seconds in all, and no queue that would be scaled for."""


def rounds_of(requests: Sequence[Request], concurrency: int, rounds: int = ROUNDS) -> tuple[tuple[Request, ...], ...]:
    """Groups of `concurrency` requests that start together, of the given requests' lengths in their order (pure)."""
    wanted = requests[: concurrency * rounds]
    together = [Request(0.0, request.input_tokens, request.output_tokens) for request in wanted]
    return tuple(tuple(together[i : i + concurrency]) for i in range(0, len(together), concurrency))


async def measured_rate(plan: LoadPlan, concurrency: int) -> float:
    """Requests per second that the endpoint completes with `concurrency` in flight.

    Args:
        plan: the traffic to come; its first requests' lengths are used.
        concurrency: requests in flight at once.

    Raises:
        CommandError: a request of the measurement did not complete.
    """
    seconds, completed = 0.0, 0
    for group in rounds_of(plan.requests, concurrency):
        result = await run_load(replace(plan, requests=group, duration=0.0))
        summary = summarise(result)
        if summary.completed != len(group):
            raise CommandError(
                f"{len(group) - summary.completed} of {len(group)} requests failed before the traffic began"
            )
        seconds += result.elapsed
        completed += len(group)
    return completed / seconds

"""What to send and what to hold it against, and the progress that is told while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from plimsoll_simulator.traffic import Request

Api = Literal["completions", "chat"]

PATHS: Final[dict[Api, str]] = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}


@dataclass(frozen=True)
class Objectives:
    """What users should see. Times in seconds; None means not asked for.

    Args:
        ttft: time to first token.
        tpot: mean time per output token after the first.
        e2e: time to the last token.
        percentile: at which the times must hold, 50 to 99.
        attainment: share of requests that must meet all of them at once, in (0, 1].
    """

    ttft: float | None = None
    tpot: float | None = None
    e2e: float | None = None
    percentile: int = 95
    attainment: float = 0.95


@dataclass(frozen=True)
class LoadPlan:
    """One load test.

    Args:
        url: base of the endpoint, such as `http://10.0.0.7:8000`; a path before `/v1` is kept.
        model: the served model name to ask for.
        requests: what to send and when, sorted by time.
        duration: seconds over which requests are sent.
        label: what the traffic is, in words.
        objectives: what to hold the answers against.
        api: `completions` sends token ids, so that prompt lengths are exact; `chat` sends words, about one token each.
        timeout: seconds from a request's scheduled time after which it is given up and counted as a miss.
        seed: seed the requests were drawn with (recorded; also chooses the prompts' tokens).
        salt: makes prompts differ between runs, so that a run does not find its prompts in the prefix cache of the
            run before; None draws one.
        api_key: bearer token, never recorded.
        progress_interval: seconds between progress calls.
    """

    url: str
    model: str
    requests: tuple[Request, ...]
    duration: float
    label: str = ""
    objectives: Objectives = Objectives()
    api: Api = "completions"
    timeout: float = 120.0
    seed: int = 0
    salt: int | None = None
    api_key: str | None = field(default=None, repr=False)
    progress_interval: float = 1.0


@dataclass(frozen=True)
class Progress:
    """Where a running test stands. Times in seconds, rates per second."""

    elapsed: float
    duration: float
    """Seconds over which requests are sent; the last answers come later."""
    planned: int
    sent: int
    in_flight: int
    completed: int
    failed: int
    """Failed and timed out."""
    truncated: int
    offered_rate: float
    """Requests sent per second since the last progress."""
    ttft_p95: float | None
    """Over all requests so far, from the scheduled time."""
    lag_p99: float
    """Own scheduling lag so far."""

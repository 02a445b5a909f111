"""What a replay says of each request and of the replica over time. Times are seconds of the trace's clock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request's way through the replica.

    Args:
        id: the request.
        prompt_tokens, output_tokens: its lengths; the output as it was generated.
        arrived: when it arrived.
        queued: when the engine took it into its queue.
        scheduled: when it was first admitted to a step.
        first_token, last_token: when the steps that generated them were complete.
        prefill_seconds: seconds of the steps that computed its prompt up to its first token.
        cached_tokens: prompt tokens found in the prefix cache.
        preemptions: times it lost its KV blocks.
    """

    id: str
    prompt_tokens: int
    output_tokens: int
    arrived: float
    queued: float
    scheduled: float
    first_token: float
    last_token: float
    prefill_seconds: float
    cached_tokens: int
    preemptions: int

    @property
    def ttft(self) -> float:
        """Seconds from arrival to the first token."""
        return self.first_token - self.arrived

    @property
    def tpot(self) -> float:
        """Mean seconds per output token after the first; 0 when there was only one."""
        return (self.last_token - self.first_token) / (self.output_tokens - 1) if self.output_tokens > 1 else 0.0

    @property
    def e2e(self) -> float:
        """Seconds from arrival to the last token."""
        return self.last_token - self.arrived

    @property
    def queue_time(self) -> float:
        """Seconds from arrival to the first admission."""
        return self.scheduled - self.arrived


@dataclass(frozen=True, slots=True)
class Sample:
    """The replica at one moment, as its metrics would show it.

    Args:
        at: when.
        running, waiting: sequences that hold blocks, and requests in the queue.
        kv_usage: share of KV blocks in use.
        prompt_tokens: tokens of the prompts whose first token was generated so far.
        generated_tokens: tokens generated so far.
    """

    at: float
    running: int
    waiting: int
    kv_usage: float
    prompt_tokens: int
    generated_tokens: int


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What came of a trace.

    Args:
        outcomes: every request, in order of arrival.
        samples: the replica at regular times.
        steps: engine steps run.
        busy_seconds: sum of their times.
        ended: when the last step was complete.
        preemptions: times a sequence lost its blocks.
        prefix_queries, prefix_hits: prompt tokens looked up and found in the prefix cache.
    """

    outcomes: tuple[Outcome, ...]
    samples: tuple[Sample, ...]
    steps: int
    busy_seconds: float
    ended: float
    preemptions: int
    prefix_queries: int
    prefix_hits: int

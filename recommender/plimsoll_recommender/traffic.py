"""What a service is asked to carry: its workload, and the objectives its users hold it to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from plimsoll_recommender.errors import RecommenderError

P95_TO_MEAN: Final = 2.5
"""p95 of a token count over its mean when only the mean is given (the LLMService API states the same default).

Production chat and code traces have 2 to 4 (Azure LLM inference traces 2023: input 3.4 and 3.6, output 2.1 and 4.0)."""


def positive(field: str, value: float, unit: str) -> None:
    """Raise RecommenderError when a number is not finite and above zero."""
    if not (math.isfinite(value) and value > 0):
        raise RecommenderError(f"{field} must be above zero, got {value:g}: give it in {unit}")


@dataclass(frozen=True)
class Workload:
    """Requests of a service.

    Args:
        input_tokens: mean prompt length in tokens.
        output_tokens: mean generated length in tokens.
        requests_per_second: open loop: mean arrival rate of the whole service; None when `concurrency` is given.
        concurrency: closed loop: requests kept in flight, each replaced when it ends; None when a rate is given.
        burstiness: coefficient of variation of the time between arrivals: 1 is Poisson, more is burstier.
        input_tokens_p95: 95th percentile of the prompt length; when None 2.5 times the mean, or in a closed loop the
            mean itself (closed loops are benchmarks, which run fixed lengths).
        output_tokens_p95: 95th percentile of the generated length; None as above.
        prefix_hit_ratio: share of prompt tokens found in the prefix cache (0 to below 1).

    Raises:
        RecommenderError: a length, rate or ratio that is not possible.
    """

    input_tokens: float = 1000.0
    output_tokens: float = 250.0
    requests_per_second: float | None = None
    concurrency: float | None = None
    burstiness: float = 1.0
    input_tokens_p95: float | None = None
    output_tokens_p95: float | None = None
    prefix_hit_ratio: float = 0.0

    def __post_init__(self) -> None:
        positive("input_tokens", self.input_tokens, "tokens per request")
        positive("output_tokens", self.output_tokens, "tokens per request")
        if self.requests_per_second is not None:
            positive("requests_per_second", self.requests_per_second, "requests per second")
        if self.concurrency is not None:
            positive("concurrency", self.concurrency, "requests in flight")
        if self.requests_per_second is not None and self.concurrency is not None:
            raise RecommenderError(
                f"requests_per_second ({self.requests_per_second:g}) and concurrency ({self.concurrency:g}) exclude "
                "each other: give the rate for an open loop or the concurrency for a closed loop"
            )
        if not (math.isfinite(self.burstiness) and self.burstiness >= 0):
            raise RecommenderError(f"burstiness must not be negative, got {self.burstiness:g}: 1 is Poisson")
        if not 0 <= self.prefix_hit_ratio < 1:
            raise RecommenderError(
                f"prefix_hit_ratio must be at least 0 and below 1, got {self.prefix_hit_ratio:g}: "
                "it is the share of prompt tokens found in the cache"
            )
        self._check_p95("input_tokens", self.input_tokens, self.input_tokens_p95)
        self._check_p95("output_tokens", self.output_tokens, self.output_tokens_p95)

    @staticmethod
    def _check_p95(field: str, mean: float, p95: float | None) -> None:
        if p95 is not None and not (math.isfinite(p95) and p95 >= mean):
            raise RecommenderError(
                f"{field}_p95 ({p95:g}) must not be less than {field} ({mean:g}): raise it or leave it out"
            )

    @property
    def input_p95(self) -> float:
        """95th percentile of the prompt length, stated or derived."""
        return self._p95(self.input_tokens, self.input_tokens_p95)

    @property
    def output_p95(self) -> float:
        """95th percentile of the generated length, stated or derived."""
        return self._p95(self.output_tokens, self.output_tokens_p95)

    def _p95(self, mean: float, stated: float | None) -> float:
        if stated is not None:
            return stated
        return mean if self.concurrency is not None else P95_TO_MEAN * mean

    @property
    def computed_input_tokens(self) -> float:
        """Prompt tokens of a request that are not found in the prefix cache; at least the last one is computed."""
        return max(1.0, self.input_tokens * (1 - self.prefix_hit_ratio))


@dataclass(frozen=True)
class Objectives:
    """What users should see, in seconds; None asks nothing.

    Args:
        ttft: time to first token.
        tpot: time per output token after the first (inter-token latency).
        e2e: time for the whole response.
        percentile: the percentile at which the three must hold (50 to 99).

    Raises:
        RecommenderError: a target that is not above zero, or a percentile outside 50 to 99.
    """

    ttft: float | None = None
    tpot: float | None = None
    e2e: float | None = None
    percentile: float = 95.0

    def __post_init__(self) -> None:
        for field, value in (("ttft", self.ttft), ("tpot", self.tpot), ("e2e", self.e2e)):
            if value is not None:
                positive(field, value, "seconds")
        if not 50 <= self.percentile <= 99:
            raise RecommenderError(f"percentile must be 50 to 99, got {self.percentile:g}")
        if self.e2e is not None and self.ttft is not None and self.e2e < self.ttft:
            raise RecommenderError(
                f"e2e ({self.e2e:g} s) must not be less than ttft ({self.ttft:g} s): the whole response contains its "
                "first token"
            )

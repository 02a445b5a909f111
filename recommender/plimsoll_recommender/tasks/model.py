"""Tasks of a service and what they ask: max_tokens, reserved KV cache, and the workload they make up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import EngineConfig
from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.facts.model import GIB, ModelFacts
from plimsoll_recommender.memory.ledger import memory_ledger
from plimsoll_recommender.tasks.mixture import Mixture
from plimsoll_recommender.tasks.request import ObservedRequest
from plimsoll_recommender.traffic import Workload

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUANTILE: Final = 0.99
"""Share of requests that end before their max_tokens unless another is asked."""

LOOKED_UP: Final = 4_000_000
"""Numbers held at once while max_tokens of many requests are looked up: bounds memory at 32 MB."""


@dataclass(frozen=True)
class Task:
    """One kind of requests.

    Args:
        share: of all requests (0 to 1).
        input_tokens, output_tokens: mean lengths.
        input_p95, output_p95: 95th percentiles.
        max_tokens: output length that the asked share of its requests stay within.
        reserved_tokens: prompt and output that such a request may hold: its input's quantile and max_tokens.
    """

    share: float
    input_tokens: float
    output_tokens: float
    input_p95: float
    output_p95: float
    max_tokens: int
    reserved_tokens: int

    def reserved_gib(self, facts: ModelFacts, gpu: Accelerator, config: EngineConfig) -> float:
        """KV cache that one such request may hold on each GPU, GiB.

        Raises:
            RecommenderError: a request that is longer than the KV cache, or settings that do not fit the model.
        """
        settled = replace(config, max_model_len=self.reserved_tokens)
        ledger = memory_ledger(facts, gpu, settled)
        if not ledger.kv_cache_blocks or not ledger.max_concurrency:
            raise RecommenderError(ledger.reason)
        return ledger.kv_cache_blocks / ledger.max_concurrency * ledger.bytes_per_block / GIB


@dataclass(frozen=True)
class Assignment:
    """What is known of a request when it is admitted.

    Args:
        probabilities: of each task given the prompt length.
        max_tokens: output length that the asked share of such requests stay within.
        reserved_tokens: prompt and max_tokens.
    """

    probabilities: tuple[float, ...]
    max_tokens: int
    reserved_tokens: int


@dataclass(frozen=True, eq=False)
class OutputLengths:
    """Output lengths of each task.

    Args:
        mixture: where the tasks are.
        lengths: output lengths at which `shares` are known, rising, shape (lengths,).
        shares: share of each task's outputs within a length, shape (tasks, lengths).
        level: share of a request's mixture within which max_tokens is looked up.
    """

    mixture: Mixture
    lengths: NDArray[Any]
    shares: NDArray[Any]
    level: float

    def quantiles(self, input_tokens: NDArray[Any]) -> NDArray[Any]:
        """Output length at `level` of each prompt's mixture of tasks, shape (n,)."""
        import numpy as np

        size = max(1, LOOKED_UP // len(self.lengths))
        found = [np.empty(0, dtype=int)]
        for begin in range(0, len(input_tokens), size):
            within = self.mixture.given_input(input_tokens[begin : begin + size]) @ self.shares
            found.append(np.minimum((within < self.level).sum(axis=1), len(self.lengths) - 1))
        return np.asarray(self.lengths[np.concatenate(found)])


@dataclass(frozen=True, eq=False)
class TaskModel:
    """Tasks of a service.

    Args:
        tasks: by share, the largest first.
        whole: all requests as one task.
        quantile: share of requests that end before their max_tokens (0 to 1).
        requests: how many it rests on; 0 where it rests on the declared workload.
        reason: why tasks are not told apart; empty when they are.
        declared: the workload that was declared.
        target: share of the observed requests that max_tokens was made to cover, so that the quantile holds later.
        outputs: output lengths by task; None where tasks are not told apart.
    """

    tasks: tuple[Task, ...]
    whole: Task
    quantile: float
    requests: int
    reason: str
    declared: Workload
    target: float
    outputs: OutputLengths | None = None

    def assign(self, input_tokens: int) -> Assignment:
        """Tasks and max_tokens of a new request, of which only the prompt length is known.

        Raises:
            RecommenderError: a negative length.
        """
        import numpy as np

        if input_tokens < 0:
            raise RecommenderError(f"input_tokens of a request must be at least 0, got {input_tokens}")
        inputs = np.array([input_tokens])
        most = int(self.max_tokens(inputs)[0])
        known = (1.0,) if self.outputs is None else tuple(map(float, self.outputs.mixture.given_input(inputs)[0]))
        return Assignment(known, most, input_tokens + most)

    def max_tokens(self, input_tokens: NDArray[Any]) -> NDArray[Any]:
        """max_tokens of requests with these prompt lengths, shape (n,)."""
        import numpy as np

        if self.outputs is None:
            return np.full(len(input_tokens), self.whole.max_tokens)
        return np.asarray(np.maximum(self.outputs.quantiles(input_tokens), 1))

    def coverage(self, requests: Sequence[ObservedRequest]) -> float:
        """Share of requests (0 to 1) that their max_tokens would not have cut off; 1 when there are none."""
        import numpy as np

        if not requests:
            return 1.0
        limits = self.max_tokens(np.array([item.input_tokens for item in requests]))
        return float(np.mean(np.array([item.output_tokens for item in requests]) <= limits))

    def workload(self) -> Workload:
        """Lengths of all requests for the recommender; rate, concurrency and prefix hits as declared."""
        if not self.requests:
            return self.declared
        whole = self.whole
        prompt, output = max(whole.input_tokens, 1.0), max(whole.output_tokens, 1.0)
        return replace(
            self.declared,
            input_tokens=prompt,
            output_tokens=output,
            input_tokens_p95=max(whole.input_p95, prompt),
            output_tokens_p95=max(whole.output_p95, output),
        )

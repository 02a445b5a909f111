"""One replica in steady state: an iteration-level model of continuous batching with chunked prefill.

Every step computes one token of each decoding sequence and, with the rest of the token budget, prompt tokens of new
ones. In steady state with D sequences decoding, D / O requests finish and as many prompts are computed per step (O is
the output length), which fixes the mean step time, and with it TPOT and throughput (Little's law); what a prompt waits
for fixes TTFT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import EngineConfig, ResolvedConfig
from plimsoll_recommender.errors import InfeasibleError
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.latency.distributions import variation_of
from plimsoll_recommender.latency.efficiency import Efficiency, Serving, efficiency_of
from plimsoll_recommender.latency.step_time import StepTimeModel
from plimsoll_recommender.memory.defaults import resolve
from plimsoll_recommender.memory.ledger import (
    CONCURRENT_BATCHES,
    MemoryLedger,
    layout_of,
    memory_ledger,
)
from plimsoll_recommender.traffic import Workload

KV_WATERMARK: Final = 0.97
"""Share of the KV cache that is in use before sequences are preempted: blocks are taken one at a time."""

CHUNK_WORTH_A_STEP: Final = 0.1
"""Share of the token budget below which the rest of a prompt is not counted as a step of its own."""


@dataclass(frozen=True)
class OperatingPoint:
    """A replica with a number of sequences decoding.

    Args:
        decoding: mean sequences that generate.
        running: mean sequences in the batch, those being prefilled included.
        rate: requests completed per second.
        step: mean seconds of a step: the mean time per output token.
        step_squares: mean of its square, seconds^2.
        prefill_time: seconds to compute one prompt beside the decoding sequences.
        prefill_busy: share of the prefill capacity in use (0 to 1).
    """

    decoding: float
    running: float
    rate: float
    step: float
    step_squares: float
    prefill_time: float
    prefill_busy: float


@dataclass(frozen=True)
class Replica:
    """What of a replica and its workload decides latency.

    Args:
        model: step times.
        serving: what serving adds to them.
        config: engine settings, all known.
        workload: request lengths.
        ledger: memory.
        slots: most sequences that run at once: by max_num_seqs or KV cache.
        slots_by_kv: most sequences that the KV cache holds.
        input_variation, output_variation: coefficients of variation of the lengths.
    """

    model: StepTimeModel
    serving: Serving
    config: ResolvedConfig
    workload: Workload
    ledger: MemoryLedger
    slots: float
    slots_by_kv: float
    input_variation: float
    output_variation: float

    @classmethod
    def of(
        cls,
        facts: ModelFacts,
        gpu: Accelerator,
        config: EngineConfig,
        workload: Workload,
        *,
        ledger: MemoryLedger | None = None,
        efficiency: Efficiency | None = None,
    ) -> Replica:
        """A replica of a configuration under a workload's lengths.

        Raises:
            InfeasibleError: when the engine would not start, or a mean request does not fit.
        """
        settings = resolve(config, facts, gpu)
        held = ledger if ledger is not None else memory_ledger(facts, gpu, settings)
        if not held.fits:
            raise InfeasibleError(held.reason)
        longest = workload.input_tokens + workload.output_tokens
        if longest > settings.max_model_len:
            raise InfeasibleError(
                f"max_model_len {settings.max_model_len} is less than the mean request of {longest:g} tokens "
                f"({workload.input_tokens:g} + {workload.output_tokens:g}): raise it to at least {math.ceil(longest)}"
            )
        used = efficiency or efficiency_of(gpu.architecture)
        output_variation = variation_of(workload.output_tokens, workload.output_p95)
        slots_by_kv = _kv_slots(facts, settings, held, workload, output_variation)
        return cls(
            model=StepTimeModel.for_engine(facts, gpu, settings, used),
            serving=used.serving,
            config=settings,
            workload=workload,
            ledger=held,
            slots=max(1.0, min(float(settings.max_num_seqs), slots_by_kv)),
            slots_by_kv=slots_by_kv,
            input_variation=variation_of(workload.input_tokens, workload.input_p95),
            output_variation=output_variation,
        )

    @property
    def decode_context(self) -> float:
        """Mean tokens that a decoding sequence attends to.

        Longer outputs are seen for longer: E[O^2] / (2 E[O]) on top of the prompt.
        """
        return self.workload.input_tokens + 0.5 * self.workload.output_tokens * (1 + self.output_variation**2)

    @property
    def most_decoding(self) -> float:
        """Most sequences that can decode at once.

        Beyond T O / (I + O), prompts of I tokens come in slower than sequences of O tokens leave, with T tokens a step.
        """
        generated = max(self.workload.output_tokens, 1.0)
        prompt = self.workload.computed_input_tokens
        return min(
            self.slots,
            self.config.max_num_batched_tokens * generated / (prompt + generated),
        )

    def at(self, decoding: float) -> OperatingPoint:
        """The steady state with `decoding` sequences generating (above zero, at most `most_decoding`)."""
        prompt = self.workload.computed_input_tokens
        cached = self.workload.input_tokens - prompt
        generated = max(self.workload.output_tokens, 1.0)
        context = self.decode_context
        budget = max(self.config.max_num_batched_tokens - decoding, 1.0)
        arrivals = decoding / generated
        wanted = arrivals * prompt
        chunk = min(max(prompt, wanted), budget)
        share = min(wanted / chunk, 1.0)
        reach = cached + 0.5 * prompt
        plain = self.model.mixed_seconds(0.0, 0.0, decoding, context)
        mixed = self.model.mixed_seconds(chunk, reach, decoding, context)
        step = (1 - share) * plain + share * mixed
        rate = arrivals / step
        own = self._prefill_seconds(budget, reach, decoding, plain)
        return OperatingPoint(
            decoding=decoding,
            running=decoding + rate * own,
            rate=rate,
            step=step,
            step_squares=(1 - share) * plain**2 + share * mixed**2,
            prefill_time=own,
            prefill_busy=min(wanted / budget, 1.0),
        )

    def _prefill_seconds(self, budget: float, reach: float, decoding: float, plain: float) -> float:
        """Seconds from the first to the last chunk of one prompt, beside the decoding sequences."""
        prompt, context = self.workload.computed_input_tokens, self.decode_context
        whole, rest = divmod(prompt, budget)
        time = whole * self.model.mixed_seconds(budget, reach, decoding, context) if whole else 0.0
        # A rest of a few tokens comes from rounding the budget: it costs its own work, not a step.
        if rest > 0:
            last = self.model.mixed_seconds(rest, reach, decoding, context)
            time += last if not whole or rest > CHUNK_WORTH_A_STEP * budget else max(0.0, last - plain)
        return time

    def prefill_wait(self, point: OperatingPoint, burstiness: float, rivals: float = math.inf) -> float:
        """Mean seconds a prompt waits before its own prefill begins: the running step, then other prompts.

        The second part is Allen-Cunneen's for one server (the token budget): busy / (1 - busy) times the service time
        times (ca^2 + cs^2) / 2, and never more than the prompts that can be ahead.

        Args:
            point: the operating point.
            burstiness: coefficient of variation of the time between arrivals.
            rivals: most other prompts that can be waiting (closed loop).
        """
        residual = point.step_squares / (2 * point.step) + self.serving.admission * min(
            point.decoding, 1.0
        ) * self.plain_step(point)
        variability = 0.5 * (burstiness**2 + self.input_variation**2)
        busy = min(point.prefill_busy, 0.999)
        queue = point.prefill_time * busy / (1 - busy) * variability
        return residual + min(queue, rivals * point.prefill_time)

    def plain_step(self, point: OperatingPoint) -> float:
        """Seconds of a step without prompts at an operating point."""
        return self.model.mixed_seconds(0.0, 0.0, point.decoding, self.decode_context)

    def burst_wait(self, point: OperatingPoint, rivals: float) -> float:
        """Mean seconds that a closed loop's request waits because others start with it."""
        prompt = self.workload.computed_input_tokens
        reach = self.workload.input_tokens - 0.5 * prompt
        alone = self.model.mixed_seconds(prompt, reach, 0.0, 0.0)
        return self.serving.burst * rivals * max(0.0, alone - self.model.mixed_seconds(0.0, 0.0, 1.0, 1.0))

    def busiest(self) -> OperatingPoint:
        """The steady state that carries the most."""
        return self.at(self.most_decoding)

    def decoding_for(self, rate: float) -> float | None:
        """Sequences that decode at a request rate; None when the replica cannot carry it."""
        if self.busiest().rate < rate:
            return None
        low, high = 0.0, self.most_decoding
        for _ in range(40):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.at(middle).rate < rate else (low, middle)
            if high - low < 1e-4 * high:
                break
        return high


def _kv_slots(
    facts: ModelFacts,
    config: ResolvedConfig,
    ledger: MemoryLedger,
    workload: Workload,
    output_variation: float,
) -> float:
    """Sequences whose KV fits at once, at the mean length they have while running."""
    layout = layout_of(facts.as_loaded(config.dtype, config.quantization), config, ledger.stage)
    if not layout.groups:
        return math.inf
    mean = workload.input_tokens + 0.5 * workload.output_tokens * (1 + output_variation**2)
    held = min(mean, config.max_model_len)
    # While decoding, a sliding window holds its window and the block being filled.
    blocks = layout.blocks_per_sequence(math.ceil(held), CONCURRENT_BATCHES * 1)
    return KV_WATERMARK * ledger.kv_cache_blocks / blocks

"""Engine settings of one shape on one GPU: those with which most requests run at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import EngineConfig, ResolvedConfig
from plimsoll_recommender.errors import InfeasibleError
from plimsoll_recommender.facts.model import GIB, ModelFacts
from plimsoll_recommender.latency.replica import Replica
from plimsoll_recommender.memory import budget
from plimsoll_recommender.memory.defaults import resolve
from plimsoll_recommender.memory.ledger import MemoryLedger, layout_of, longest_context, memory_ledger
from plimsoll_recommender.search.ask import Ask, Form
from plimsoll_recommender.search.shapes import Shape

LARGEST_UTILIZATION: Final = 0.95
"""Never more of a GPU than this: drivers, monitoring and fragmentation need some."""

SMALLEST_UTILIZATION: Final = 0.01
"""A GPU so small that the reserve takes all of it still gets a setting that the engine accepts, and its refusal."""

RESERVE_GIB: Final = 0.75
"""Kept free beside the CUDA context: what the activation estimate may miss before a GPU runs out of memory."""

MOST_SEQUENCES: Final = 1024
"""vLLM's own default on large GPUs; more were not measured."""

FEWER_SEQUENCES: Final = (256, 64, 8)
"""Tried in turn where `MOST_SEQUENCES` leave no room for the KV cache: sampling takes memory per sequence."""

SEQUENCE_STEP: Final = 8
"""max_num_seqs is a multiple of this: CUDA graphs are captured at multiples of 8."""

SEQUENCE_ROUNDS: Final = 2
"""Corrections of max_num_seqs by what its own memory leaves of the KV cache; each is tens of times finer."""

CONTEXT_SHARE: Final = 0.5
"""Most of the KV cache that one sequence of max_model_len may take, so that one request cannot evict all others."""

CONTEXT_STEP: Final = 1024
"""max_model_len is rounded to a multiple of this."""

LONGEST_TO_P95: Final = 2.0
"""max_model_len is this times the p95 request where memory allows, so that ordinary long requests are not refused."""

HELD_OF_CHECKPOINT: Final = 0.85
"""GPUs of a replica hold at least this share of the checkpoint: built-in drafters are stored and not loaded."""


@dataclass(frozen=True, eq=False)
class Place:
    """Where a candidate runs.

    Args:
        form: what is loaded.
        gpu: accelerator.
        shape: how it is divided.
    """

    form: Form
    gpu: Accelerator
    shape: Shape

    @property
    def name(self) -> str:
        """Accelerator and shape in words, with the variant and KV cache type where they are not the model's own."""
        parts = [f"{self.gpu.product} {self.shape}"]
        if self.form.variant:
            parts.append(f"with {self.form.variant}")
        if self.form.kv_cache_dtype != "auto":
            parts.append(f"{self.form.kv_cache_dtype} KV")
        return " ".join(parts)


def roomiest(ask: Ask, place: Place, tokens: int, like: Replica | None = None) -> Replica:
    """The replica with the token budget whose max_num_seqs lets most requests run at once.

    Args:
        ask: the question.
        place: where it runs.
        tokens: max_num_batched_tokens.
        like: a replica of the same place, whose step times are the same.

    Raises:
        RecommenderError: the model does not fit, or cannot be divided.
    """
    replica = first_that_fits(ask, place, tokens, like)
    if ask.limits.max_num_seqs is not None:
        return replica
    most = best = replica
    for _ in range(SEQUENCE_ROUNDS):
        wanted = min(_rounded(min(replica.slots_by_kv, most.config.max_num_seqs)), most_sequences(ask, place.gpu))
        if wanted == replica.config.max_num_seqs:
            break
        replica = with_sequences(ask, place, replica, wanted)
        best = max(best, replica, key=lambda found: found.slots)
    return best


def with_sequences(ask: Ask, place: Place, replica: Replica, sequences: int) -> Replica:
    """The same replica with another max_num_seqs.

    Raises:
        InfeasibleError: when it would not start.
    """
    config = _settings(ask, place, replica.config.max_num_batched_tokens, sequences, replica.config.max_model_len)
    return _replica(ask, place, config, _ledger(ask, place, config), replica)


def most_sequences(ask: Ask, gpu: Accelerator) -> int:
    """The largest max_num_seqs that is chosen on an accelerator."""
    return min(MOST_SEQUENCES, ask.limits.sequences_ceiling.get(gpu.product, MOST_SEQUENCES))


def sequences_for(running: float, replica: Replica, allowance: float) -> int:
    """max_num_seqs for a number running at the load line, with room for bursts; no more than the KV cache holds."""
    return _rounded(min(running * allowance, replica.slots_by_kv, MOST_SEQUENCES))


def with_context(ask: Ask, place: Place, replica: Replica) -> Replica:
    """The same replica with the longest max_model_len that leaves room for others beside one such sequence.

    Raises:
        InfeasibleError: when it would not start.
    """
    if ask.limits.max_model_len is not None:
        return replica
    config, ledger, facts = replica.config, replica.ledger, place.form.facts
    whole = replace(config, max_model_len=facts.max_position_embeddings)
    layout = layout_of(facts.as_loaded(config.dtype, config.quantization), whole, ledger.stage)
    fitting = longest_context(layout, whole, int(ledger.kv_cache_blocks * CONTEXT_SHARE))
    if fitting < whole.max_model_len:
        fitting = fitting // CONTEXT_STEP * CONTEXT_STEP
    longer = replace(config, max_model_len=max(fitting, config.max_model_len))
    return _replica(ask, place, longer, _ledger(ask, place, longer), replica)


def anew(ask: Ask, place: Place, replica: Replica) -> Replica:
    """The same replica with its slots counted from its memory alone, to the last bit as a prediction counts them.

    Raises:
        InfeasibleError: when it would not start.
    """
    return _replica(ask, place, replica.config, replica.ledger, None)


def utilization_for(gpu: Accelerator, facts: ModelFacts, config: EngineConfig) -> float:
    """The largest gpu_memory_utilization whose remainder holds the CUDA context, graphs not budgeted, and a reserve."""
    settings = resolve(config, facts, gpu)
    outside = budget.CONTEXT_GIB + RESERVE_GIB
    if config.tensor_parallel_size > 1:
        outside += budget.COLLECTIVE_CONTEXT_GIB
    if settings.version < budget.GRAPHS_BUDGETED:
        outside += budget.cuda_graphs(facts.layers, settings).value / config.pipeline_parallel_size
    share = math.floor((1 - outside / gpu.memory_gib) * 100) / 100
    return max(SMALLEST_UTILIZATION, min(LARGEST_UTILIZATION, share))


def contexts(ask: Ask, facts: ModelFacts) -> tuple[int, ...]:
    """Values of max_model_len that hold the ordinary requests, the roomier first."""
    if ask.limits.max_model_len is not None:
        return (ask.limits.max_model_len,)
    p95 = ask.workload.input_p95 + ask.workload.output_p95
    steps = (math.ceil(times * p95 / CONTEXT_STEP) * CONTEXT_STEP for times in (LONGEST_TO_P95, 1.0))
    return tuple(dict.fromkeys(min(facts.max_position_embeddings, step) for step in steps))


def too_large(place: Place) -> str:
    """Why the checkpoint cannot fit the GPUs of a replica, whatever the settings; empty when it may."""
    facts, gpu, shape = place.form.facts, place.gpu, place.shape
    whole, room = facts.checkpoint_bytes / GIB, gpu.memory_gib * shape.gpus
    if HELD_OF_CHECKPOINT * whole < room:
        return ""
    return f"{whole:.0f} GiB of weights do not fit {shape.gpus} x {gpu.product} of {gpu.memory_gib:.1f} GiB"


def first_that_fits(ask: Ask, place: Place, tokens: int, like: Replica | None = None) -> Replica:
    """A replica with the first settings that start: more sequences and a longer context are tried first.

    Raises:
        RecommenderError: nothing fits, or the model cannot be divided.
    """
    refused = ""
    for context in contexts(ask, place.form.facts):
        for sequences in _most_first(ask, place.gpu, tokens, like):
            config = _settings(ask, place, tokens, sequences, context)
            ledger = _ledger(ask, place, config)
            if ledger.fits:
                return _replica(ask, place, config, ledger, like)
            refused = ledger.reason
            if ledger.weights_gib >= ledger.requested_gib:
                raise InfeasibleError(refused)
    raise InfeasibleError(refused)


def _most_first(ask: Ask, gpu: Accelerator, tokens: int, like: Replica | None) -> Iterator[int]:
    limits = ask.limits
    if limits.max_num_seqs is not None:
        yield limits.max_num_seqs
        return
    most = min(most_sequences(ask, gpu) if like is None else like.config.max_num_seqs, tokens)
    yield most
    yield from (fewer for fewer in FEWER_SEQUENCES if fewer < most)


def _settings(ask: Ask, place: Place, tokens: int, sequences: int, context: int) -> ResolvedConfig:
    """Every engine setting."""
    limits, facts, gpu, shape = ask.limits, place.form.facts, place.gpu, place.shape
    draft = EngineConfig(
        tensor_parallel_size=shape.tensor,
        pipeline_parallel_size=shape.stages,
        data_parallel_size=shape.ranks,
        expert_parallel=shape.expert_parallel,
        max_num_batched_tokens=tokens,
        max_num_seqs=sequences,
        max_model_len=context,
        dtype="float16" if not gpu.bfloat16 and facts.dtype == "bfloat16" else "auto",
        quantization=place.form.quantization,
        kv_cache_dtype=place.form.kv_cache_dtype,
        engine_version=ask.version,
    )
    share = limits.gpu_memory_utilization
    if share is None:
        share = min(utilization_for(gpu, facts, draft), limits.utilization_ceiling.get(gpu.product, 1.0))
    return resolve(replace(draft, gpu_memory_utilization=share), facts, gpu)


def _ledger(ask: Ask, place: Place, config: ResolvedConfig) -> MemoryLedger:
    if ask.corrections is None:
        return memory_ledger(place.form.facts, place.gpu, config)
    from plimsoll_recommender.observation.apply import corrected_ledger

    return corrected_ledger(place.form.facts, place.gpu, config, ask.corrections)


def _replica(ask: Ask, place: Place, config: ResolvedConfig, ledger: MemoryLedger, like: Replica | None) -> Replica:
    """A replica; one of the same place lends its step times, which depend on neither budget nor sequences.

    Raises:
        InfeasibleError: when it would not start.
    """
    if not ledger.fits:
        raise InfeasibleError(ledger.reason)
    same_blocks = like is not None and (ledger.stage, ledger.bytes_per_block, ledger.block_size) == (
        like.ledger.stage,
        like.ledger.bytes_per_block,
        like.ledger.block_size,
    )
    if like is not None and same_blocks and like.ledger.kv_cache_blocks:
        by_kv = like.slots_by_kv * ledger.kv_cache_blocks / like.ledger.kv_cache_blocks
        slots = max(1.0, min(float(config.max_num_seqs), by_kv))
        return replace(like, config=config, ledger=ledger, slots=slots, slots_by_kv=by_kv)
    replica = Replica.of(place.form.facts, place.gpu, config, ask.workload, ledger=ledger)
    if ask.corrections is None:
        return replica
    from plimsoll_recommender.observation.apply import corrected_replica

    return corrected_replica(replica, place.form.facts, place.gpu, ask.corrections)


def _rounded(sequences: float) -> int:
    return max(SEQUENCE_STEP, math.ceil(sequences / SEQUENCE_STEP - 1e-9) * SEQUENCE_STEP)

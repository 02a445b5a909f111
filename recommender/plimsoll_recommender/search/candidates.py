"""One candidate: an accelerator, a parallelism and the engine settings that suit them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from plimsoll_recommender.catalogue.accelerators import Accelerator
from plimsoll_recommender.engine_config import DEFAULT_ENGINE_VERSION, EngineConfig, ResolvedConfig
from plimsoll_recommender.errors import InfeasibleError, RecommenderError
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.latency.distributions import quantile
from plimsoll_recommender.latency.predict import load_line, open_times, violated
from plimsoll_recommender.latency.replica import OperatingPoint, Replica
from plimsoll_recommender.memory import budget
from plimsoll_recommender.memory.defaults import resolve
from plimsoll_recommender.memory.ledger import MemoryLedger, layout_of, longest_context, memory_ledger
from plimsoll_recommender.recommendation import Limits
from plimsoll_recommender.traffic import Objectives, Workload

DEFAULT_NODE: Final = 8
"""GPUs of a node when nothing is known of the nodes."""

LARGEST_UTILIZATION: Final = 0.95
"""Never more of a GPU than this: drivers, monitoring and fragmentation need some."""

RESERVE_GIB: Final = 0.75
"""Kept free beside the CUDA context: what the activation estimate may miss before a GPU runs out of memory."""

BATCHED_TOKENS: Final = (2048, 4096, 8192, 16_384)
"""Token budgets that are tried: below 2048 prompts crawl, above 16384 one step blocks every stream."""

FIRST_BATCHED_TOKENS: Final = 8192
"""Token budget of the first look at a candidate; others are tried only for the leading ones."""

FIRST_SEQUENCES: Final = 256
"""max_num_seqs of the first look at a candidate."""

MOST_SEQUENCES: Final = 1024
"""vLLM's own default on large GPUs; more were not measured."""

SEQUENCE_STEP: Final = 8
"""max_num_seqs is a multiple of this: CUDA graphs are captured at multiples of 8."""

BURST_ALLOWANCE: Final = 1.5
"""max_num_seqs over the mean running at the load line: a Poisson count of 30 stays below 1.5 times its mean."""

CONTEXT_SHARE: Final = 0.5
"""Most of the KV cache that one sequence of max_model_len may take, so that one request cannot evict all others."""

CONTEXT_STEP: Final = 1024
"""max_model_len is rounded down to a multiple of this."""

LONGEST_TO_P95: Final = 2.0
"""max_model_len is at least this times the p95 request, so that ordinary long requests are not refused."""


@dataclass(frozen=True)
class Ask:
    """What is asked of every candidate.

    Args:
        facts: the model.
        workload: expected traffic.
        objectives: what must hold.
        limits: what may not change.
    """

    facts: ModelFacts
    workload: Workload
    objectives: Objectives
    limits: Limits

    @property
    def version(self) -> str:
        """Release of the engine that will run."""
        return self.limits.engine_version or DEFAULT_ENGINE_VERSION

    def price(self, gpu: Accelerator) -> float:
        """Price of one GPU-hour."""
        return float(self.limits.hourly_cost.get(gpu.product, gpu.hourly_cost))

    def node(self, gpu: Accelerator) -> int:
        """GPUs of the largest node."""
        return int(self.limits.gpus_per_node.get(gpu.product, DEFAULT_NODE))


@dataclass(frozen=True)
class Candidate:
    """A sized candidate, or why there is none.

    Args:
        gpu: accelerator.
        config: engine settings; None when nothing fits.
        replica: the replica; None when nothing fits.
        line: the busiest point at which the objectives hold.
        replicas: copies for the expected load, headroom kept, within the limits.
        wanted: copies for the expected load without the limits.
        hourly_cost: of the fleet.
        refused: why it cannot be used; empty when it can.
    """

    gpu: Accelerator
    tensor_parallel_size: int
    pipeline_parallel_size: int
    config: ResolvedConfig | None = None
    replica: Replica | None = None
    line: OperatingPoint | None = None
    replicas: int = 0
    wanted: int = 0
    hourly_cost: float = math.inf
    refused: str = ""

    @property
    def gpus(self) -> int:
        """GPUs of the fleet."""
        return self.replicas * self.tensor_parallel_size * self.pipeline_parallel_size

    @property
    def short(self) -> bool:
        """Whether the limits keep it below what the expected load needs."""
        return self.replicas < self.wanted

    @property
    def name(self) -> str:
        """Accelerator and parallelism in words."""
        stages = f" PP {self.pipeline_parallel_size}" if self.pipeline_parallel_size > 1 else ""
        return f"{self.gpu.product} TP {self.tensor_parallel_size}{stages}"


def parallelisms(ask: Ask, gpu: Accelerator) -> Iterator[tuple[int, int]]:
    """(tensor, pipeline) sizes worth a look: powers of two in a node, pipelines across nodes or without fast links."""
    limits, node = ask.limits, ask.node(gpu)
    tensors = [size for size in (1, 2, 4, 8, 16) if size <= node and ask.facts.num_attention_heads % size == 0]
    if limits.tensor_parallel_size is not None:
        tensors = [limits.tensor_parallel_size]
    for tensor in tensors:
        if limits.pipeline_parallel_size is not None:
            yield tensor, limits.pipeline_parallel_size
            continue
        yield tensor, 1
        across = tensor == max(tensors)
        slow = gpu.link_domain == 1 and tensor > 1
        for stages in (2, 4):
            if across or (slow and tensor * stages <= node):
                yield tensor, stages


def first_look(ask: Ask, gpu: Accelerator, tensor: int, stages: int) -> Candidate:
    """A candidate with the first token budget."""
    tokens = ask.limits.max_num_batched_tokens or max(FIRST_BATCHED_TOKENS, ask.limits.max_num_seqs or 0)
    return sized(ask, gpu, tensor, stages, tokens)


def sized(ask: Ask, gpu: Accelerator, tensor: int, stages: int, tokens: int) -> Candidate:
    """A candidate with a token budget: settings, load line, replicas and cost."""
    bare = Candidate(gpu, tensor, stages)
    try:
        config = settled(ask, gpu, tensor, stages, tokens, FIRST_SEQUENCES)
        replica = Replica.of(ask.facts, gpu, config, ask.workload)
        line = load_line(replica, ask.objectives)
        if ask.limits.max_num_seqs is None and line.running > 0:
            needed = _sequences_for(line.running, replica)
            if needed != config.max_num_seqs:
                config = settled(ask, gpu, tensor, stages, tokens, needed)
                replica = Replica.of(ask.facts, gpu, config, ask.workload)
                line = load_line(replica, ask.objectives)
    except RecommenderError as error:
        return replace(bare, refused=str(error))
    if line.rate <= 0:
        return replace(bare, config=config, replica=replica, refused=_missed(replica, ask.objectives))
    wanted = _replicas_for(ask, line)
    replicas, refused = _bounded(ask, gpu, tensor * stages, wanted)
    cost = replicas * tensor * stages * ask.price(gpu)
    return replace(
        bare,
        config=config,
        replica=replica,
        line=line,
        replicas=replicas,
        wanted=wanted,
        hourly_cost=cost,
        refused=refused,
    )


def utilization_for(gpu: Accelerator, facts: ModelFacts, config: EngineConfig) -> float:
    """The largest gpu_memory_utilization whose remainder holds the CUDA context, graphs not budgeted, and a reserve."""
    settings = resolve(config, facts, gpu)
    outside = budget.CONTEXT_GIB + RESERVE_GIB
    if config.tensor_parallel_size > 1:
        outside += budget.COLLECTIVE_CONTEXT_GIB
    if settings.version < budget.GRAPHS_BUDGETED:
        outside += budget.cuda_graphs(facts.layers, settings).value / config.pipeline_parallel_size
    return min(LARGEST_UTILIZATION, math.floor((1 - outside / gpu.memory_gib) * 100) / 100)


def settled(ask: Ask, gpu: Accelerator, tensor: int, stages: int, tokens: int, sequences: int) -> ResolvedConfig:
    """Every engine setting of a candidate.

    Raises:
        RecommenderError: when the model does not fit or cannot be divided.
    """
    limits, facts = ask.limits, ask.facts
    draft = EngineConfig(
        tensor_parallel_size=tensor,
        pipeline_parallel_size=stages,
        max_num_batched_tokens=max(tokens, limits.max_num_seqs or 1),
        max_num_seqs=limits.max_num_seqs or min(sequences, tokens),
        max_model_len=limits.max_model_len or _required_context(ask),
        dtype="float16" if not gpu.bfloat16 and facts.dtype == "bfloat16" else "auto",
        kv_cache_dtype=limits.kv_cache_dtype or "auto",
        engine_version=ask.version,
    )
    share = limits.gpu_memory_utilization or utilization_for(gpu, facts, draft)
    config = resolve(replace(draft, gpu_memory_utilization=share), facts, gpu)
    ledger = memory_ledger(facts, gpu, config)
    if not ledger.fits:
        raise InfeasibleError(ledger.reason)
    if limits.max_model_len is None:
        config = replace(config, max_model_len=_context_for(ask, config, ledger))
    return config


def _required_context(ask: Ask) -> int:
    """Tokens that the longest ordinary request needs."""
    longest = LONGEST_TO_P95 * (ask.workload.input_p95 + ask.workload.output_p95)
    return min(ask.facts.max_position_embeddings, math.ceil(longest / CONTEXT_STEP) * CONTEXT_STEP)


def _context_for(ask: Ask, config: ResolvedConfig, ledger: MemoryLedger) -> int:
    """The model's own context, or what keeps one sequence within its share of the KV cache; at least the required."""
    whole = replace(config, max_model_len=ask.facts.max_position_embeddings)
    layout = layout_of(ask.facts, whole, ledger.stage)
    fitting = longest_context(layout, whole, int(ledger.kv_cache_blocks * CONTEXT_SHARE))
    if fitting < whole.max_model_len:
        fitting = fitting // CONTEXT_STEP * CONTEXT_STEP
    return max(fitting, config.max_model_len)


def _sequences_for(running: float, replica: Replica) -> int:
    """max_num_seqs for a number running at the load line: with room for bursts, no more than the KV cache holds."""
    wanted = min(running * BURST_ALLOWANCE, replica.slots_by_kv, MOST_SEQUENCES)
    return max(SEQUENCE_STEP, math.ceil(wanted / SEQUENCE_STEP) * SEQUENCE_STEP)


def _replicas_for(ask: Ask, line: OperatingPoint) -> int:
    usable = 1 - ask.limits.headroom
    if ask.workload.requests_per_second is not None:
        return max(1, math.ceil(ask.workload.requests_per_second / (line.rate * usable) - 1e-9))
    if ask.workload.concurrency is not None:
        return max(1, math.ceil(ask.workload.concurrency / (max(line.running, 1e-9) * usable) - 1e-9))
    return 1


def _bounded(ask: Ask, gpu: Accelerator, gpus: int, wanted: int) -> tuple[int, str]:
    """(replicas within the limits, why none is possible)."""
    limits = ask.limits
    replicas = max(wanted, limits.min_replicas, 1)
    if limits.max_replicas is not None:
        replicas = min(replicas, limits.max_replicas)
    most = limits.max_gpus.get(gpu.product)
    if most is not None:
        replicas = min(replicas, most // gpus)
        if replicas < 1:
            return 0, f"one replica needs {gpus} GPUs, max_gpus of {gpu.product} is {most}"
    price = ask.price(gpu) * gpus
    if limits.budget_per_hour is not None and price > 0:
        replicas = min(replicas, int(limits.budget_per_hour / price + 1e-9))
        if replicas < 1:
            return 0, f"one replica costs {price:.2f}/h, budget_per_hour is {limits.budget_per_hour:g}"
    return replicas, ""


def _missed(replica: Replica, objectives: Objectives) -> str:
    """Which objective a single request already misses, with numbers."""
    point = replica.at(1e-6)
    times = open_times(replica, point)
    field = violated(replica, point, objectives) or "ttft"
    mean, variation = getattr(times, field), getattr(times, f"{field}_variation")
    target = getattr(objectives, field)
    reached = quantile(mean, variation, objectives.percentile)
    return (
        f"{field} of an idle replica is {reached * 1000:.0f} ms at p{objectives.percentile:g}, the objective is "
        f"{(target or 0) * 1000:.0f} ms"
    )

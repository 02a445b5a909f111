"""From an LLMService to the recommender and back: what it is asked, and what its answer is in the status.

The recommendation in force is kept for as long as what it was computed from stays the same. A node that comes or goes
is not part of that, because nobody wants a running fleet replaced on account of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from plimsoll_api.v1alpha1 import (
    Alternative,
    EngineConfigStatus,
    LedgerStatus,
    LLMServiceSpec,
    PredictedStatus,
    Reason,
    RecommendationStatus,
    format_decimal,
    format_duration,
    parse_duration,
)
from plimsoll_api.v1alpha1.base import to_camel
from plimsoll_operator.conditions.reasons import Reason as ConditionReason
from plimsoll_operator.errors import BlockedError, InvalidSpecError
from plimsoll_operator.fleet import Fleet
from plimsoll_operator.memory_ceilings import NO_CEILINGS, Ceilings
from plimsoll_operator.model_facts import KnownModel
from plimsoll_recommender.catalogue.accelerators import Accelerator, accelerator
from plimsoll_recommender.engine_config import version_of
from plimsoll_recommender.errors import (
    InfeasibleError,
    RecommenderError,
    UnknownAcceleratorError,
    UnknownModelError,
)
from plimsoll_recommender.recommendation import Limits, Recommendation
from plimsoll_recommender.traffic import Objectives, Workload

SIZING_REVISION: Final = "1"
"""Raise it when running services should be sized anew after an upgrade; otherwise an upgrade replaces no pod."""

NO_ACCELERATOR_RETRY_S: Final = 30.0
"""GPUs may join the cluster at any time; the list of nodes is read again after this long."""

GPUS_PER_NODE: Final = 8
"""Assumed of an accelerator that no node has yet, as the recommender does: the largest common machine."""

_MOST_REASONS: Final = 32
_MOST_ALTERNATIVES: Final = 16
"""Lengths that the API allows."""


@dataclass(frozen=True)
class SizingInputs:
    """All that a recommendation is computed from.

    Attributes:
        model: the model.
        accelerators: candidates.
        workload: expected traffic.
        objectives: what users should see.
        limits: pinned settings, bounds and prices.
        digest: of the above, less what the cluster's nodes contribute.
        cache_key: of all of the above.
    """

    model: KnownModel
    accelerators: tuple[Accelerator, ...]
    workload: Workload
    objectives: Objectives
    limits: Limits
    digest: str
    cache_key: str


def sizing_inputs(
    spec: LLMServiceSpec, model: KnownModel, fleet: Fleet, ceilings: Ceilings = NO_CEILINGS
) -> SizingInputs:
    """What to ask the recommender for a service.

    Args:
        spec: what a person asked for.
        model: the model.
        fleet: the cluster's GPUs.
        ceilings: what memory settings were stepped down to.

    Raises:
        InvalidSpecError: an accelerator is unknown, or a replica needs more GPUs than a node has.
        BlockedError: no accelerator is named and no node has a known one.
    """
    candidates = _candidates(spec, fleet)
    check_one_node(spec, [item.product for item in candidates], fleet)
    prices = {item.product: item.hourly_cost for item in candidates}
    prices |= {c.product: float(c.hourly_cost) for c in spec.accelerators if c.hourly_cost is not None}
    digest = input_digest(spec, model, ceilings)
    nodes = {product: count for product, count in fleet.per_node.items() if product in prices}
    try:
        return SizingInputs(
            model=model,
            accelerators=candidates,
            workload=_workload(spec),
            objectives=_objectives(spec),
            limits=_limits(spec, prices, nodes, ceilings),
            digest=digest,
            cache_key=_hash({"digest": digest, "products": sorted(prices), "nodes": nodes}),
        )
    except RecommenderError as error:
        raise InvalidSpecError(ConditionReason.INVALID_SPEC, str(error)) from None


def input_digest(spec: LLMServiceSpec, model: KnownModel, ceilings: Ceilings = NO_CEILINGS) -> str:
    """The hash of everything that a person can change about a recommendation, and of what starts have shown."""
    asked = spec.model_dump(
        mode="json", include={"workload", "objectives", "accelerators", "engine"}, exclude={"engine": {"extra_args"}}
    )
    asked["bounds"] = [spec.scaling.min_replicas, spec.scaling.max_replicas, spec.scaling.budget_per_hour]
    if ceilings:  # absent otherwise, so that most services keep the hash they have
        asked["ceilings"] = [ceilings.gpu_memory_utilization, ceilings.max_num_seqs]
    return _hash({"revision": SIZING_REVISION, "model": model.identity, "asked": asked})


def still_in_force(
    recommendation: RecommendationStatus | None,
    spec: LLMServiceSpec,
    model: KnownModel,
    fleet: Fleet,
    ceilings: Ceilings = NO_CEILINGS,
) -> bool:
    """Whether a service's recommendation need not be computed again."""
    if recommendation is None or recommendation.input_hash != input_digest(spec, model, ceilings):
        return False
    found_on_nodes = not spec.accelerators
    gone = fleet.per_node and recommendation.config.accelerator not in fleet.per_node
    return not (found_on_nodes and gone)


def compute(inputs: SizingInputs) -> RecommendationStatus:
    """Ask the recommender; up to 0.3 s of one core, so not on the event loop.

    Raises:
        InvalidSpecError: nothing that is allowed fits or meets the objectives.
    """
    from plimsoll_recommender import recommend  # NumPy and SciPy come with it

    def ask(limits: Limits) -> Recommendation:
        return recommend(inputs.model.facts, list(inputs.accelerators), inputs.workload, inputs.objectives, limits)

    try:
        answer = ask(inputs.limits)
        if spans_nodes(answer, inputs.limits):
            answer = ask(replace(inputs.limits, pipeline_parallel_size=1))
        if spans_nodes(answer, inputs.limits):
            raise InvalidSpecError(ConditionReason.NOT_SUPPORTED, _too_many_gpus(answer, inputs.limits))
    except InfeasibleError as error:
        raise InvalidSpecError(ConditionReason.INFEASIBLE, str(error)) from None
    except UnknownModelError as error:
        raise InvalidSpecError(ConditionReason.UNKNOWN_MODEL, str(error)) from None
    except RecommenderError as error:
        raise InvalidSpecError(ConditionReason.INVALID_SPEC, str(error)) from None
    return as_status(answer, inputs)


def spans_nodes(answer: Recommendation, limits: Limits) -> bool:
    """Whether one replica of a recommendation needs more GPUs than a node has."""
    return answer.config.gpus > limits.gpus_per_node.get(answer.accelerator.product, GPUS_PER_NODE)


def _too_many_gpus(answer: Recommendation, limits: Limits) -> str:
    product = answer.accelerator.product
    return (
        f"one replica needs {answer.config.gpus} x {product} and a node has "
        f"{limits.gpus_per_node.get(product, GPUS_PER_NODE)}: replicas over several nodes are not supported; "
        "allow a larger GPU in spec.accelerators or a quantised model"
    )


def as_status(answer: Recommendation, inputs: SizingInputs) -> RecommendationStatus:
    """A recommendation as the API carries it; `appliedGeneration` is the reconciler's to set."""
    config, ledger, predicted = answer.config, answer.ledger, answer.predicted
    percentile = inputs.objectives.percentile
    return RecommendationStatus(
        config=EngineConfigStatus(
            accelerator=answer.accelerator.product,
            tensor_parallel_size=config.tensor_parallel_size,
            pipeline_parallel_size=config.pipeline_parallel_size,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=config.max_num_batched_tokens,
            gpu_memory_utilization=format_decimal(config.gpu_memory_utilization, 4),
            max_model_len=config.max_model_len,
            kv_cache_dtype=config.kv_cache_dtype,
            replicas=answer.replicas,
        ),
        ledger=LedgerStatus(
            total_gib=_gib(ledger.gpu_total_gib),
            weights_gib=_gib(ledger.weights_gib),
            activation_peak_gib=_gib(ledger.activation_peak_gib),
            non_torch_gib=_gib(ledger.non_torch_gib),
            cuda_graphs_gib=_gib(ledger.cuda_graphs_gib),
            kv_cache_gib=_gib(ledger.kv_cache_gib),
            kv_cache_tokens=ledger.kv_cache_tokens,
        ),
        predicted=PredictedStatus(
            ttft=format_duration(predicted.ttft.at(percentile)),
            tpot=format_duration(predicted.tpot.at(percentile)),
            e2e=format_duration(predicted.e2e.at(percentile)),
            load_line_requests_per_second=format_decimal(answer.load_line_rps),
            load_line_concurrency=format_decimal(answer.load_line_concurrency),
            output_tokens_per_second=format_decimal(predicted.throughput.output_tokens_per_second, 1),
            input_tokens_mean=format_decimal(inputs.workload.input_tokens),
        ),
        reasons=[
            Reason(field=to_camel(r.field), value=r.value, because=r.because) for r in answer.reasons[:_MOST_REASONS]
        ],
        alternatives=[
            Alternative(
                summary=other.summary,
                hourly_cost=None if other.hourly_cost is None else format_decimal(other.hourly_cost),
                rejected_because=other.rejected_because,
            )
            for other in answer.alternatives[:_MOST_ALTERNATIVES]
        ],
        confidence=answer.confidence,
        input_hash=inputs.digest,
        applied_generation=0,
    )


def check_one_node(spec: LLMServiceSpec, products: list[str], fleet: Fleet) -> None:
    """Refuse a pinned parallelism that no single node can hold; replicas over several nodes are not supported.

    Raises:
        InvalidSpecError: with the GPUs of a replica and of the largest node.
    """
    needed = (spec.engine.tensor_parallel_size or 1) * (spec.engine.pipeline_parallel_size or 1)
    sizes = {product: fleet.per_node[product] for product in products if product in fleet.per_node}
    if not sizes or needed <= max(sizes.values()):
        return
    product = max(sizes, key=lambda name: sizes[name])
    raise InvalidSpecError(
        ConditionReason.NOT_SUPPORTED,
        f"engine.tensorParallelSize {spec.engine.tensor_parallel_size or 1} x engine.pipelineParallelSize "
        f"{spec.engine.pipeline_parallel_size or 1} needs {needed} GPUs in one node, and the largest node has "
        f"{sizes[product]} of {product}: replicas over several nodes are not supported, "
        f"so their product must be at most {sizes[product]}",
    )


def hourly_price(spec: LLMServiceSpec, product: str) -> float | None:
    """Price of one GPU-hour: the service's own, else the catalogue's; None when neither knows."""
    for candidate in spec.accelerators:
        if candidate.product == product and candidate.hourly_cost is not None:
            return float(candidate.hourly_cost)
    try:
        return accelerator(product).hourly_cost
    except UnknownAcceleratorError:
        return None


def _candidates(spec: LLMServiceSpec, fleet: Fleet) -> tuple[Accelerator, ...]:
    if spec.accelerators:
        try:
            return tuple(_named(candidate.product) for candidate in spec.accelerators)
        except UnknownAcceleratorError as error:
            raise InvalidSpecError(ConditionReason.UNKNOWN_ACCELERATOR, f"accelerators: {error}") from None
    known = []
    for product in fleet.products:
        try:
            known.append(_named(product))
        except UnknownAcceleratorError:
            continue
    if not known:
        seen = f"nodes have {', '.join(fleet.products)}" if fleet.products else "no node has the label"
        text = (
            f"spec.accelerators is empty and no node has a GPU of the catalogue ({seen} nvidia.com/gpu.product): "
            "add GPU nodes with GPU feature discovery, or set spec.accelerators"
        )
        raise BlockedError(ConditionReason.NO_ACCELERATOR, text, NO_ACCELERATOR_RETRY_S)
    return tuple(known)


def _named(product: str) -> Accelerator:
    """The catalogue's accelerator under the very name that nodes are labelled with."""
    return replace(accelerator(product), product=product)


def _workload(spec: LLMServiceSpec) -> Workload:
    work = spec.workload
    return Workload(
        input_tokens=work.input_tokens.mean,
        output_tokens=work.output_tokens.mean,
        requests_per_second=float(work.requests_per_second),
        burstiness=float(work.burstiness),
        input_tokens_p95=work.input_tokens.p95,
        output_tokens_p95=work.output_tokens.p95,
    )


def _objectives(spec: LLMServiceSpec) -> Objectives:
    aims = spec.objectives
    return Objectives(
        ttft=parse_duration(aims.ttft),
        tpot=parse_duration(aims.tpot),
        e2e=parse_duration(aims.e2e) if aims.e2e else None,
        percentile=float(aims.percentile),
    )


def _limits(spec: LLMServiceSpec, prices: Mapping[str, float], nodes: Mapping[str, int], ceilings: Ceilings) -> Limits:
    engine, scaling = spec.engine, spec.scaling
    return Limits(
        tensor_parallel_size=engine.tensor_parallel_size,
        pipeline_parallel_size=engine.pipeline_parallel_size,
        max_num_seqs=engine.max_num_seqs,
        max_num_batched_tokens=engine.max_num_batched_tokens,
        gpu_memory_utilization=float(engine.gpu_memory_utilization) if engine.gpu_memory_utilization else None,
        max_model_len=engine.max_model_len,
        kv_cache_dtype=engine.kv_cache_dtype.value if engine.kv_cache_dtype else None,
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        budget_per_hour=float(scaling.budget_per_hour) if scaling.budget_per_hour else None,
        gpus_per_node=nodes,
        max_gpus={c.product: c.max_count for c in spec.accelerators if c.max_count is not None},
        hourly_cost=prices,
        utilization_ceiling={p: float(c) for p, c in ceilings.gpu_memory_utilization.items() if p in prices},
        sequences_ceiling={p: c for p, c in ceilings.max_num_seqs.items() if p in prices},
        engine_version=_engine_version(engine.image),
    )


def _engine_version(image: str | None) -> str | None:
    """The release in an image's tag; None when the tag does not say."""
    tag = (image or "").partition("@")[0].rpartition(":")[2]
    try:
        version_of(tag)
    except RecommenderError:
        return None
    return tag.removeprefix("v")


def _gib(value: float) -> str:
    return format_decimal(max(0.0, value), 2)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]

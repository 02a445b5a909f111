"""What is asked of every candidate: the question, checked once, in the form in which the search uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeVar

from plimsoll_recommender.catalogue.accelerators import Accelerator, accelerator
from plimsoll_recommender.engine_config import DEFAULT_ENGINE_VERSION
from plimsoll_recommender.errors import RecommenderError, UnknownAcceleratorError
from plimsoll_recommender.facts.layers import Layer
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.recommendation import Limits
from plimsoll_recommender.traffic import Objectives, Workload

if TYPE_CHECKING:
    from plimsoll_recommender.observation.corrections import Corrections

Value = TypeVar("Value", int, float)

DEFAULT_NODE: Final = 8
"""GPUs of a node when nothing is known of the nodes."""

EIGHT_BIT_KV: Final = frozenset({"fp8", "fp8_e4m3", "fp8_e5m2"})
"""KV cache types that are chosen only on GPUs that compute in fp8."""


@dataclass(frozen=True, eq=False)
class Form:
    """What is loaded: the model or an allowed variant, with one KV cache type.

    Args:
        order: place in the order of preference at equal cost; 0 is the model as it is.
        variant: name of the variant; empty for the model itself.
        source: facts of what is read from disk.
        facts: facts as they are in memory, their layers with a remembered hash.
        quantization: quantisation done while loading.
        kv_cache_dtype: type of the KV cache.
    """

    order: int
    variant: str
    source: ModelFacts
    facts: ModelFacts
    quantization: str | None
    kv_cache_dtype: str

    def refused_on(self, gpu: Accelerator) -> str:
        """Why it is not tried on a GPU; empty when it is."""
        if self.order == 0:
            return ""
        if self.kv_cache_dtype in EIGHT_BIT_KV and gpu.flops_fp8 is None:
            return f"kv_cache_dtype {self.kv_cache_dtype}: {gpu.product} does not compute in fp8"
        if self.kv_cache_dtype == "nvfp4" and gpu.flops_fp4 is None:
            return f"kv_cache_dtype nvfp4: {gpu.product} does not compute in fp4"
        if self.quantization == "fp8" and gpu.architecture in ("volta", "turing"):
            return f"quantization fp8: {gpu.product} is older than the kernels need (Ampere)"
        return ""


@dataclass(frozen=True, eq=False)
class Ask:
    """What is asked of every candidate.

    Args:
        facts: the model.
        gpus: the kinds of accelerator that may be used, each once.
        workload: expected traffic.
        objectives: what must hold.
        limits: what may not change; its mappings by the products of `gpus`.
        corrections: what was observed of running engines, or None.
    """

    facts: ModelFacts
    gpus: tuple[Accelerator, ...]
    workload: Workload
    objectives: Objectives
    limits: Limits
    corrections: Corrections | None = None

    @property
    def version(self) -> str:
        """Release of the engine that will run."""
        return self.limits.engine_version or DEFAULT_ENGINE_VERSION

    @property
    def demand(self) -> float | None:
        """What the fleet must carry: requests/s, or requests in flight; None when no load was stated."""
        rate = self.workload.requests_per_second
        return rate if rate is not None else self.workload.concurrency

    def price(self, gpu: Accelerator) -> float:
        """Price of one GPU-hour."""
        return float(self.limits.hourly_cost.get(gpu.product, gpu.hourly_cost))

    def node(self, gpu: Accelerator) -> int:
        """GPUs of the largest node."""
        return int(self.limits.gpus_per_node.get(gpu.product, DEFAULT_NODE))

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """What may be loaded, in order of preference: the model as it is, other KV cache types, variants."""
        limits = self.limits
        own = limits.kv_cache_dtype or "auto"
        types = [own]
        if limits.kv_cache_dtype is None:
            types += [dtype for dtype in dict.fromkeys(limits.allow_kv_cache_dtypes) if dtype != own]
        sources: list[tuple[str, ModelFacts, str | None]] = [("", self.facts, None)]
        sources += [(variant.name, variant.facts or self.facts, variant.quantization) for variant in limits.variants]
        return tuple(
            Form(order, name, source, remembered(source.as_loaded("auto", scheme)), scheme, dtype)
            for order, (name, source, scheme, dtype) in enumerate(
                (*source, dtype) for source in sources for dtype in types
            )
        )


class _Remembered(Layer):
    """A layer that computes its hash once: a search looks layers up a hundred thousand times."""

    @cached_property
    def _hash(self) -> int:
        return super().__hash__()

    def __hash__(self) -> int:
        return self._hash


def remembered(facts: ModelFacts) -> ModelFacts:
    """The same facts with layers that remember their hash, equal layers being one object."""
    known: dict[Layer, Layer] = {}
    for layer in dict.fromkeys(facts.layers):
        values = {name: getattr(layer, name) for name in Layer.__dataclass_fields__}
        known[layer] = _Remembered(**values)
    return replace(facts, layers=tuple(known[layer] for layer in facts.layers))


def asked(
    facts: ModelFacts,
    accelerators: Sequence[Accelerator],
    workload: Workload,
    objectives: Objectives | None,
    limits: Limits | None,
    corrections: Corrections | None,
) -> Ask:
    """The question, checked.

    Raises:
        RecommenderError: no accelerators, an unknown product among the limits, a context that the model does not have,
            or a variant that is none.
    """
    if not accelerators:
        raise RecommenderError("no accelerators given: name at least one, such as NVIDIA-H100-80GB-HBM3")
    gpus = tuple(dict.fromkeys(accelerators))
    given = limits or Limits()
    known = replace(
        given,
        gpus_per_node=_by_product("gpus_per_node", given.gpus_per_node, gpus),
        max_gpus=_by_product("max_gpus", given.max_gpus, gpus),
        utilization_ceiling=_by_product("utilization_ceiling", given.utilization_ceiling, gpus),
        sequences_ceiling=_by_product("sequences_ceiling", given.sequences_ceiling, gpus),
        hourly_cost=_by_product("hourly_cost", given.hourly_cost, gpus),
    )
    _check_context(facts, workload, known)
    for variant in known.variants:
        _check_variant(variant.name, variant.facts or facts, variant.quantization)
    return Ask(facts, gpus, workload, objectives or Objectives(), known, corrections)


def _by_product(field: str, given: Mapping[str, Value], gpus: Sequence[Accelerator]) -> dict[str, Value]:
    """A limit by the products that are asked about; aliases are resolved, other known products left out.

    Raises:
        RecommenderError: a name that neither a GPU asked about nor the catalogue has.
    """
    products = {gpu.product for gpu in gpus}
    found: dict[str, Value] = {}
    for name, value in given.items():
        if name in products:
            found[name] = value
            continue
        try:
            product = accelerator(name).product
        except UnknownAcceleratorError as error:
            raise RecommenderError(f"{field}: {error}") from None
        if product in products:
            found.setdefault(product, value)
    return found


def _check_context(facts: ModelFacts, workload: Workload, limits: Limits) -> None:
    longest = facts.max_position_embeddings
    asked_for = limits.max_model_len
    if asked_for is not None and asked_for > longest:
        raise RecommenderError(
            f"max_model_len {asked_for:,} is more than the {longest:,} positions of {facts.name}: lower it to "
            f"{longest:,} or leave it out"
        )
    mean = workload.input_tokens + workload.output_tokens
    if mean > longest:
        raise RecommenderError(
            f"input_tokens + output_tokens ({workload.input_tokens:,.0f} + {workload.output_tokens:,.0f}) are more "
            f"than the {longest:,} positions of {facts.name}: shorten them or choose a model with a longer context"
        )


def _check_variant(name: str, facts: ModelFacts, scheme: str | None) -> None:
    if scheme is None:
        return
    if facts.quantization is not None:
        raise RecommenderError(
            f"variants: {name} quantises {facts.name} while loading, which is stored as {facts.quantization.label} "
            "already: leave its quantization out"
        )
    try:
        facts.as_loaded("auto", scheme)
    except RecommenderError as error:
        raise RecommenderError(f"variants: {name}: {error}") from None

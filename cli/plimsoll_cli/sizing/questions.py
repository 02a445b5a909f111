"""From parsed options to the recommender's types."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, Final

from plimsoll_cli.errors import CommandError
from plimsoll_cli.sizing.observed import corrections_of
from plimsoll_cli.sizing.wording import WRONG_INPUT
from plimsoll_recommender import (
    Accelerator,
    EngineConfig,
    Limits,
    ModelFacts,
    Objectives,
    UnknownModelError,
    Workload,
    accelerator,
    memory_ledger,
)
from plimsoll_recommender.explanation.question import Question
from plimsoll_recommender.facts.quantization import LOAD_TIME_BITS
from plimsoll_recommender.recommendation import Variant

Given = Mapping[str, Any]
"""Parsed options by name."""

HUB_ID: Final = r"[\w.-]+/[\w.-]+"
"""What a name on the hub looks like: organisation and model."""


def facts_of(given: Given) -> ModelFacts:
    """Facts of --model, with the exact bytes of --weight-bytes.

    Raises:
        CommandError: no model, one that is not known, or bytes that are not possible.
        RecommenderError: a config.json that is not usable.
    """
    if not given["model"]:
        raise CommandError("--model is missing: name a model, such as --model Qwen/Qwen3-8B", WRONG_INPUT)
    facts = model_of(given["model"], given["hub_token_env"])
    exact = given["weight_bytes"]
    if exact is None:
        return facts
    if exact <= 0:
        raise CommandError(f"--weight-bytes must be above zero, got {exact}: give the checkpoint's bytes", WRONG_INPUT)
    return replace(facts, weight_bytes=exact)


def model_of(name: str, token_env: str | None) -> ModelFacts:
    """Facts of a model, from the hub only when it is an `hf://` name that the catalogue does not have.

    Raises:
        CommandError: the hub does not give it.
        UnknownModelError: it is not known, and no name of the hub.
    """
    if not name.startswith("hf://"):
        try:
            return ModelFacts.load(name)
        except UnknownModelError as error:
            hub = f", or write hf://{name} to ask the hub" if re.fullmatch(HUB_ID, name) else ""
            raise UnknownModelError(f"{error}{hub}") from error
    # Imported only now: a catalogue name is answered before the hub's client is loaded.
    from plimsoll_cli.sizing.hub import load_model

    return load_model(name, token_env=token_env)


def workload_of(given: Given) -> Workload:
    """The workload of parsed options."""
    return Workload(**_named(Workload, given))


def objectives_of(given: Given) -> Objectives:
    """The objectives of parsed options."""
    return Objectives(**_named(Objectives, given))


def config_of(given: Given) -> EngineConfig:
    """The engine settings of parsed options."""
    return EngineConfig(**_named(EngineConfig, given))


def device_of(name: str, total_gib: float | None) -> Accelerator:
    """An accelerator, with the memory that its driver reports when that is known.

    Raises:
        CommandError: memory that is not above zero.
    """
    device = accelerator(name)
    if total_gib is None:
        return device
    if not (math.isfinite(total_gib) and total_gib > 0):
        raise CommandError(f"--gpu-total-gib must be above zero, got {total_gib:g}: give it in GiB", WRONG_INPUT)
    return replace(device, memory_gib=total_gib)


def question_of(given: Given) -> Question:
    """What `recommend` is asked.

    Raises:
        CommandError: options that are missing, or do not go together.
        RecommenderError: values that are not possible.
    """
    facts = facts_of(given)
    if not given["gpus"]:
        raise CommandError(
            "--gpu is missing: name each kind that may be used, such as --gpu H100 --gpu L4", WRONG_INPUT
        )
    devices = tuple(device_of(name, given["gpu_total_gib"]) for name, _ in given["gpus"])
    if given["gpu_total_gib"] is not None and len(devices) > 1:
        raise CommandError("--gpu-total-gib is of one kind of GPU: give one --gpu with it", WRONG_INPUT)
    limits = limits_of(given, devices)
    corrections = corrections_of(given["observed"], facts, devices, None)
    if given["weights_gib"] is not None:
        facts = _measured(facts, devices, limits, given["weights_gib"])
    return Question(facts, devices, workload_of(given), objectives_of(given), limits, corrections)


def limits_of(given: Given, devices: Iterable[Accelerator]) -> Limits:
    """The limits of parsed options."""
    plain = _named(Limits, {name: value for name, value in given.items() if name not in _BY_PRODUCT})
    nodes: dict[str, int] = {}
    for name, count in given["gpus_per_node"]:
        for product in [accelerator(name).product] if name else [device.product for device in devices]:
            nodes[product] = count
    return Limits(
        **plain,
        gpus_per_node=nodes,
        max_gpus=_by_product(given["max_gpus"]),
        utilization_ceiling=_by_product(given["utilization_ceiling"]),
        sequences_ceiling=_by_product(given["sequences_ceiling"]),
        hourly_cost={accelerator(name).product: price for name, price in given["gpus"] if price is not None},
        variants=tuple(variant_of(name, given["hub_token_env"]) for name in given["variants"]),
    )


def _by_product(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Numbers by the product that each name means."""
    return {accelerator(name).product: number for name, number in pairs}


def variant_of(name: str, token_env: str | None) -> Variant:
    """A variant by a load-time quantisation, or by the name of its own checkpoint.

    Raises:
        CommandError: it is neither.
    """
    if name in LOAD_TIME_BITS:
        return Variant(name, quantization=name)
    try:
        return Variant(name, facts=model_of(name, token_env))
    except UnknownModelError as error:
        known = ", ".join(LOAD_TIME_BITS)
        raise CommandError(f"--variant: {error}; or a load-time quantisation: {known}", WRONG_INPUT) from error


_BY_PRODUCT: Final = frozenset(
    {"gpus_per_node", "max_gpus", "hourly_cost", "utilization_ceiling", "sequences_ceiling", "variants"}
)
"""Fields of `Limits` whose options are read one by one."""


def with_weights(facts: ModelFacts, device: Accelerator, config: EngineConfig, weights_gib: float | None) -> ModelFacts:
    """Facts whose estimate of weights on a GPU equals the measured GiB.

    Raises:
        RecommenderError: weights that are not above zero, or a configuration that cannot be.
    """
    if weights_gib is None:
        return facts
    estimated = memory_ledger(facts, device, config).weights_gib
    memory_ledger(facts, device, config, weights_gib=weights_gib)  # refuses what is not possible
    return replace(facts, weight_bytes=max(1, round(facts.checkpoint_bytes * weights_gib / estimated)))


def _measured(facts: ModelFacts, devices: tuple[Accelerator, ...], limits: Limits, weights_gib: float) -> ModelFacts:
    if limits.tensor_parallel_size is None:
        raise CommandError(
            "--weights-gib is per GPU: add the --tensor-parallel-size it was measured at, or give --weight-bytes",
            WRONG_INPUT,
        )
    config = EngineConfig(
        tensor_parallel_size=limits.tensor_parallel_size, pipeline_parallel_size=limits.pipeline_parallel_size or 1
    )
    return with_weights(facts, devices[0], config, weights_gib)


def _named(kind: Any, given: Given) -> dict[str, Any]:
    """Those options that are fields of a dataclass."""
    return {field.name: given[field.name] for field in fields(kind) if field.name in given}

"""A recommendation as an LLMService that can be applied: what was asked, with the answer beside it as comments."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from plimsoll_api.v1alpha1 import LLMServiceSpec, format_decimal, format_duration
from plimsoll_api.v1alpha1.base import to_camel
from plimsoll_api.v1alpha1.spec import MAX_REPLICAS
from plimsoll_cli.errors import CommandError
from plimsoll_cli.sizing.wording import WRONG_INPUT, first_mistake
from plimsoll_operator.sizing import spans_nodes
from plimsoll_recommender import Limits, ModelFacts, Objectives, Recommendation, Workload
from plimsoll_recommender.engine_config import DEFAULT_ENGINE_VERSION
from plimsoll_recommender.explanation.headline import headline
from plimsoll_recommender.explanation.question import Question

DEFAULT_MAX_REPLICAS: Final = 8
"""Of the API, when spec.scaling says nothing."""

_COMMENT_WIDTH: Final = 110


def manifest_of(question: Question, answer: Recommendation) -> str:
    """YAML for `kubectl apply`: the operator asks the same question again, and so gives the same answer.

    Raises:
        CommandError: something that an LLMService cannot say.
    """
    _sayable(question, answer)
    spec = _spec(question, answer)
    try:
        LLMServiceSpec.model_validate(spec)
    except ValidationError as error:
        raise CommandError(f"--manifest: {first_mistake(error, 'spec')}", WRONG_INPUT) from error
    document = {
        "apiVersion": "plimsoll.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": service_name((answer.facts or question.facts).name)},
        "spec": spec,
    }
    return _comments(question, answer) + yaml.safe_dump(document, sort_keys=False, width=_COMMENT_WIDTH)


def _sayable(question: Question, answer: Recommendation) -> None:
    """Refuse an answer that the operator would not give to any LLMService.

    Raises:
        CommandError: with what to drop.
    """
    instead = "drop it, or start the engines yourself with --flags"
    if len(answer.fleet) > 1:
        raise CommandError(
            "--manifest: an LLMService runs on one kind of GPU, the answer is a mix: drop --mix-accelerators",
            WRONG_INPUT,
        )
    if answer.config.quantization:
        raise CommandError(
            f"--manifest: the operator sizes checkpoints as they are stored, without --variant "
            f"{answer.config.quantization} done while loading: name a stored checkpoint, {instead}",
            WRONG_INPUT,
        )
    if answer.config.expert_parallel or answer.config.data_parallel_size > 1:
        raise CommandError(f"--manifest: the operator does not use --allow-expert-parallel: {instead}", WRONG_INPUT)
    if spans_nodes(answer, question.limits):
        raise CommandError(
            f"--manifest: one replica needs {answer.config.gpus} GPUs, more than a node has, and the operator runs "
            "a replica within one node: add --pipeline-parallel-size 1, or --gpus-per-node",
            WRONG_INPUT,
        )


def service_name(model: str) -> str:
    """A name that a Service may have, from the last part of a model's name: a letter, then letters, digits, dashes."""
    last = re.sub(r"[^a-z0-9]+", "-", model.rstrip("/").rpartition("/")[2].lower()).strip("-")
    named = last if last[:1].isalpha() else f"model-{last}"
    return named[:40].strip("-")


def _comments(question: Question, answer: Recommendation) -> str:
    lines = [headline(answer, question.workload, question.objectives)]
    lines.append("The operator recommends these settings by itself; set them in spec.engine only to pin them:")
    lines += [f"  {to_camel(reason.field)}: {reason.value}" for reason in answer.reasons]
    lines += _unsaid(question)
    wrapped = [part for line in lines for part in textwrap.wrap(line, _COMMENT_WIDTH, drop_whitespace=False) or [""]]
    return "".join(f"# {line.rstrip()}\n" for line in wrapped)


def _unsaid(question: Question) -> list[str]:
    """What was asked and an LLMService cannot say."""
    workload, limits, notes = question.workload, question.limits, []
    if workload.prefix_hit_ratio:
        notes.append(f"Not said here: a prefix hit ratio of {workload.prefix_hit_ratio:g}; the operator assumes none.")
    if limits.headroom != Limits().headroom:
        notes.append(f"Not said here: a headroom of {limits.headroom:g}; the operator keeps {Limits().headroom:g}.")
    if workload.concurrency is not None:
        notes.append("requestsPerSecond is what the predicted latency makes of the requests in flight.")
    if question.objectives.ttft is None or question.objectives.tpot is None:
        notes.append("An objective that is left out is the API's: ttft 2s, tpot 100ms.")
    return notes


def _spec(question: Question, answer: Recommendation) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "model": {"uri": _uri(answer.facts or question.facts)},
        "workload": _workload(question.workload, answer),
        "objectives": _objectives(question.objectives),
        "accelerators": _accelerators(question),
        "engine": _engine(question.limits, answer),
        "scaling": _scaling(question.limits, answer),
    }
    return {name: part for name, part in spec.items() if part}


def _uri(facts: ModelFacts) -> str:
    source = Path(facts.source)
    if source.is_file():
        return f"file://{source.resolve().parent}"
    return f"hf://{facts.name.removeprefix('hf://')}"


def _workload(workload: Workload, answer: Recommendation) -> dict[str, Any]:
    rate = workload.requests_per_second
    if rate is None and workload.concurrency is not None:
        rate = workload.concurrency * answer.load_line_rps / max(answer.load_line_concurrency, 1e-9)
    said: dict[str, Any] = {
        "inputTokens": _lengths(workload.input_tokens, workload.input_p95),
        "outputTokens": _lengths(workload.output_tokens, workload.output_p95),
    }
    if rate is not None:
        said["requestsPerSecond"] = format_decimal(rate)
    if workload.burstiness != 1:
        said["burstiness"] = format_decimal(workload.burstiness)
    return said


def _lengths(mean: float, p95: float) -> dict[str, int]:
    return {"mean": max(1, round(mean)), "p95": max(1, round(p95))}


def _objectives(objectives: Objectives) -> dict[str, Any]:
    said: dict[str, Any] = {
        name: format_duration(value)
        for name in ("ttft", "tpot", "e2e")
        if (value := getattr(objectives, name)) is not None
    }
    if objectives.percentile != Objectives().percentile:
        said["percentile"] = round(objectives.percentile)
    return said


def _accelerators(question: Question) -> list[dict[str, Any]]:
    prices, most = question.limits.hourly_cost, question.limits.max_gpus
    said = []
    for gpu in question.accelerators:
        entry: dict[str, Any] = {"product": gpu.product}
        if gpu.product in prices:
            entry["hourlyCost"] = format_decimal(prices[gpu.product])
        if gpu.product in most:
            entry["maxCount"] = most[gpu.product]
        said.append(entry)
    return said


def _engine(limits: Limits, answer: Recommendation) -> dict[str, Any]:
    said: dict[str, Any] = {
        to_camel(name): format_decimal(value, 4) if isinstance(value, float) else value
        for name, value in limits.pinned().items()
    }
    if limits.allow_kv_cache_dtypes and answer.config.kv_cache_dtype != "auto":
        # The operator keeps the model's own type unless it is told otherwise.
        said["kvCacheDtype"] = answer.config.kv_cache_dtype
    version = limits.engine_version
    if version is not None and version != DEFAULT_ENGINE_VERSION:
        said["image"] = f"vllm/vllm-openai:v{version.removeprefix('v')}"
    return said


def _scaling(limits: Limits, answer: Recommendation) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if limits.min_replicas != 1:
        said["minReplicas"] = limits.min_replicas
    if limits.max_replicas is not None:
        said["maxReplicas"] = limits.max_replicas
    elif answer.replicas > DEFAULT_MAX_REPLICAS:
        said["maxReplicas"] = max(answer.replicas, min(2 * answer.replicas, MAX_REPLICAS))
    if limits.budget_per_hour is not None:
        said["budgetPerHour"] = format_decimal(limits.budget_per_hour)
    return said

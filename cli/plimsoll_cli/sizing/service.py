"""A question asked by an LLMService's YAML file, and its answer as the operator would give it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import click
import yaml
from click.core import ParameterSource
from pydantic import ValidationError

from plimsoll_api.v1alpha1 import LLMServiceSpec
from plimsoll_cli.errors import CommandError
from plimsoll_cli.sizing.questions import model_of
from plimsoll_cli.sizing.reproduce import PRESENTATION
from plimsoll_cli.sizing.wording import INFEASIBLE, WRONG_INPUT, first_mistake, one_line
from plimsoll_operator.conditions.reasons import Reason
from plimsoll_operator.errors import ReconcileError
from plimsoll_operator.fleet import Fleet
from plimsoll_operator.model_facts import CONFIG_KEY, KnownModel
from plimsoll_operator.sizing import GPUS_PER_NODE, SizingInputs, sizing_inputs, spans_nodes
from plimsoll_recommender import ModelFacts, Recommendation, RecommenderError, accelerator
from plimsoll_recommender.explanation.question import Question

CATALOGUE: Final = "catalogue"
"""`ModelFacts.source` of what the operator knows by itself."""

BESIDE: Final = PRESENTATION | {"service", "model", "hub_token_env", "weight_bytes", "gpus", "gpus_per_node"}
"""Options that --service goes with: what the file does not say, such as the cluster's nodes."""


@dataclass(frozen=True)
class ServiceQuestion(Question):
    """A question whose answer must fit one node per replica, as the operator requires."""

    def answer(self) -> Recommendation:
        """The operator's answer.

        Raises:
            CommandError: a replica that no node can hold.
            InfeasibleError: nothing fits, or no candidate meets the objectives even when idle.
        """
        answer = super().answer()
        if spans_nodes(answer, self.limits):
            limits = replace(self.limits, pipeline_parallel_size=1)
            answer = Question(self.facts, self.accelerators, self.workload, self.objectives, limits).answer()
        if spans_nodes(answer, self.limits):
            product = answer.accelerator.product
            held = self.limits.gpus_per_node.get(product, GPUS_PER_NODE)
            raise CommandError(
                f"one replica needs {answer.config.gpus} x {product} and a node has {held}: replicas over several "
                "nodes are not supported; allow a larger GPU in spec.accelerators or a quantised model",
                INFEASIBLE,
            )
        return answer


def service_question(context: click.Context, given: dict[str, Any]) -> Question:
    """What the operator would ask for the LLMService in --service.

    Raises:
        CommandError: a file, a spec or a model that cannot be used.
    """
    _only_with_service(context)
    inputs = service_inputs(given["service"], given)
    return ServiceQuestion(inputs.model.facts, inputs.accelerators, inputs.workload, inputs.objectives, inputs.limits)


def service_inputs(file: Path, given: dict[str, Any]) -> SizingInputs:
    """The operator's own reading of a file's LLMService.

    Args:
        file: YAML with one LLMService, and the ConfigMap of its model when it has one.
        given: the options beside --service.

    Raises:
        CommandError: with the field and the fix.
    """
    documents = _documents(file)
    spec = _spec(file, documents)
    model = _model(file, documents, spec, given)
    try:
        return sizing_inputs(spec, model, _fleet(spec, given))
    except ReconcileError as error:
        code = INFEASIBLE if error.reason == Reason.INFEASIBLE else WRONG_INPUT
        hint = " (or name the nodes' GPUs with --gpu)" if error.reason == Reason.NO_ACCELERATOR else ""
        raise CommandError(f"--service {file}: {one_line(error.message)}{hint}", code) from error


def _only_with_service(context: click.Context) -> None:
    for option in context.command.params:
        name = option.name or ""
        if name not in BESIDE and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise CommandError(
                f"{option.opts[0]} and --service exclude each other: the file says it, so change it there", WRONG_INPUT
            )


def _documents(file: Path) -> list[dict[str, Any]]:
    try:
        found = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CommandError(f"--service {file} is not YAML: {one_line(str(error))}", WRONG_INPUT) from error
    return [document for document in found if isinstance(document, dict)]


def _spec(file: Path, documents: Iterable[dict[str, Any]]) -> LLMServiceSpec:
    services = [document for document in documents if document.get("kind") == "LLMService"]
    if len(services) != 1:
        raise CommandError(
            f"--service {file} must hold one document of kind LLMService, it has {len(services)}: "
            "write one as in examples/chat.yaml",
            WRONG_INPUT,
        )
    try:
        return LLMServiceSpec.model_validate(services[0].get("spec") or {})
    except ValidationError as error:
        raise CommandError(f"--service {file}: {first_mistake(error, 'spec')}", WRONG_INPUT) from error


def _model(file: Path, documents: Iterable[dict[str, Any]], spec: LLMServiceSpec, given: dict[str, Any]) -> KnownModel:
    token, model = given["hub_token_env"], spec.model
    if given["model"]:
        facts = model_of(given["model"], token)
    elif model.config_map:
        facts = _from_config_map(file, documents, model.config_map, model.uri)
    elif model.base_model:
        facts = model_of(f"hf://{model.base_model}", token)
    elif model.uri.startswith(("hf://", "file://")):
        facts = model_of(model.uri, token)
        if facts.source != CATALOGUE and model.uri.startswith("hf://"):
            click.echo(
                f"note: the operator does not read the hub: set model.baseModel or model.configMap in {file}", err=True
            )
    else:
        raise CommandError(
            f"--service {file}: what {model.uri} holds can be read in the cluster only: add --model with a directory "
            "or config.json of the same model, or set model.baseModel",
            WRONG_INPUT,
        )
    if given["weight_bytes"]:
        facts = replace(facts, weight_bytes=given["weight_bytes"])
    return KnownModel(f"file:{file}", facts)


def _from_config_map(file: Path, documents: Iterable[dict[str, Any]], name: str, uri: str) -> ModelFacts:
    for document in documents:
        if document.get("kind") == "ConfigMap" and (document.get("metadata") or {}).get("name") == name:
            try:
                config = yaml.safe_load((document.get("data") or {})[CONFIG_KEY])
                return ModelFacts.from_hf_config(config, name=uri.partition("://")[2])
            except (KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
                raise CommandError(
                    f"--service {file}: ConfigMap {name} needs the key {CONFIG_KEY} with a model's JSON: {error!r}",
                    WRONG_INPUT,
                ) from error
            except RecommenderError as error:
                raise CommandError(
                    f"--service {file}: ConfigMap {name}: {one_line(str(error))}", WRONG_INPUT
                ) from error
    raise CommandError(
        f"--service {file}: the ConfigMap {name} of model.configMap is not in the file: add it as a document, or give "
        "its config.json with --model",
        WRONG_INPUT,
    )


def _fleet(spec: LLMServiceSpec, given: dict[str, Any]) -> Fleet:
    """The nodes that --gpu and --gpus-per-node describe; none when neither is given."""
    if given["gpus"] and spec.accelerators:
        raise CommandError(
            "--gpu and spec.accelerators exclude each other: the file says which kinds may be used", WRONG_INPUT
        )
    sizes = {accelerator(name).product if name else "": count for name, count in given["gpus_per_node"]}
    products = [accelerator(name).product for name, _ in given["gpus"]]
    if not spec.accelerators:
        per_node = {product: sizes.get(product, sizes.get("", GPUS_PER_NODE)) for product in products}
    else:
        named = [candidate.product for candidate in spec.accelerators]
        per_node = {product: sizes.get(product, sizes.get("", 0)) for product in named}
    return Fleet(per_node={product: int(count) for product, count in per_node.items() if count})

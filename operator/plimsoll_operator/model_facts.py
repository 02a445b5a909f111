"""Where the description of a service's model comes from: the catalogue, a ConfigMap, or a folder."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from plimsoll_api.v1alpha1 import Model
from plimsoll_kube.client import KubeApi
from plimsoll_kube.resources import CONFIG_MAP
from plimsoll_operator.conditions.reasons import Reason
from plimsoll_operator.errors import BlockedError, InvalidSpecError
from plimsoll_recommender.errors import RecommenderError, UnknownModelError
from plimsoll_recommender.facts.model import ModelFacts

CONFIG_KEY: Final = "config.json"
CONFIG_MAP_RETRY_S: Final = 15.0
"""A ConfigMap that is missing may come with the next `kubectl apply`."""


@dataclass(frozen=True)
class KnownModel:
    """A model's facts and what identifies them.

    Attributes:
        identity: changes when the facts do; part of the recommendation's input hash.
        facts: what the recommender needs.
    """

    identity: str
    facts: ModelFacts


async def known_model(api: KubeApi, namespace: str, model: Model) -> KnownModel:
    """Find out what a model is made of.

    Raises:
        InvalidSpecError: nothing that the operator can read describes it.
        BlockedError: the ConfigMap that should describe it does not exist yet.
        ApiError: the ConfigMap cannot be read.
    """
    if model.config_map:
        return _from_config(await _read_config_map(api, namespace, model.config_map), model.uri)
    if model.base_model:
        return _from_catalogue(model.base_model, "model.baseModel")
    scheme, _, rest = model.uri.partition("://")
    if scheme == "hf":
        return _from_catalogue(rest, "model.uri")
    folder = Path(rest)
    if scheme == "file" and await asyncio.to_thread((folder / CONFIG_KEY).is_file):
        return await asyncio.to_thread(_from_folder, folder)
    raise InvalidSpecError(
        Reason.UNKNOWN_MODEL,
        f"the operator cannot read a config.json at {model.uri}: set model.baseModel to the name of a model with the "
        "same architecture, or model.configMap to a ConfigMap with the key config.json",
    )


async def _read_config_map(api: KubeApi, namespace: str, name: str) -> dict[str, Any]:
    found = await api.get(CONFIG_MAP, namespace, name)
    if found is None:
        text = f"ConfigMap {namespace}/{name} of model.configMap does not exist: create it with the key {CONFIG_KEY}"
        raise BlockedError(Reason.MODEL_CONFIG_MISSING, text, CONFIG_MAP_RETRY_S)
    try:
        config = json.loads((found.get("data") or {})[CONFIG_KEY])
    except KeyError:
        keys = ", ".join(sorted(found.get("data") or {})) or "none"
        text = f"ConfigMap {namespace}/{name} has no key {CONFIG_KEY} (it has {keys})"
        raise BlockedError(Reason.MODEL_CONFIG_MISSING, text, CONFIG_MAP_RETRY_S) from None
    except ValueError as error:
        text = f"{CONFIG_KEY} of ConfigMap {namespace}/{name} is not JSON: {error}"
        raise InvalidSpecError(Reason.UNKNOWN_MODEL, text) from None
    if not isinstance(config, dict):
        raise InvalidSpecError(Reason.UNKNOWN_MODEL, f"{CONFIG_KEY} of ConfigMap {namespace}/{name} is not an object")
    return config


def _from_catalogue(name: str, field: str) -> KnownModel:
    try:
        return KnownModel(f"catalogue:{name}", ModelFacts.load(f"hf://{name}"))
    except UnknownModelError as error:
        hint = "set model.baseModel to a catalogue model with the same architecture, or model.configMap"
        raise InvalidSpecError(Reason.UNKNOWN_MODEL, f"{field}: {_first_clause(error)}; {hint}") from None


def _from_config(config: dict[str, Any], uri: str) -> KnownModel:
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]
    try:
        return KnownModel(f"config:{digest}", ModelFacts.from_hf_config(config, name=uri.partition("://")[2]))
    except RecommenderError as error:
        raise InvalidSpecError(Reason.UNKNOWN_MODEL, f"model.configMap: {error}") from None


def _from_folder(folder: Path) -> KnownModel:
    try:
        facts = ModelFacts.load(folder)
        digest = hashlib.sha256((folder / CONFIG_KEY).read_bytes()).hexdigest()[:16]
    except (RecommenderError, OSError) as error:
        raise InvalidSpecError(Reason.UNKNOWN_MODEL, f"model.uri: {error}") from None
    return KnownModel(f"folder:{digest}:{facts.weight_bytes or 0}", facts)


def _first_clause(error: Exception) -> str:
    """What is wrong, without the advice for the command line that follows it."""
    return str(error).rpartition(": ")[0] or str(error)

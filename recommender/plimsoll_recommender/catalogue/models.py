"""Models: the bundled catalogue, a directory, a config.json, or a hub id."""

from __future__ import annotations

import difflib
import json
from dataclasses import replace
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from plimsoll_recommender.errors import RecommenderError, UnknownModelError
from plimsoll_recommender.facts.from_config import facts_of
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.facts.quantization import QUANTIZATION_FILE, with_quantization
from plimsoll_recommender.facts.safetensors import read_checkpoint, refuse_gguf

LONGEST_SHOWN: Final = 120
"""Characters of an unknown name that an error repeats: it must stay one line."""


@cache
def _document() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("models.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


@cache
def _index() -> dict[str, str]:
    """Every way to name a catalogue model, in lower case, to its key."""
    document = _document()
    index = {key.lower(): key for key in document["models"]}
    index |= {alias.lower(): key for alias, key in document["aliases"].items()}
    for name, key in list(index.items()):
        index.setdefault(name.partition("/")[2] or name, key)
    return index


def model_names() -> list[str]:
    """Names of the catalogue's models and their aliases, sorted."""
    document = _document()
    return sorted([*document["models"], *document["aliases"]])


@lru_cache(maxsize=256)
def _catalogue_model(key: str) -> ModelFacts:
    return replace(facts_of(_document()["models"][key], name=key), source="catalogue")


def load_model(model: str | Path) -> ModelFacts:
    """Facts of a catalogue name, `hf://org/name`, a directory with config.json, or a config.json.

    Raises:
        UnknownModelError: when it is none of these.
        RecommenderError: when its config.json is not usable.
    """
    text = str(model).strip()
    if not text:
        raise UnknownModelError("model is empty: give a hub id such as Qwen/Qwen3-8B, a directory, or a config.json")
    name = text.removeprefix("hf://")
    key = _index().get(name.lower())
    path = _existing(text.removeprefix("file://"))
    if key is not None and path is None:
        facts = _catalogue_model(key)
        return replace(facts, name=name) if name.lower() != key.lower() and "/" in name else facts
    if path is not None:
        return _from_path(path)
    near = difflib.get_close_matches(name.lower(), _index(), n=3, cutoff=0.6)
    hint = f" (did you mean {', '.join(dict.fromkeys(_index()[match] for match in near))}?)" if near else ""
    shown = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
    raise UnknownModelError(
        f"model {shown!r} is not in the catalogue and not a file{hint}: give its config.json or the directory it is in"
    )


def _existing(text: str) -> Path | None:
    """The file or folder of this name; None when there is none, or when nothing can have such a name."""
    try:
        path = Path(text).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):  # too long; a home of nobody; a zero byte
        return None


def _from_path(path: Path) -> ModelFacts:
    if path.suffix == ".gguf":
        refuse_gguf([path.name], str(path.parent))
    directory = path if path.is_dir() else path.parent
    file = path / "config.json" if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        refuse_gguf([found.name for found in path.glob("*.gguf")], str(path))
    config = with_quantization(_read_json(file), _optional_json(directory / QUANTIZATION_FILE))
    checkpoint = read_checkpoint(directory)
    name = str(config.get("_name_or_path") or directory.name)
    return replace(facts_of(config, name=name, checkpoint=checkpoint), source=str(file))


def _optional_json(file: Path) -> dict[str, Any] | None:
    return _read_json(file) if file.is_file() else None


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UnknownModelError(f"{file} does not exist: a model directory holds a config.json") from error
    except (OSError, ValueError, RecursionError) as error:
        raise RecommenderError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise RecommenderError(f"{file} must hold a JSON object, got {type(content).__name__}")
    return content

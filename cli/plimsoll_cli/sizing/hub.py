"""Model facts from the Hugging Face hub: its configuration and the shapes of its tensors, never the weights.

Read: the list of files, config.json, hf_quant_config.json, the safetensors index, and the header of every shard by
range request. HF_ENDPOINT, HF_HUB_OFFLINE and HF_HOME are respected.
"""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn

from rich.console import Console

from plimsoll_cli.errors import CommandError
from plimsoll_recommender import ModelFacts, RecommenderError, UnknownModelError

SCHEME: Final = "hf://"
"""Prefix of a hub id."""

_HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")
"""What could be a hub id without its prefix."""

TIMEOUT_SECONDS: Final = 10.0
"""Most that the hub may take to answer one request."""

PARALLEL_REQUESTS: Final = 8
"""Headers of shards asked for at once: large models have more than 100 shards."""

DEFAULT_ENDPOINT: Final = "https://huggingface.co"
"""The hub, where HF_ENDPOINT names no mirror."""

OFFLINE_VALUES: Final = frozenset({"1", "on", "yes", "true"})
"""Values of HF_HUB_OFFLINE that mean yes, as the hub's client reads it."""


@dataclass(frozen=True)
class _Repository:
    """A model on the hub.

    Args:
        name: `org/name`.
        revision: branch, tag or commit; None is the default branch.
        token: token, False for none, None for what the client finds by itself.
        endpoint: URL of the hub.
    """

    name: str
    revision: str | None
    token: str | bool | None
    endpoint: str


def load_model(name: str, *, token_env: str | None = None) -> ModelFacts:
    """Facts of --model: the catalogue, a directory or a config.json first, then the hub for `hf://org/name`.

    Args:
        name: catalogue name, `hf://org/name[@revision]`, directory or config.json.
        token_env: where the hub's token is: name of an environment variable, or a file; None leaves it to the client.

    Raises:
        CommandError: when it is not known, or the hub does not give it (exit 2; 3 when the hub is out of reach).
        RecommenderError: when its config.json is not usable.
    """
    pinned = name.startswith(SCHEME) and "@" in name
    try:
        if not pinned:
            return ModelFacts.load(name)
    except UnknownModelError as error:
        if not name.startswith(SCHEME):
            ask = f", or write {SCHEME}{name} to ask the hub" if _HUB_ID.fullmatch(name) else ""
            raise CommandError(f"{error}{ask}", 2) from error
    with Console(stderr=True).status(f"Reading {name} from the hub"):
        return fetch_facts(name, token_env=token_env)


def fetch_facts(uri: str, revision: str | None = None, token_env: str | None = None) -> ModelFacts:
    """Facts of a model on the hub, with exact bytes of its tensors when it is stored as safetensors.

    Args:
        uri: `hf://org/name`, `hf://org/name@revision` or `org/name`.
        revision: branch, tag or commit, instead of one in the uri.
        token_env: name of an environment variable that holds the token, or a file that does.

    Raises:
        CommandError: the hub refuses, does not know it (exit 2), or is out of reach (exit 3).
        RecommenderError: its config.json is not usable.
    """
    path, _, pinned = uri.removeprefix(SCHEME).strip("/").partition("@")
    repository = _Repository(
        path, revision or pinned or None, _token(token_env), os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
    )
    if path.count("/") != 1 or not all(path.split("/")):
        raise CommandError(f"model {uri!r} is not a hub id: write hf://org/name", 2)
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in OFFLINE_VALUES:
        return _from_cache(repository)
    # The client's HTTP library has changed its name: its base error is taken from where the client takes it.
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    try:
        return _from_hub(repository)
    except (OSError, HTTPError, ValueError) as error:
        _refuse(error, repository, token_env)


def _token(reference: str | None) -> str | None:
    """The token that a reference names; it is passed on to the hub only."""
    if reference is None:
        return None
    if reference in os.environ:
        token = os.environ[reference].strip()
    elif "/" in reference or Path(reference).is_file():
        try:
            token = Path(reference).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"token file {reference} cannot be read: {type(error).__name__}", 2) from error
    else:
        raise CommandError(f"environment variable {reference} is not set: put the hub's token in it", 2)
    if not token or not token.isprintable() or " " in token:
        raise CommandError(f"{reference} does not hold a token: one line, without spaces", 2)
    return token


def _from_hub(repository: _Repository) -> ModelFacts:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    from plimsoll_recommender.facts.from_config import facts_of
    from plimsoll_recommender.facts.quantization import QUANTIZATION_FILE, with_quantization
    from plimsoll_recommender.facts.safetensors import refuse_gguf

    disable_progress_bars()
    api = HfApi(endpoint=repository.endpoint, token=repository.token)
    info = api.model_info(repository.name, revision=repository.revision, timeout=TIMEOUT_SECONDS)
    files = {sibling.rfilename for sibling in info.siblings or ()}
    # Everything is then read at one commit, whatever is pushed meanwhile.
    at = replace(repository, revision=info.sha or repository.revision)
    if "config.json" not in files:
        refuse_gguf([name for name in files if name.endswith(".gguf")], f"{SCHEME}{repository.name}")
        raise CommandError(f"{SCHEME}{repository.name} has no config.json: give the model it was made from", 2)
    quantization = _document(api, at, QUANTIZATION_FILE) if QUANTIZATION_FILE in files else None
    config = with_quantization(_document(api, at, "config.json"), quantization)
    facts = facts_of(config, name=repository.name, checkpoint=_checkpoint(api, at, files))
    return replace(facts, source=f"{SCHEME}{repository.name}@{(at.revision or 'main')[:12]}")


def _document(api: Any, repository: _Repository, file: str) -> dict[str, Any]:
    where = f"{SCHEME}{repository.name}/{file}"
    path = api.hf_hub_download(
        repository.name, file, revision=repository.revision, etag_timeout=TIMEOUT_SECONDS, token=repository.token
    )
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{where} is not JSON: {error}", 2) from error
    if not isinstance(content, dict):
        raise CommandError(f"{where} must hold an object, got {type(content).__name__}", 2)
    return content


def _checkpoint(api: Any, repository: _Repository, files: set[str]) -> Any:
    """The checkpoint's tensors, from the headers of its shards; None when it is not stored as safetensors."""
    from plimsoll_recommender.facts.safetensors import INDEX_FILE, SINGLE_FILE, checkpoint_of, read_index

    if INDEX_FILE in files:
        _, placed = read_index(_document(api, repository, INDEX_FILE), f"{SCHEME}{repository.name}/{INDEX_FILE}")
        shards = sorted(set(placed.values()))
    elif SINGLE_FILE in files:
        shards = [SINGLE_FILE]
    else:
        stored = sorted(name for name in files if name.endswith(".safetensors") and "/" not in name)
        shards = [name for name in stored if not name.startswith("consolidated")] or stored
    if not shards:
        return None
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
        headers = list(pool.map(lambda shard: _header(api, repository, shard), shards))
    return checkpoint_of([tensor for header in headers for tensor in header])


def _header(api: Any, repository: _Repository, shard: str) -> Any:
    from huggingface_hub.errors import SafetensorsParsingError

    from plimsoll_recommender.facts.safetensors import tensors_of_header

    where = f"{SCHEME}{repository.name}/{shard}"
    try:
        found = api.parse_safetensors_file_metadata(
            repository.name, shard, revision=repository.revision, token=repository.token, timeout=TIMEOUT_SECONDS
        )
    except SafetensorsParsingError as error:
        raise CommandError(f"{where} is not a safetensors file: the repository is damaged", 2) from error
    entries = {
        name: {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": tensor.data_offsets}
        for name, tensor in found.tensors.items()
    }
    return tensors_of_header(entries, where)


def _from_cache(repository: _Repository) -> ModelFacts:
    """Facts of what an earlier download left in the client's cache."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository.name, "config.json", revision=repository.revision)
    if not isinstance(found, str):
        raise CommandError(
            f"{SCHEME}{repository.name} is not in the hub's cache and HF_HUB_OFFLINE is set: unset it, or give a "
            "directory or config.json",
            3,
        )
    facts = ModelFacts.load(Path(found).parent)
    return replace(facts, name=repository.name, source=f"{SCHEME}{repository.name} (cache)")


def _refuse(error: Exception, repository: _Repository, token_env: str | None) -> NoReturn:
    """Raise the line that says what the hub answered and what to do."""
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RevisionNotFoundError

    if isinstance(error, RecommenderError | CommandError):
        raise error
    where = f"{SCHEME}{repository.name}"
    page = f"{repository.endpoint.rstrip('/')}/{repository.name}"
    if isinstance(error, RevisionNotFoundError):
        raise CommandError(f"{where} has no revision {repository.revision}: see {page}/tree/main", 2) from error
    if isinstance(error, EntryNotFoundError) and isinstance(error, HfHubHTTPError):
        raise CommandError(f"{where} lists a file that it does not give: try again later", 2) from error
    response = error.response if isinstance(error, HfHubHTTPError) else None
    status = response.status_code if response is not None else None
    given = f"the token of {token_env}" if token_env else "no token"
    if status in (401, 404):
        raise CommandError(
            f"{where} does not exist or is private (HTTP {status} with {given}): check the name, or name an "
            "environment variable with a token that may read it",
            2,
        ) from error
    if status == 403:
        raise CommandError(
            f"{where} is gated and {given} may not read it (HTTP 403): accept its terms at {page}, then name an "
            "environment variable with your token",
            2,
        ) from error
    if status is not None:
        raise CommandError(f"{repository.endpoint} answered HTTP {status} for {where}: try again later", 3) from error
    if isinstance(error, ValueError):
        raise CommandError(f"{where} cannot be read: {_one_line(error)}", 2) from error
    raise CommandError(
        f"{repository.endpoint} is out of reach ({type(error).__name__}), so {where} cannot be read: check the network "
        "or HF_ENDPOINT, or give a directory or config.json",
        3,
    ) from error


def _one_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]

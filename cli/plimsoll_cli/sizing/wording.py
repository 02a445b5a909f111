"""Errors of the recommender, told in terms of the command line: the option first, then the numbers and the fix."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Final

from plimsoll_cli.errors import CommandError
from plimsoll_recommender import (
    EngineConfig,
    InfeasibleError,
    Limits,
    Objectives,
    RecommenderError,
    UnknownAcceleratorError,
    UnknownModelError,
    Workload,
)

if TYPE_CHECKING:
    from pydantic import ValidationError

WRONG_INPUT: Final = 2
"""Exit code: an option, a file or a model cannot be used."""

INFEASIBLE: Final = 3
"""Exit code: the input is right, and the answer is that nothing fits or meets the objectives."""

_OPTIONS: Final = {
    "requests_per_second": "--rps",
    "hourly_cost": "--gpu",
    "accelerator": "--gpu",
    "model": "--model",
    "variants": "--variant",
    "allow_kv_cache_dtypes": "--allow-kv-cache-dtype",
}
"""Fields whose option has another name than the field."""

_FIELDS: Final = frozenset(
    field.name for kind in (EngineConfig, Workload, Objectives, Limits) for field in fields(kind)
) | {"weights_gib", "gpu_total_gib", "weight_bytes"}
"""Fields whose option is the field with dashes."""


@contextmanager
def told_by_option() -> Iterator[None]:
    """Turn what the recommender refuses into one line that begins with the option."""
    try:
        yield
    except InfeasibleError as error:
        raise CommandError(one_line(str(error)), INFEASIBLE) from error
    except UnknownModelError as error:
        raise CommandError(f"--model: {one_line(str(error))}", WRONG_INPUT) from error
    except UnknownAcceleratorError as error:
        raise CommandError(f"--gpu: {one_line(str(error))}", WRONG_INPUT) from error
    except RecommenderError as error:
        raise CommandError(at_option(one_line(str(error))), WRONG_INPUT) from error


def at_option(message: str) -> str:
    """A message that begins with a field, behind the option that sets it; any other message as it is."""
    match = re.match(r"[a-z0-9_]+", message)
    field = match.group() if match else ""
    option = _OPTIONS.get(field) or (f"--{field.replace('_', '-')}" if field in _FIELDS else "")
    return f"{option}: {message}" if option else message


def first_mistake(error: ValidationError, root: str) -> str:
    """The first thing that a model of the API refuses: its field below `root`, and why."""
    first = error.errors()[0]
    field = ".".join([root, *map(str, first["loc"])])
    return f"{field}: {one_line(first['msg']).removeprefix('Value error, ')}"


def one_line(message: str) -> str:
    """A message without line breaks."""
    return " ".join(message.split())

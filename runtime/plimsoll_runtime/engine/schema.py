"""The types of a request's fields, taken and refused as vLLM's schema does (pydantic in its lax mode)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from plimsoll_runtime.engine import api_errors

INTEGERS: Final = ("n", "max_tokens", "max_completion_tokens", "min_tokens", "seed")

SEED_BOUNDS: Final = (-(2**63), 2**63 - 1)
"""vLLM's bounds of a seed: 64 bits, signed."""

_WHOLE: Final = re.compile(r"\s*([+-]?\d+)(?:\.0*)?\s*")


def typed(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body whose fields have their types: `"5"` and `5.0` are the integer 5.

    Raises:
        ApiError: a field is of another type, with vLLM's status, type and words.
    """
    _check_stop(body.get("stop"))
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        message = "Input should be a valid dictionary or instance of StreamOptions"
        raise api_errors.schema_error("model_type", "body.stream_options", message, options)
    whole = {name: _integer(name, body[name]) for name in INTEGERS if body.get(name) is not None}
    low, high = SEED_BOUNDS
    seed = whole.get("seed", 0)
    if seed > high:
        message = f"Input should be less than or equal to {high}"
        raise api_errors.schema_error("less_than_equal", "body.seed", message, seed)
    if seed < low:
        message = f"Input should be greater than or equal to {low}"
        raise api_errors.schema_error("greater_than_equal", "body.seed", message, seed)
    return {**body, **whole}


def _integer(name: str, value: object) -> int:
    kind, message = "int_type", "Input should be a valid integer"
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if value.is_integer():
            return int(value)
        kind, message = "int_from_float", f"{message}, got a number with a fractional part"
    elif isinstance(value, str):
        if found := _WHOLE.fullmatch(value):
            return int(found[1])
        kind, message = "int_parsing", f"{message}, unable to parse string as an integer"
    raise api_errors.schema_error(kind, f"body.{name}", message, value)


def _check_stop(stop: object) -> None:
    """A text or a list of texts."""
    if stop is None or isinstance(stop, str):
        return
    if not isinstance(stop, list):
        raise api_errors.schema_error("string_type", "body.stop.str", "Input should be a valid string", stop)
    for index, one in enumerate(stop):
        if not isinstance(one, str):
            where = f"body.stop.list[str].{index}"
            raise api_errors.schema_error("string_type", where, "Input should be a valid string", one)

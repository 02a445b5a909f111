"""A request's body, checked as vLLM checks it, and the output it will get."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from plimsoll_runtime.engine import api_errors, schema, tokens

COMPLETION_MAX_TOKENS: Final = 16
"""max_tokens of /v1/completions when none is given (OpenAI's default, and vLLM's)."""

MAX_STOP_STRINGS: Final = 4
"""Stop strings of one request (OpenAI's limit, and vLLM's)."""


@dataclass(frozen=True)
class Limits:
    """What bounds a request here: the names served, the longest context, tokens of a KV block, and the seed."""

    served: tuple[str, ...]
    max_model_len: int
    block_size: int
    seed: int = 0


@dataclass(frozen=True)
class Generation:
    """A request that is going to run.

    Args:
        chat: whether it is a chat completion.
        model: the name its answer carries.
        prompt_tokens: length of the prompt.
        max_tokens: most tokens it may generate, as asked or by default.
        output: text of each token it will generate.
        finish_reason: `stop` or `length`.
        stop_reason: the stop string that ended it.
        stream: whether to stream.
        include_usage: whether the stream ends with a chunk of usage.
        block_hashes: hashes of the prompt's full KV blocks.
    """

    chat: bool
    model: str
    prompt_tokens: int
    max_tokens: int
    output: tuple[str, ...]
    finish_reason: str
    stop_reason: str | None
    stream: bool
    include_usage: bool
    block_hashes: tuple[Hashable, ...]


def parse(raw: bytes, *, chat: bool, limits: Limits) -> Generation:
    """Read a request's body.

    Raises:
        ApiError: it cannot be served, with vLLM's status, type and words.
    """
    body = schema.typed(_object(raw))
    prompt = _chat_prompt(body) if chat else _completion_prompt(body)
    model = _checked_model(body, limits)
    _check_scalars(body)
    most = _max_tokens(body, chat, limits)
    length = _checked_length(prompt, limits)
    room = limits.max_model_len - length
    most = room if most is None else min(most, room)
    seed = tokens.seed_of(prompt, (body.get("seed") or 0) + limits.seed)
    output, reason, stop = _output(body, seed, most)
    stream_options = body.get("stream_options") or {}
    return Generation(
        chat=chat,
        model=model,
        prompt_tokens=length,
        max_tokens=most,
        output=output,
        finish_reason=reason,
        stop_reason=stop,
        stream=bool(body.get("stream")),
        include_usage=bool(stream_options.get("include_usage")),
        block_hashes=tokens.block_hashes(prompt, limits.block_size),
    )


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except json.JSONDecodeError as error:
        detail = {
            "type": "json_invalid",
            "loc": f"body.{error.pos}",
            "msg": "JSON decode error",
            "input": "<dict of 0 items>",
            "ctx": {"error": error.msg},
        }
        raise api_errors.malformed(f"1 validation error:\n  {detail}", f"body.{error.pos}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise api_errors.malformed("There was an error parsing the body", "body") from error
    if not isinstance(body, dict):
        raise api_errors.schema_error(
            "model_attributes_type", "body", "Input should be a valid dictionary or object to extract fields from", body
        )
    return body


def _completion_prompt(body: Mapping[str, Any]) -> str | list[int]:
    prompt = body.get("prompt")
    if prompt is None or prompt in ("", []):
        raise api_errors.invalid("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], (str, list)):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list) and all(type(token) is int for token in prompt):
        return prompt
    if isinstance(prompt, list) and all(isinstance(part, (str, list)) for part in prompt):
        raise api_errors.invalid(
            f"prompt must be one prompt, got {len(prompt)}: the simulated engine takes no batches.", "prompt"
        )
    raise api_errors.schema_error("string_type", "body.prompt", "Input should be a valid string", prompt)


def _chat_prompt(body: Mapping[str, Any]) -> str:
    messages = body.get("messages")
    if messages is None:
        raise api_errors.schema_error("missing", "body.messages", "Field required", body)
    if not isinstance(messages, list):
        raise api_errors.schema_error("list_type", "body.messages", "Input should be a valid list", messages)
    if not messages:
        raise api_errors.unusable("Cannot apply chat template to an empty conversation. Provide at least one message.")
    parts = []
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or "role" not in message:
            raise api_errors.schema_error("missing", f"body.messages.{index}.role", "Field required", message)
        parts.append(f"<|{message['role']}|>{_content(message.get('content'))}\n")
    return "".join(parts) + "<|assistant|>"


def _content(content: object) -> str:
    if isinstance(content, list):
        texts = (part.get("text", "") for part in content if isinstance(part, dict))
        return "\n".join(str(text) for text in texts)
    return "" if content is None else str(content)


def _whole(body: Mapping[str, Any], field: str, least: int, *, named: bool = True) -> None:
    value = body.get(field)
    if value is not None and value < least:
        message = f"{field} must be at least {least}, got {value}."
        raise api_errors.invalid(message, field, value) if named else api_errors.unusable(message)


def _check_scalars(body: Mapping[str, Any]) -> None:
    """Fields that do not change what is simulated are checked all the same, as clients are tested with it."""
    _whole(body, "n", least=1, named=False)
    if body.get("n", 1) not in (None, 1):
        raise api_errors.unusable("n must be 1: the simulated engine generates one choice per request.")
    stop = body.get("stop")
    if isinstance(stop, list) and len(stop) > MAX_STOP_STRINGS:
        message = f"List should have at most {MAX_STOP_STRINGS} items after validation, not {len(stop)}"
        raise api_errors.schema_error("too_long", "body.stop", message, stop)
    for field in ("max_tokens", "max_completion_tokens"):
        _whole(body, field, least=1)
    _whole(body, "min_tokens", least=0)
    temperature = body.get("temperature")
    if isinstance(temperature, (int, float)) and temperature < 0:
        message = f"temperature must be non-negative, got {float(temperature)}."
        raise api_errors.invalid(message, "temperature", float(temperature))
    top_p = body.get("top_p")
    if isinstance(top_p, (int, float)) and not 0 < top_p <= 1:
        raise api_errors.invalid(f"top_p must be in (0, 1], got {float(top_p)}.", "top_p", top_p)
    options = body.get("stream_options")
    if options is not None and not body.get("stream"):
        raise api_errors.invalid("Stream options can only be defined when `stream=True`.", "stream_options")


def _checked_model(body: Mapping[str, Any], limits: Limits) -> str:
    model = body.get("model")
    if model and model not in limits.served:
        raise api_errors.unknown_model(str(model), limits.served)
    # Whatever name it was asked under, the answer carries the first one.
    return limits.served[0]


def _max_tokens(body: Mapping[str, Any], chat: bool, limits: Limits) -> int | None:
    name = "max_completion_tokens" if chat and body.get("max_completion_tokens") is not None else "max_tokens"
    most = body.get(name)
    if most is None:
        return None if chat else COMPLETION_MAX_TOKENS
    if most > limits.max_model_len:
        raise api_errors.invalid(
            f"{name}={most} cannot be greater than max_model_len={limits.max_model_len}. "
            "Please request fewer output tokens.",
            name,
            most,
        )
    least = body.get("min_tokens") or 0
    if least > most:
        raise api_errors.unusable(f"min_tokens must be less than or equal to max_tokens={most}, got {least}.")
    return int(most)


def _checked_length(prompt: str | list[int], limits: Limits) -> int:
    """Tokens of the prompt, when at least one more fits."""
    length, longest = tokens.count(prompt), limits.max_model_len
    if length > longest:
        # vLLM stops tokenising text one token beyond the limit, so it does not know how many more there are.
        shown, more = (longest + 1, "at least ") if isinstance(prompt, str) else (length, "")
        raise api_errors.invalid(
            f"This model's maximum context length is {longest} tokens. However, your prompt contains {more}{shown} "
            "input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the "
            "input prompt.",
            "input_tokens",
            shown,
        )
    if length == longest:
        raise api_errors.invalid("max_tokens must be at least 1, got 0.", "max_tokens", 0)
    return length


def _output(body: Mapping[str, Any], seed: int, most: int) -> tuple[tuple[str, ...], str, str | None]:
    """Tokens that will be generated, why they end, and the stop string that ended them."""
    natural = most if body.get("ignore_eos") else max(tokens.natural_length(seed), (body.get("min_tokens") or 0) + 1)
    # The last token of an answer that ends by itself is the end-of-sequence token, which has no text.
    ends = natural <= most and not body.get("ignore_eos")
    words = [tokens.word(seed, index) for index in range(min(natural, most))]
    if ends:
        words[-1] = ""
    stop = body.get("stop") or ()
    cut = _first_stop("".join(words), (stop,) if isinstance(stop, str) else stop, words, body.get("min_tokens") or 0)
    if cut is None:
        return tuple(words), "stop" if ends else "length", None
    text_end, needed, by = cut
    kept = words[:needed]
    before = sum(map(len, kept[:-1]))
    kept[-1] = kept[-1][: max(0, text_end - before)]
    # A stop string may have begun in earlier tokens: their text is held back, too.
    excess, index = max(0, before - text_end), len(kept) - 2
    while excess > 0:
        taken = min(excess, len(kept[index]))
        kept[index] = kept[index][: len(kept[index]) - taken]
        excess, index = excess - taken, index - 1
    return tuple(kept), "stop", by


def _first_stop(text: str, stops: Any, words: list[str], least: int) -> tuple[int, int, str] | None:
    """(length of the text before it, tokens generated when it is complete, the stop string) of the earliest one."""
    skipped = sum(map(len, words[:least]))
    found = [(text.find(stop, skipped), stop) for stop in stops if isinstance(stop, str) and stop]
    hits = [(position + len(stop), position, stop) for position, stop in found if position >= 0]
    if not hits:
        return None
    end, position, stop = min(hits)
    length = 0
    for index, word in enumerate(words):
        length += len(word)
        if length >= end:
            return position, index + 1, stop
    return None

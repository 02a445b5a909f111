"""One request of a stream, and what may be done to a whole stream: cut, sped up, made denser, thinner or shorter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

DEFAULT_JITTER_SECONDS: Final = 1.0
"""How far a copied request may move: bursts of a second and more keep their shape, copies do not coincide."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request: when it arrives (seconds since the stream began) and its lengths in tokens."""

    at_seconds: float
    input_tokens: int
    output_tokens: int


def clip(requests: Sequence[Request], start: float, end: float) -> tuple[Request, ...]:
    """The requests with `start <= at_seconds < end`, their times counted from `start`.

    Raises:
        ValueError: the window is empty or begins before the stream.
    """
    if not 0 <= start < end:
        raise ValueError(f"window {start:g}:{end:g}: start must be 0 or more and before the end (seconds)")
    return tuple(
        Request(r.at_seconds - start, r.input_tokens, r.output_tokens) for r in requests if start <= r.at_seconds < end
    )


def scale_time(requests: Sequence[Request], speed: float) -> tuple[Request, ...]:
    """The stream played `speed` times as fast: the same requests at `speed` times the rate.

    Raises:
        ValueError: the speed is not positive.
    """
    if not speed > 0:
        raise ValueError(f"speed {speed:g}: must be more than 0 (10 plays an hour in 6 minutes)")
    return tuple(Request(r.at_seconds / speed, r.input_tokens, r.output_tokens) for r in requests)


def scale_rate(
    requests: Sequence[Request], factor: float, seed: int, jitter_seconds: float = DEFAULT_JITTER_SECONDS
) -> tuple[Request, ...]:
    """The stream at `factor` times its rate over the same time.

    Below 1 each request is kept with probability `factor` (independent thinning: a Poisson process stays one).
    Above 1 each request is repeated `floor(factor)` times and once more with the remaining probability; a copy moves by
    up to `jitter_seconds` either way and stays within the stream.

    Raises:
        ValueError: the factor or the jitter is negative.
    """
    if factor < 0 or jitter_seconds < 0:
        raise ValueError(f"rate factor {factor:g} and jitter {jitter_seconds:g} s must be 0 or more")
    if not requests:
        return ()
    rng = np.random.default_rng(seed)
    whole = int(factor)
    copies = whole + (rng.random(len(requests)) < factor - whole).astype(int)
    last = requests[-1].at_seconds
    scaled: list[Request] = []
    for request, count in zip(requests, copies.tolist(), strict=True):
        for copy in range(count):
            moved = 0.0 if copy == 0 else rng.uniform(-jitter_seconds, jitter_seconds)
            at = min(max(request.at_seconds + moved, 0.0), last)
            scaled.append(Request(at, request.input_tokens, request.output_tokens))
    return tuple(sorted(scaled, key=lambda r: r.at_seconds))


def scale_lengths(requests: Sequence[Request], factor: float, context: int | None = None) -> tuple[Request, ...]:
    """The stream with every length multiplied by `factor`, at least 1 token, and made to fit a model's context.

    Where input and output together exceed `context`, the output is cut to half of it at most and the input to the rest.

    Raises:
        ValueError: the factor is not positive or the context is below 2 tokens.
    """
    if not factor > 0 or (context is not None and context < 2):
        raise ValueError(f"length factor {factor:g} must be above 0, and the context 2 tokens or more")

    def fitted(request: Request) -> Request:
        inputs, outputs = (max(1, round(n * factor)) for n in (request.input_tokens, request.output_tokens))
        if context is not None and inputs + outputs > context:
            outputs = min(outputs, context // 2)
            inputs = min(inputs, context - outputs)
        return Request(request.at_seconds, inputs, outputs)

    return tuple(map(fitted, requests))

"""From what a person typed to a stream of requests: shapes, lengths, traces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from plimsoll_simulator.traffic import (
    SHAPES,
    Fixed,
    LengthDistribution,
    Lognormal,
    RateProfile,
    Request,
    TrafficModel,
    clip,
    constant,
    daily,
    flash_crowd,
    parse_trace,
    scale_lengths,
    scale_rate,
    scale_time,
    shape,
    steps,
)

T = TypeVar("T")

SHAPE_NAMES: Final = ("poisson", "gamma", "steps", "flash", "daily", *sorted(SHAPES))
DEFAULT_INPUT: Final = "1000"
DEFAULT_OUTPUT: Final = "200"
DEFAULT_FACTOR: Final = 5.0
DEFAULT_HOLD_SECONDS: Final = 30.0
MOST_REQUESTS: Final = 2_000_000
"""Of one run. All are drawn, and all records kept, before the report: about 1 KiB of memory each."""

MOST_TOKENS: Final = 16_000_000
"""Of a prompt or an answer: more than any model's context, and 64 MiB of text."""

# Options that mean something only for some shapes, or for a trace: one that would be ignored is refused.
_TRACE: Final = "trace"
_FOR: Final[dict[str, tuple[str, ...]]] = {
    "rate": ("poisson", "gamma", "flash", *sorted(SHAPES)),
    "duration": ("poisson", "gamma", "flash", "daily", *sorted(SHAPES)),
    "cv": tuple(name for name in SHAPE_NAMES if name != "poisson"),
    "steps": ("steps",),
    "factor": ("flash",),
    "start": ("flash",),
    "ramp": ("flash",),
    "hold": ("flash",),
    "low": ("daily",),
    "high": ("daily",),
    "period": ("daily",),
    "input_tokens": SHAPE_NAMES,
    "output_tokens": SHAPE_NAMES,
    "speed": (_TRACE,),
    "window": (_TRACE,),
}


@dataclass(frozen=True)
class TrafficOptions:
    """The traffic options of the command line. Times in seconds, rates in requests per second; None: not given."""

    seed: int
    shape: str | None = None
    rate: float | None = None
    duration: float | None = None
    cv: float | None = None
    steps: str | None = None
    factor: float | None = None
    start: float | None = None
    ramp: float | None = None
    hold: float | None = None
    low: float | None = None
    high: float | None = None
    period: float | None = None
    input_tokens: str | None = None
    output_tokens: str | None = None
    trace: Path | None = None
    speed: float | None = None
    window: str | None = None
    rate_factor: float = 1.0
    length_factor: float = 1.0
    context: int | None = None


@dataclass(frozen=True)
class Traffic:
    """A stream ready to send: the requests, the seconds they cover, and what they are in words."""

    requests: tuple[Request, ...]
    duration: float
    label: str


def traffic_of(options: TrafficOptions) -> Traffic:
    """The stream that the options describe.

    Raises:
        ValueError: an option is missing, contradicts another, or is out of range.
        OSError: the trace cannot be read.
    """
    _check_applicable(options)
    traffic = _replayed(options, options.trace) if options.trace else _drawn(options)
    requests = traffic.requests
    if options.rate_factor != 1:
        _check_number(len(requests) * options.rate_factor)
        requests = scale_rate(requests, options.rate_factor, options.seed)
    if options.length_factor != 1 or options.context is not None:
        requests = scale_lengths(requests, options.length_factor, options.context)
    if not requests:
        raise ValueError("this traffic has no request in it: raise the rate or the duration, or move the window")
    return Traffic(requests, traffic.duration, traffic.label)


def _check_applicable(options: TrafficOptions) -> None:
    if (options.trace is None) == (options.shape is None):
        raise ValueError("give either --shape or --trace")
    chosen = options.shape or _TRACE
    for name, kinds in _FOR.items():
        if getattr(options, name) is not None and chosen not in kinds:
            known = "--trace" if kinds == (_TRACE,) else f"--shape {', '.join(kinds)}"
            asked = "--trace" if chosen == _TRACE else f"--shape {chosen}"
            raise ValueError(f"--{name.replace('_', '-')} is for {known}, not for {asked}")


def lengths(option: str, text: str, context: int | None = None) -> LengthDistribution:
    """Lengths from `1000` (every request) or `1200:4000` (lognormal with this mean and p95).

    Args:
        option: the option that gives them, for what is said of a wrong one.
        text: what it gives.
        context: longest that a request may be.

    Raises:
        ValueError: it is neither.
    """
    mean, colon, p95 = text.partition(":")
    try:
        if not all(float(number) <= MOST_TOKENS for number in (mean, p95) if number):
            raise ValueError(f"{text!r} is not up to {MOST_TOKENS:,} tokens")
        return Lognormal(float(mean), float(p95), context) if colon else Fixed(int(mean))
    except ValueError as error:
        if "could not convert" in str(error) or "invalid literal" in str(error):
            raise ValueError(f"{option} {text!r}: write a number of tokens (1000) or mean:p95 (1200:4000)") from None
        raise ValueError(f"{option}: {error}") from None


def parse_pairs(text: str, what: str) -> list[tuple[float, float]]:
    """Pairs such as `2:60,8:60`.

    Raises:
        ValueError: the text is not such a list; `what` says what is wanted.
    """
    try:
        pairs = [(float(a), float(b)) for a, b in (part.split(":") for part in text.split(","))]
    except ValueError:
        raise ValueError(f"{text!r}: write {what}") from None
    return pairs


def _replayed(options: TrafficOptions, path: Path) -> Traffic:
    try:
        requests = parse_trace(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    duration = requests[-1].at_seconds
    if options.window is not None:
        start, end = _window(options.window)
        requests, duration = clip(requests, start, end), end - start
    speed = options.speed or 1.0
    requests = scale_time(requests, speed)
    label = f"trace {path.name}" + (f" at {speed:g} x speed" if speed != 1 else "")
    # A trace of one moment still takes a moment.
    return Traffic(requests, max(duration / speed, 1e-3), label)


def _window(text: str) -> tuple[float, float]:
    pairs = parse_pairs(text, wanted := "start:end in seconds of the trace, such as 0:600")
    if len(pairs) != 1:
        raise ValueError(f"{text!r}: write one {wanted}")
    return pairs[0]


def _drawn(options: TrafficOptions) -> Traffic:
    name = options.shape
    assert name is not None
    if name in SHAPES:
        model = shape(name, mean_rate=options.rate, duration=options.duration)
        inputs = (
            lengths("--input-tokens", options.input_tokens, options.context)
            if options.input_tokens
            else model.input_tokens
        )
        outputs = (
            lengths("--output-tokens", options.output_tokens, options.context)
            if options.output_tokens
            else model.output_tokens
        )
        model = TrafficModel(model.profile, model.cv if options.cv is None else options.cv, inputs, outputs)
    else:
        inputs = lengths("--input-tokens", options.input_tokens or DEFAULT_INPUT, options.context)
        outputs = lengths("--output-tokens", options.output_tokens or DEFAULT_OUTPUT, options.context)
        model = TrafficModel(_profile(options), 1.0 if options.cv is None else options.cv, inputs, outputs)
    label = f"{name} {model.profile.mean_rate:.3g} requests/s for {model.profile.duration:g} s"
    if model.cv != 1:
        label += f", CV {model.cv:g}"
    _check_number(model.profile.mean_rate * model.profile.duration)
    return Traffic(model.requests(options.seed), model.profile.duration, label)


def _check_number(requests: float) -> None:
    if requests > MOST_REQUESTS:
        raise ValueError(
            f"this traffic is about {requests:.3g} requests, and one run sends at most {MOST_REQUESTS:,}: "
            "lower the rate or the duration, or run several"
        )


def _profile(options: TrafficOptions) -> RateProfile:
    match options.shape:
        case "steps":
            levels = parse_pairs(_needed(options.steps, "--steps"), "rate:seconds of each step, such as 2:60,8:60,2:60")
            return steps(levels)
        case "daily":
            duration = _needed(options.duration, "--duration")
            low, high = _needed(options.low, "--low"), _needed(options.high, "--high")
            return daily(low, high, period=options.period or duration, duration=duration)
        case "flash":
            return flash_crowd(
                _needed(options.rate, "--rate"),
                DEFAULT_FACTOR if options.factor is None else options.factor,
                start=options.start or 0.0,
                ramp=options.ramp or 0.0,
                hold=DEFAULT_HOLD_SECONDS if options.hold is None else options.hold,
                duration=_needed(options.duration, "--duration"),
            )
        case "gamma" if options.cv is None:
            raise ValueError("--shape gamma needs --cv, the coefficient of variation of the gaps (1 is Poisson)")
        case _:
            return constant(_needed(options.rate, "--rate"), _needed(options.duration, "--duration"))


def _needed(value: T | None, option: str) -> T:
    if value is None:
        raise ValueError(f"this shape needs {option}")
    return value

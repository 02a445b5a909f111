"""The options of `plimsoll load`, and how their texts become values."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from plimsoll_api.v1alpha1 import parse_duration
from plimsoll_cli.load.arrivals import SHAPE_NAMES

Command = TypeVar("Command", bound=Callable[..., Any])


class DurationType(click.ParamType[float]):
    """A duration such as `800ms` or `1m30s`, as seconds; a bare number is seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, float):
            return value
        try:
            return float(value) if value.replace(".", "", 1).isdigit() else parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class FiniteRange(click.FloatRange):
    """A number within bounds, and a number at all: `nan` is within every bound, and `inf` has no end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


class ServiceType(click.ParamType[tuple[str, str]]):
    """`namespace/name`, or `name` in the namespace `default`."""

    name = "ns/name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """(namespace, name)."""
        if isinstance(value, tuple):
            return value
        namespace, slash, name = value.rpartition("/")
        if not name or "/" in namespace or (slash and not namespace):
            self.fail(f"{value!r}: write namespace/name", param, ctx)
        return namespace or "default", name


DURATION = DurationType()
POSITIVE = FiniteRange(min=0, min_open=True)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_FILE = click.Path(dir_okay=False, writable=True, path_type=Path)


def _apply(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def target_options(command: Command) -> Command:
    """Where to send to."""
    return _apply(
        click.option("--url", help="Base of the endpoint, such as http://10.0.0.7:8000."),
        click.option("--model", help="Served model name; may be left out where only one is served."),
        click.option("--service", type=ServiceType(), help="An LLMService: its address, objectives and workload."),
        click.option("--kubeconfig", type=FILE, help="For --service; default $KUBECONFIG or ~/.kube/config."),
        click.option("--no-record", is_flag=True, help="With --service: do not record the result in the cluster."),
        click.option("--api", type=click.Choice(["completions", "chat"]), default="completions", show_default=True),
        click.option("--api-key", envvar="PLIMSOLL_API_KEY", help="Bearer token (or $PLIMSOLL_API_KEY)."),
        click.option("--timeout", type=DURATION, default="120s", show_default=True, help="Per request."),
    )(command)


def traffic_options(command: Command) -> Command:
    """What to send, and when."""
    return _apply(
        click.option("--shape", type=click.Choice(SHAPE_NAMES), help="Arrivals over time."),
        click.option("--rate", type=POSITIVE, help="Requests per second (flash: before and after; azure: mean)."),
        click.option("--duration", type=DURATION, help="How long requests are sent."),
        click.option("--cv", type=FiniteRange(min=0), help="Coefficient of variation of the gaps; 1 is Poisson."),
        click.option("--steps", help="steps: rate:seconds of each, such as 2:60,8:60,2:60."),
        click.option("--factor", type=FiniteRange(min=1), help="flash: peak over base (default 5)."),
        click.option("--start", type=DURATION, help="flash: when the rise begins (default 0s)."),
        click.option("--ramp", type=DURATION, help="flash: how long it rises, and falls (default 0s)."),
        click.option("--hold", type=DURATION, help="flash: how long it peaks (default 30s)."),
        click.option("--low", type=FiniteRange(min=0), help="daily: least requests per second."),
        click.option("--high", type=POSITIVE, help="daily: most requests per second."),
        click.option("--period", type=DURATION, help="daily: one day; default the whole duration."),
        click.option("--trace", type=FILE, help="Replay a CSV: TIMESTAMP,ContextTokens,GeneratedTokens."),
        click.option("--speed", type=POSITIVE, help="Trace: play this much faster."),
        click.option("--window", help="Trace: start:end in its own seconds, such as 0:600."),
        click.option("--rate-factor", type=POSITIVE, default=1.0, show_default=True, help="More or fewer requests."),
        click.option("--input-tokens", help="1000 (each) or 1200:4000 (lognormal mean:p95)."),
        click.option("--output-tokens", help="200 (each) or 250:700 (lognormal mean:p95)."),
        click.option("--length-factor", type=POSITIVE, default=1.0, show_default=True, help="Scale both lengths."),
        click.option("--context", type=click.IntRange(min=2), help="Cut requests to fit this many tokens."),
        click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True),
    )(command)


def judging_options(command: Command) -> Command:
    """What to hold the result against, and where to put it."""
    return _apply(
        click.option("--ttft", type=DURATION, help="Objective: time to first token."),
        click.option("--tpot", type=DURATION, help="Objective: time per output token."),
        click.option("--e2e", type=DURATION, help="Objective: time for the whole answer."),
        click.option("--percentile", type=click.IntRange(50, 99), help="At which they must hold (default 95)."),
        click.option("--require-attainment", type=FiniteRange(0, 1), help="Exit 1 below this share."),
        click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True),
        click.option("--html", type=NEW_FILE, help="Also write a report with plots."),
    )(command)

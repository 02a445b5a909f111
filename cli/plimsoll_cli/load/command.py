"""`plimsoll load`: the click command."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

import click
import uvloop
from rich.console import Console

from plimsoll_cli.errors import CommandError
from plimsoll_cli.load.arrivals import Traffic, TrafficOptions, traffic_of
from plimsoll_cli.load.document import full_document
from plimsoll_cli.load.options import judging_options, target_options, traffic_options
from plimsoll_cli.load.plan import LoadPlan, Objectives
from plimsoll_cli.load.preflight import served_model
from plimsoll_cli.load.records import LoadResult
from plimsoll_cli.load.run import run_load
from plimsoll_cli.load.statistics import Summary, summarise
from plimsoll_cli.load.terminal import ProgressDisplay, has_limits, summary_view
from plimsoll_cli.report.figures import share_text

BAD_INPUT: Final = 2
INTERRUPTED: Final = 130
"""What a shell reports after Ctrl-C."""


@click.command()
@target_options
@traffic_options
@judging_options
def load(**options: Any) -> None:
    """Send traffic to an OpenAI-compatible endpoint, open-loop, and report what its users saw.

    \b
    plimsoll load --url http://10.0.0.7:8000 --shape poisson --rate 5 --duration 60s \\
        --input-tokens 1000 --output-tokens 200 --ttft 800ms --tpot 60ms
    plimsoll load --service ml/chat --trace requests.csv --speed 10 --html report.html

    Every request is sent at its scheduled time whatever the others do, and latencies count from that time.
    Exit codes: 0 all answers whole; 1 some failed or were truncated, or attainment is below --require-attainment;
    2 wrong input; 3 the endpoint cannot be reached; 130 stopped by Ctrl-C (what was measured is still reported).
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_load(options))
    if code:
        sys.exit(code)


async def _load(options: dict[str, Any]) -> int:
    """Run the test and report it; the exit code."""
    if options["url"] is None and options["service"] is None:
        raise CommandError("give --url or --service", BAD_INPUT)
    traffic = _traffic(options)
    plan = _plan(options, traffic)
    plan = replace(plan, model=await served_model(plan.url, options["model"], plan.api_key))
    console = Console(stderr=True)
    result = await _run(plan, console)
    summary = summarise(result)
    _show(result, summary, options)
    return _exit_code(result, summary, options["require_attainment"], console)


def _traffic(options: dict[str, Any]) -> Traffic:
    chosen = {field.name: options[field.name] for field in fields(TrafficOptions)}
    try:
        return traffic_of(TrafficOptions(**chosen))
    except (ValueError, OSError) as error:
        raise CommandError(str(error), BAD_INPUT) from error


def _plan(options: dict[str, Any], traffic: Traffic) -> LoadPlan:
    percentile = options["percentile"]
    limits = {name: options[name] for name in ("ttft", "tpot", "e2e") if options[name] is not None}
    objectives = Objectives(**limits)
    if percentile is not None:
        objectives = replace(objectives, percentile=percentile, attainment=percentile / 100)
    if options["require_attainment"] is not None:
        objectives = replace(objectives, attainment=options["require_attainment"])
        if not has_limits(objectives):
            raise CommandError("--require-attainment needs an objective: --ttft, --tpot or --e2e", BAD_INPUT)
    return LoadPlan(
        url=options["url"],
        model=options["model"] or "",
        requests=traffic.requests,
        duration=traffic.duration,
        label=traffic.label,
        objectives=objectives,
        api=options["api"],
        timeout=options["timeout"],
        seed=options["seed"],
        api_key=options["api_key"],
    )


async def _run(plan: LoadPlan, console: Console) -> LoadResult:
    """Run the plan with progress; Ctrl-C stops it and keeps what was measured."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stop.set)
    count = len(plan.requests)
    console.print(f"sending {count:,} requests to {plan.model} at {plan.url}: {plan.label}", highlight=False)
    try:
        with ProgressDisplay(console) as display:
            return await run_load(plan, display.show, stop=stop)
    except ValueError as error:
        raise CommandError(str(error), BAD_INPUT) from error
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _show(result: LoadResult, summary: Summary, options: dict[str, Any]) -> None:
    if options["output"] == "json":
        click.echo(json.dumps(full_document(result, summary), indent=2))
    else:
        Console().print(summary_view(summary, result.plan.objectives))
    if options["html"] is not None:
        _write_report(result, summary, options["html"])


def _write_report(result: LoadResult, summary: Summary, path: Path) -> None:
    from plimsoll_cli.load.html import report  # plotly takes its time to import

    try:
        path.write_text(report(result, summary), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"--html {path}: {error.strerror}", BAD_INPUT) from error
    click.echo(f"wrote {path}", err=True)


def _exit_code(result: LoadResult, summary: Summary, required: float | None, console: Console) -> int:
    attainment = summary.attainment or 0.0
    if summary.misses:
        return 1
    if required is not None and attainment < required:
        console.print(f"attainment {share_text(attainment)} is below the {share_text(required)} required")
        return 1
    return INTERRUPTED if result.interrupted else 0

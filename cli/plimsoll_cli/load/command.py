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
from rich.text import Text

from plimsoll_cli.errors import CommandError
from plimsoll_cli.load.arrivals import Traffic, TrafficOptions, traffic_of
from plimsoll_cli.load.connection import checked
from plimsoll_cli.load.document import full_document
from plimsoll_cli.load.options import judging_options, target_options, traffic_options
from plimsoll_cli.load.plan import LoadPlan, Objectives
from plimsoll_cli.load.preflight import served_model
from plimsoll_cli.load.records import LoadResult
from plimsoll_cli.load.run import run_load
from plimsoll_cli.load.service import Target, read_target, with_workload, write_record
from plimsoll_cli.load.statistics import Summary, summarise
from plimsoll_cli.load.terminal import ProgressDisplay, has_limits, summary_view
from plimsoll_cli.report.figures import share_text
from plimsoll_kube.errors import ApiError

BAD_INPUT: Final = 2
UNREACHABLE: Final = 3
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
    console = Console(stderr=True)
    if options["service"] is None:
        if options["url"] is None:
            raise CommandError("give --url or --service", BAD_INPUT)
        result, summary = await _test(options, None, console)
    else:
        try:
            result, summary = await _test_service(options, console)
        except ApiError as error:
            raise CommandError(f"--service: the API server says: {error}", UNREACHABLE) from error
    return _exit_code(result, summary, options["require_attainment"], console)


async def _test_service(options: dict[str, Any], console: Console) -> tuple[LoadResult, Summary]:
    """Test an LLMService and record the result in its cluster."""
    # The Kubernetes client takes its time to import, and only --service needs it.
    from plimsoll_kube.client import KubeClient
    from plimsoll_kube.connection import NoClusterError

    namespace, name = options["service"]
    try:
        client = await KubeClient.connect(options["kubeconfig"], user_agent="plimsoll-load")
    except NoClusterError as error:
        raise CommandError(str(error), UNREACHABLE) from error
    async with client as kube:
        target = await read_target(kube, namespace, name, options["url"])
        result, summary = await _test(options, target, console)
        if not options["no_record"]:
            try:
                record = await write_record(kube, target, result, summary)
                console.print(f"recorded as ConfigMap {namespace}/{record}", highlight=False, markup=False)
            except ApiError as error:  # the test itself is done and shown; do not throw it away
                console.print(Text(f"not recorded in the cluster: {error}", style="yellow"))
    return result, summary


async def _test(options: dict[str, Any], target: Target | None, console: Console) -> tuple[LoadResult, Summary]:
    """Run one test and show it."""
    plan = _plan(options, _traffic(options, target), target)
    try:
        checked(plan.url)
    except ValueError as error:
        raise CommandError(f"--{error}", BAD_INPUT) from None
    plan = replace(plan, model=await served_model(plan.url, plan.model or None, plan.api_key))
    result = await _run(plan, console)
    summary = summarise(result)
    _show(result, summary, options)
    return result, summary


def _traffic(options: dict[str, Any], target: Target | None) -> Traffic:
    given = TrafficOptions(**{field.name: options[field.name] for field in fields(TrafficOptions)})
    try:
        return traffic_of(with_workload(given, target) if target else given)
    except (ValueError, OSError) as error:
        raise CommandError(str(error), BAD_INPUT) from error


def _plan(options: dict[str, Any], traffic: Traffic, target: Target | None) -> LoadPlan:
    return LoadPlan(
        url=target.url if target else options["url"],
        model=options["model"] or (target.model if target else ""),
        requests=traffic.requests,
        duration=traffic.duration,
        label=traffic.label,
        objectives=_objectives(options, target.objectives if target else Objectives()),
        api=options["api"],
        timeout=options["timeout"],
        seed=options["seed"],
        api_key=options["api_key"],
    )


def _objectives(options: dict[str, Any], objectives: Objectives) -> Objectives:
    """The service's objectives, or none, with what the person asked for on top."""
    limits = {name: options[name] for name in ("ttft", "tpot", "e2e", "percentile") if options[name] is not None}
    objectives = replace(objectives, **limits)
    if options["percentile"] is not None:
        objectives = replace(objectives, attainment=options["percentile"] / 100)
    required = options["require_attainment"]
    if required is None:
        return objectives
    if not has_limits(objectives):
        raise CommandError("--require-attainment needs an objective: --ttft, --tpot or --e2e", BAD_INPUT)
    return replace(objectives, attainment=required)


async def _run(plan: LoadPlan, console: Console) -> LoadResult:
    """Run the plan with progress; Ctrl-C stops it and keeps what was measured."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stop.set)
    count = len(plan.requests)
    console.print(
        f"sending {count:,} requests to {plan.model} at {plan.url}: {plan.label}", highlight=False, markup=False
    )
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

"""`plimsoll demo`: start a sandbox, apply a service, send it a real service's traffic, watch, judge, clean up."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.live import Live

from plimsoll_cli.demo import examples, view
from plimsoll_cli.demo.course import Course, CourseOptions, CourseResult
from plimsoll_cli.demo.leftovers import left_running
from plimsoll_cli.demo.report import build, headline, saved_share
from plimsoll_cli.demo.scenario import Phase, phase_at
from plimsoll_cli.demo.snapshot import Snapshot
from plimsoll_cli.demo.verdict import TrafficOutcome, failures, scaling_outcome
from plimsoll_cli.errors import CommandError
from plimsoll_cli.load.plan import Progress
from plimsoll_cli.load.statistics import summarise
from plimsoll_cli.sandbox.options import NodeShape, SandboxOptions
from plimsoll_cli.sandbox.sandbox import Sandbox
from plimsoll_kube.client import KubeClient
from plimsoll_simulator.traffic import Request, parse_trace

NAMESPACE: Final = "demo"
NODES: Final = (NodeShape("NVIDIA-L40S", 4, "l40s-a"), NodeShape("NVIDIA-L40S", 4, "l40s-b"))
SCRAPE_INTERVAL_SECONDS: Final = 2.0
DECISION_INTERVAL_SECONDS: Final = 3.0
WINDOW_SECONDS: Final = 20.0
"""All shorter than a cluster's 15 s, 15 s and 60 s, so that minutes show what otherwise takes an hour."""
_LOG_EVERY_SECONDS: Final = 5.0


@click.command()
@click.option("--engine", type=click.Choice(["simulated", "vllm"]), default="simulated", show_default=True)
@click.option("--trace", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Replay this trace (CSV).")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), default=Path("out/demo/report.html"))
@click.option("--seed", default=11, show_default=True, help="Seed of the traffic.")
def demo(engine: str, trace: Path | None, report: Path, seed: int) -> None:
    """Watch a service sized, served, loaded and scaled on this machine.

    Starts a real control plane, the operator and the detector, applies an LLMService, sends it traffic with a burst and
    shows what happens. Exits 1 when a request failed or was truncated, when scaling did not happen both ways, or when
    anything it started is left running.
    """
    console = Console()
    with tempfile.TemporaryDirectory(prefix="plimsoll-demo-") as folder:
        directory = Path(folder) / "sandbox"
        example = examples.chosen(engine)
        try:
            service, result = _run_in_sandbox(console, engine, directory, example, _trace(trace), seed)
        finally:
            left = left_running(directory)
            if left and sys.exc_info()[0] is not None:
                console.print(f"[red]left running: {', '.join(left)}[/]")
    _judge(console, service, result, left, report, example)


def _run_in_sandbox(
    console: Console,
    engine: str,
    directory: Path,
    example: examples.Example,
    trace: tuple[Request, ...] | None,
    seed: int,
) -> tuple[str, CourseResult]:
    """Start the sandbox, apply the example and run the course; the sandbox is gone when this returns."""
    options = SandboxOptions(
        name=f"demo-{os.getpid()}",
        nodes=NODES,
        engine="vllm" if engine == "vllm" else "simulated",
        scrape_interval=SCRAPE_INTERVAL_SECONDS,
        detector_interval=DECISION_INTERVAL_SECONDS,
        detector_arguments=(f"--window={WINDOW_SECONDS:g}s",),
        helm=True,
        directory=directory,
    )
    console.print(
        "[bold]1[/]  starting the sandbox: a real control plane, two nodes of four GPUs each, the product's Helm chart"
    )

    def announce(name: str, seconds: float) -> None:
        console.print(f"   {name} ready after {seconds:.1f} s", highlight=False)

    with Sandbox.start(options, announce) as sandbox:
        console.print(f"[bold]2[/]  kubectl apply -f {example.source}")
        sandbox.kubectl("create", "namespace", NAMESPACE)
        sandbox.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=example.text)
        course = CourseOptions(
            namespace=NAMESPACE,
            name=example.name,
            seed=seed,
            trace=trace,
            ready_within=example.ready_within,
            context=example.context,
            length_factor=example.length_factor,
            highest_load_line=example.highest_load_line,
            measured_with=example.measured_with,
            phases=example.phases,
            scale_in_within=example.scale_in_within,
        )
        result = asyncio.run(_watched_course(console, sandbox.kubeconfig, course, example.name))
        console.print("[bold]4[/]  stopping the sandbox")
    return f"{NAMESPACE}/{example.name}", result


async def _watched_course(console: Console, kubeconfig: Path, options: CourseOptions, title: str) -> CourseResult:
    console.print("[bold]3[/]  watching it being sized, started, loaded and scaled")
    async with await KubeClient.connect(kubeconfig, user_agent="plimsoll-demo") as kube:
        if not console.is_terminal:
            return await Course(kube, options, _LogLook(console, options.phases)).run()
        with Live(console=console, refresh_per_second=4, transient=False) as live:
            return await Course(kube, options, _LiveLook(live, title, options.phases)).run()


class _LiveLook:
    """Redraws the live view."""

    def __init__(self, live: Live, title: str, phases: Sequence[Phase]) -> None:
        self._live, self._title, self._phases = live, title, phases

    def __call__(self, snapshots: Sequence[Snapshot], progress: Progress | None) -> None:
        now = snapshots[-1]
        self._live.update(
            view.render(
                snapshots,
                title=self._title,
                phase=phase_at(now.at, self._phases) if progress else "starting",
                objectives="TTFT, TPOT and attainment as the service asks",
                client=client_line(progress),
            )
        )


class _LogLook:
    """Prints a line now and then where the output is not a terminal."""

    def __init__(self, console: Console, phases: Sequence[Phase]) -> None:
        self._console, self._phases, self._last = console, phases, float("-inf")

    def __call__(self, snapshots: Sequence[Snapshot], progress: Progress | None) -> None:
        now = snapshots[-1]
        if now.at - self._last >= _LOG_EVERY_SECONDS or now.at < self._last:
            self._last = now.at
            phase = phase_at(now.at, self._phases) if progress else "starting"
            self._console.print(view.log_line(now, phase), highlight=False, markup=False)


def client_line(progress: Progress | None) -> str:
    """What the load generator sees, in one line."""
    if progress is None:
        return "not sending yet"
    return (
        f"{progress.sent} sent, {progress.in_flight} in flight, {progress.completed} completed, "
        f"{progress.failed} failed, {progress.truncated} truncated"
    )


def _trace(path: Path | None) -> tuple[Request, ...] | None:
    if path is None:
        return None
    try:
        return parse_trace(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CommandError(f"--trace {path}: {error}", 2) from error


def _judge(
    console: Console, service: str, result: CourseResult, left: list[str], report: Path, example: examples.Example
) -> None:
    """Write the report, print the summary line, and fail when something was not as it must be."""
    summary = summarise(result.traffic)
    gpus_per_replica = example.gpus(result.service)
    traffic = TrafficOutcome(summary.sent, summary.failed + summary.timed_out, summary.truncated)
    scaling = scaling_outcome(result.snapshots)
    found = failures(traffic, scaling, left)
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(
        build(
            service=service,
            status=result.service.get("status") or {},
            snapshots=result.snapshots,
            result=result.traffic,
            summary=summary,
            scaling=scaling,
            failures=found,
            gpus_per_replica=gpus_per_replica,
            phases=example.phases,
        ),
        encoding="utf-8",
    )
    console.print(headline(summary, scaling, saved_share(result.snapshots, gpus_per_replica)), highlight=False)
    console.print(f"report: {report}")
    if found:
        raise CommandError("the demo did not pass: " + "; ".join(found))
    console.print("[green]passed[/]")

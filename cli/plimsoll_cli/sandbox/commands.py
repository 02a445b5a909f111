"""`plimsoll sandbox`: start, look at and end a cluster on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from plimsoll_cli.chart.location import NAMESPACE
from plimsoll_cli.errors import CommandError
from plimsoll_cli.sandbox import binaries, pins, progress, supervisor
from plimsoll_cli.sandbox.fleet import Standing
from plimsoll_cli.sandbox.neighbours import NEIGHBOURS
from plimsoll_cli.sandbox.options import DEFAULT_NODES, OPTIONAL_COMPONENTS, SandboxOptions, parse_node
from plimsoll_cli.sandbox.sandbox import BINARIES
from plimsoll_cli.sandbox.state import RunningSandbox, running_names

_FOLLOW_SECONDS: Final = 0.2
"""Pause between two looks at a followed log."""

_NAME = click.option("--name", default="default", show_default=True, help="Which sandbox.")


@click.group()
def sandbox() -> None:
    """A real control plane on this machine, without containers: for trying and testing."""


@sandbox.command()
@_NAME
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="gpu=PRODUCT:COUNT[,name=..][,cpu=..][,memory=..]",
    help="A machine; repeat for more. Default: 8 NVIDIA-L40S, and 8 NVIDIA-H100-80GB-HBM3.",
)
@click.option("--engine", type=click.Choice(["simulated", "vllm"]), default="simulated", show_default=True)
@click.option("--scrape-interval", default=5.0, show_default=True, help="Seconds between two scrapes.")
@click.option("--detector-interval", default=5.0, show_default=True, help="Seconds between two decisions.")
@click.option("--without", default="", help=f"Leave out: {','.join(OPTIONAL_COMPONENTS)}.")
@click.option("--operators", default=1, show_default=True, help="Operator processes; one of them leads.")
@click.option("--detectors", default=1, show_default=True, help="Detector processes; one of them leads.")
@click.option("--helm", is_flag=True, help="Install the chart with helm: operator and detector run as pods.")
@click.option("--foreground", is_flag=True, help="Stay until Ctrl-C, which ends the sandbox.")
def up(
    name: str,
    nodes: tuple[str, ...],
    engine: str,
    scrape_interval: float,
    detector_interval: float,
    without: str,
    operators: int,
    detectors: int,
    helm: bool,
    foreground: bool,
) -> None:
    """Start a sandbox and return when it is ready."""
    options = SandboxOptions(
        name=name,
        engine="vllm" if engine == "vllm" else "simulated",
        scrape_interval=scrape_interval,
        detector_interval=detector_interval,
        without=frozenset(part for part in without.split(",") if part),
        operators=operators,
        detectors=detectors,
        helm=helm,
        nodes=tuple(parse_node(node) for node in nodes) or DEFAULT_NODES,
    )
    if name in running_names():
        raise CommandError(f"sandbox {name} runs already: `plimsoll sandbox down --name {name}` ends it")
    for binary in (*BINARIES, *(["helm"] if helm else [])):  # here, where a build's progress can be seen
        binaries.resolve(binary)
    console = Console(stderr=True)
    if foreground:
        supervisor.run(options, lambda line: _show(console, line, name))
    else:
        _start_in_background(options, console)


def _start_in_background(options: SandboxOptions, console: Console) -> None:
    """Start the supervisor and show what it reports until the sandbox is ready."""
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "plimsoll_cli.sandbox.supervisor", json.dumps(options.as_json()), str(writing)]
    log = options.state_directory / "supervisor.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            pass_fds=[writing],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    os.close(writing)
    try:
        with progress.step(f"starting sandbox {options.name}"), os.fdopen(reading) as reports:
            for line in reports:
                if _show(console, json.loads(line), options.name):
                    return
    except BaseException:
        process.terminate()
        process.wait()
        raise
    raise CommandError(f"the sandbox ended while starting ({process.wait()}); see {log}")


def _show(console: Console, line: dict[str, Any], name: str) -> bool:
    """Show one report; returns whether it says that the sandbox is ready.

    Raises:
        CommandError: the report says that it failed.
    """
    if "error" in line:
        raise CommandError(line["error"], line["exitCode"])
    if "component" in line:
        console.print(f"[green]✓[/] {line['component']:<24} {line['seconds']:>5.1f} s", highlight=False)
        return False
    click.echo(f"export KUBECONFIG={line['kubeconfig']}")
    console.print(f"Prometheus: {line['prometheus']}   end it: plimsoll sandbox down --name {name}", highlight=False)
    return True


@sandbox.command()
@_NAME
@click.option("--all", "everything", is_flag=True, help="End every sandbox of this user.")
def down(name: str, everything: bool) -> None:
    """End a sandbox and everything that runs in it."""
    names = running_names()
    if not everything and name not in names:
        click.echo(f"sandbox {name} does not run")
        return
    left = []
    for one in names if everything else [name]:
        try:
            running = RunningSandbox.find(one)
        except CommandError as error:
            left.append(error)
            continue
        with progress.step(f"ending sandbox {one}"):
            running.end()
        click.echo(f"sandbox {one} has ended")
    if left:
        raise CommandError("; ".join(map(str, left)), left[0].exit_code)


@sandbox.command()
@_NAME
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def status(name: str, output: str) -> None:
    """Show the components: exit code 1 when one is not ready, 3 when the sandbox does not run."""
    running = RunningSandbox.find(name)
    standings = running.standings()
    if output == "json":
        click.echo(json.dumps(_as_json(running, standings), indent=2))
    else:
        Console().print(_status_table(name, running, standings))
        if running.content["options"].get("helm"):
            click.echo(f"operator and detector are pods: kubectl get pods -n {NAMESPACE}")
        click.echo(f"logs: {running.directory / 'logs'}\nPrometheus: {running.content['prometheus']}")
        click.echo(f"export KUBECONFIG={running.kubeconfig}")
    if not all(s.ready for s in standings):
        raise CommandError("not ready: " + ", ".join(s.name for s in standings if not s.ready))


def _as_json(running: RunningSandbox, standings: Sequence[Standing]) -> dict[str, Any]:
    """The state file with how each component is doing."""
    components = [{**asdict(standing), "log": str(running.log(standing.name))} for standing in standings]
    return {**running.content, "components": components}


def _status_table(name: str, running: RunningSandbox, standings: Sequence[Standing]) -> Table:
    """The components as a table."""
    table = Table(title=f"sandbox {name}, up {_age(time.time() - running.content['started'])}")
    for heading in ("component", "pid", "port", "ready", "crashes"):
        table.add_column(heading, justify="right" if heading in ("pid", "port", "crashes") else "left")
    for standing in standings:
        mark = "[green]yes[/]" if standing.ready else "[red]no[/]"
        pid, port = str(standing.pid or "-"), str(running.port(standing.name) or "-")
        table.add_row(standing.name, pid, port, mark, str(standing.crashes))
    return table


@sandbox.command()
@click.argument("component")
@_NAME
@click.option("-f", "--follow", is_flag=True, help="Go on as it grows, until Ctrl-C.")
def logs(component: str, name: str, follow: bool) -> None:
    """Print a component's log (also: sandbox, audit)."""
    path = RunningSandbox.find(name).log(component)
    if not path.exists():
        raise CommandError(f"{component} has written no log yet: it would be {path}")
    with path.open("r", encoding="utf-8", errors="replace") as file:
        while True:
            click.echo(file.read(), nl=False)
            if not follow:
                return
            time.sleep(_FOLLOW_SECONDS)


@sandbox.command(name="exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_NAME
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run_command(name: str, command: Sequence[str]) -> None:
    """Run a command with KUBECONFIG set and the right kubectl and helm first on PATH: exec -- kubectl get pods."""
    running = RunningSandbox.find(name)
    folders = [*_program_folders(running), Path(sys.executable).parent]
    environment = {
        **os.environ,
        "KUBECONFIG": str(running.kubeconfig),
        "PROMETHEUS_URL": running.content["prometheus"],
        "PATH": os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)]),
    }
    try:
        os.execvpe(command[0], list(command), environment)  # noqa: S606 (an argument list, no shell)
    except OSError as error:
        raise CommandError(f"cannot run {command[0]}: {error.strerror}", 127) from error


def _program_folders(running: RunningSandbox) -> list[Path]:
    """Folders of the clients; helm's only in a sandbox that has it already, because getting it takes minutes."""
    clients = ["kubectl", *(["helm"] if running.content["options"].get("helm") else [])]
    return [binaries.resolve(client).parent for client in clients]


@sandbox.command(name="binaries")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--neighbours", is_flag=True, help="Also those of other projects that tests run: KEDA and more.")
def show_binaries(output: str, neighbours: bool) -> None:
    """Find, fetch or build every program the sandbox runs, and show where each came from."""
    found = {name: binaries.find(name) for name in (*pins.BINARIES, *(NEIGHBOURS if neighbours else ()))}
    if output == "json":
        rows = {n: {"path": str(f.path), "source": f.source, "passedOver": f.passed_over} for n, f in found.items()}
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table()
    for heading in ("program", "from", "path", "passed over"):
        table.add_column(heading, overflow="fold")
    for name, one in found.items():
        table.add_row(name, one.source, str(one.path), "\n".join(one.passed_over))
    Console().print(table)


@sandbox.command(name="vllm-env")
def vllm_env() -> None:
    """Make the environment of vLLM's CPU build (6 GB, then cached)."""
    try:
        from plimsoll_runtime import vllm_environment
    except ImportError as error:
        raise CommandError(f"the real engine is not part of this installation: {error}", 3) from error
    try:
        click.echo(vllm_environment.ensure().python)
    except vllm_environment.VllmUnavailableError as error:
        raise CommandError(str(error), 3) from error


def _age(passed: float) -> str:
    """Seconds as people say them."""
    minutes, rest = divmod(int(passed), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

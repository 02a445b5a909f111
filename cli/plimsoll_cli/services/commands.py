"""`plimsoll status`, `plimsoll explain`, `plimsoll top`: also `kubectl plimsoll ...`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import yaml
from rich.console import Console, RenderableType
from rich.live import Live

from plimsoll_cli.errors import CommandError
from plimsoll_cli.services import views
from plimsoll_cli.services.figures import ServiceFigures, figures_of
from plimsoll_kube.client import KubeClient
from plimsoll_kube.connection import NoClusterError, current_namespace
from plimsoll_kube.errors import ApiError
from plimsoll_kube.resources import LLM_SERVICE

NOT_FOUND: Final = 1
UNREACHABLE: Final = 3
WATCH_SECONDS: Final = 2.0
"""The detector decides every 15 s and pods change within seconds: more often shows nothing more."""

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True)
class Question:
    """Which services are asked for, and how the answer is wanted."""

    name: str | None
    namespace: str | None
    all_namespaces: bool
    kubeconfig: Path | None
    context: str | None
    output: str
    watch: bool


Render = Callable[[Sequence[dict[str, Any]], Question, datetime], RenderableType]


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(
        (
            click.option("-n", "--namespace", help="Default: that of the kubeconfig's context."),
            click.option("-A", "--all-namespaces", is_flag=True, help="Of every namespace."),
            click.option("--kubeconfig", type=_FILE, help="Default $KUBECONFIG or ~/.kube/config."),
            click.option("--context", help="Of the kubeconfig; default its current one."),
            click.option("-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table"),
            click.option("-w", "--watch", is_flag=True, help="Go on showing it until Ctrl-C."),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument("name", required=False)
@_options
def status(**options: Any) -> None:
    """Show how services stand: replicas, diagnosis, what users see. With NAME, one service whole."""
    _answer(Question(**options), _status)


@click.command()
@click.argument("name")
@_options
def explain(**options: Any) -> None:
    """Show why a service has its configuration: reasons, memory, prediction beside measurement, alternatives."""
    question = Question(**options)
    if question.all_namespaces:
        raise CommandError("explain speaks of one service: give --namespace instead of --all-namespaces", 2)
    _answer(question, _explain)


@click.command()
@_options
def top(**options: Any) -> None:
    """Show what services carry and cost, the most loaded first."""
    _answer(Question(name=None, **options), _top)


def _answer(question: Question, render: Render) -> None:
    try:
        asyncio.run(_show(question, render))
    except NoClusterError as error:
        raise CommandError(str(error), UNREACHABLE) from error
    except ApiError as error:
        raise CommandError(f"the API server: {error}", UNREACHABLE) from error
    except KeyboardInterrupt:
        return  # how a watch ends


async def _show(question: Question, render: Render) -> None:
    namespace = None
    if not question.all_namespaces:
        namespace = question.namespace or current_namespace(question.kubeconfig, question.context)
    kube = await KubeClient.connect(question.kubeconfig, user_agent="plimsoll-cli", context=question.context)
    console = Console()
    async with kube:
        services = await _services(kube, namespace, question.name)
        if not question.watch:
            _print(console, services, question, render)
            return
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(render(services, question, datetime.now(UTC)), refresh=True)
                await asyncio.sleep(WATCH_SECONDS)
                services = await _services(kube, namespace, question.name)


async def _services(kube: KubeClient, namespace: str | None, name: str | None) -> list[dict[str, Any]]:
    """The services asked for.

    Raises:
        CommandError: the one named does not exist.
    """
    if name is None:
        return list((await kube.list(LLM_SERVICE, namespace)).items)
    if namespace is None:
        found = [item for item in (await kube.list(LLM_SERVICE)).items if item["metadata"]["name"] == name]
    else:
        one = await kube.get(LLM_SERVICE, namespace, name)
        found = [one] if one else []
    if not found:
        where = "any namespace" if namespace is None else f"namespace {namespace}"
        raise CommandError(f"no LLMService {name} in {where}: `kubectl get llm -A` lists them", NOT_FOUND)
    return found


def _print(console: Console, services: Sequence[dict[str, Any]], question: Question, render: Render) -> None:
    if question.output == "table":
        if not services:
            click.echo("no LLMServices here", err=True)
            return
        console.print(render(services, question, datetime.now(UTC)))
        return
    now = datetime.now(UTC)
    documents = [
        {"figures": asdict(figures_of(one, now)), "status": one.get("status") or {}} for one in services
    ]  # fmt: skip
    text = json.dumps(documents, indent=2) if question.output == "json" else yaml.safe_dump(documents, sort_keys=False)
    click.echo(text)


def _figures(services: Sequence[dict[str, Any]], now: datetime) -> list[ServiceFigures]:
    return [figures_of(one, now) for one in services]


def _status(services: Sequence[dict[str, Any]], question: Question, now: datetime) -> RenderableType:
    if question.name is not None and len(services) == 1:
        return views.status_view(services[0], figures_of(services[0], now))
    return views.status_table(_figures(services, now), namespaces=question.all_namespaces)


def _explain(services: Sequence[dict[str, Any]], question: Question, now: datetime) -> RenderableType:
    return views.explain_view(services[0], figures_of(services[0], now))


def _top(services: Sequence[dict[str, Any]], question: Question, now: datetime) -> RenderableType:
    return views.top_table(_figures(services, now), namespaces=question.all_namespaces)

"""The forms of a recommendation: terminal, page, manifest, the engine's command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from plimsoll_cli.errors import CommandError
from plimsoll_cli.sizing.arguments import serve_command
from plimsoll_cli.sizing.reproduce import command_of
from plimsoll_cli.sizing.wording import WRONG_INPUT
from plimsoll_recommender import Recommendation
from plimsoll_recommender.explanation.question import Question
from plimsoll_recommender.explanation.sensitivity import variations
from plimsoll_recommender.latency.curve import CurvePoint, latency_curve

if TYPE_CHECKING:
    from rich.console import RenderableType


def check(form: str, file: Path | None, given: dict[str, Any]) -> None:
    """Refuse forms that exclude each other before anything is computed.

    Raises:
        CommandError: naming the two options.
    """
    if given["manifest"] and given["flags"]:
        raise CommandError("--manifest and --flags exclude each other: give one of them", WRONG_INPUT)
    instead = next((name for name in ("manifest", "flags") if given[name]), None)
    if instead and form in ("json", "html"):
        raise CommandError(f"--{instead} is a form of its own: drop -o {form}", WRONG_INPUT)
    for name in ("explain", "what_if"):
        if given[name] and (instead or form != "table"):
            raise CommandError(f"--{name.replace('_', '-')} adds to the table: drop -o {instead or form}", WRONG_INPUT)
    page_goes_somewhere(form, file)


def page_goes_somewhere(form: str, file: Path | None) -> None:
    """Refuse to print a page on a terminal, before anything is computed.

    Raises:
        CommandError: with the fix.
    """
    if form == "html" and file is None and sys.stdout.isatty():
        raise CommandError("-o html is not for a terminal: add --file page.html, or > page.html", WRONG_INPUT)


def terminal_view(question: Question, answer: Recommendation, *, explain: bool, what_if: bool) -> RenderableType:
    """The recommendation as a table, with what would change it when asked."""
    from rich.console import Group

    from plimsoll_cli.sizing.terminal import recommendation_view, variations_view

    view = recommendation_view(question, answer, _curve(question, answer), explain=explain)
    if not what_if:
        return view
    return Group(view, variations_view(list(variations(question, answer))))


def page_text(question: Question, answer: Recommendation, context: click.Context) -> str:
    """The recommendation as one self-contained HTML page."""
    from plimsoll_cli.sizing.page import recommendation_page

    found = list(variations(question, answer))
    return recommendation_page(question, answer, _curve(question, answer), found, command_of(context))


def flags_text(question: Question, answer: Recommendation) -> str:
    """The engine's command line of one replica."""
    if not answer.fleet:
        return serve_command((answer.facts or question.facts).name, answer.config) + "\n"
    texts = []
    for member in answer.fleet:
        model = answer.facts or question.facts
        if member.variant != answer.variant:
            model = next((v.facts or model for v in question.limits.variants if v.name == member.variant), model)
        replicas = f"{member.replicas} x {member.accelerator.product}, {member.weight:.0%} of the requests"
        texts.append(f"# {replicas}\n{serve_command(model.name, member.config)}\n")
    return "".join(texts)


def manifest_text(question: Question, answer: Recommendation, service: Path | None) -> str:
    """An LLMService that can be applied."""
    from plimsoll_cli.sizing.manifest import manifest_of

    if service is not None:
        raise CommandError(f"--manifest of --service is that file: apply {service}", WRONG_INPUT)
    return manifest_of(question, answer)


def _curve(question: Question, answer: Recommendation) -> list[CurvePoint]:
    return latency_curve(
        answer.facts or question.facts,
        answer.accelerator,
        answer.config,
        question.workload,
        question.objectives,
        corrections=question.corrections,
    )

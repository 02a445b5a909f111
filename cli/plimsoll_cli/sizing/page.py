"""A recommendation as one self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from plimsoll_cli.report.figures import count_and_noun, duration_text
from plimsoll_cli.report.parts import Section, Tile
from plimsoll_cli.report.sheet import sheet
from plimsoll_cli.report.tables import table
from plimsoll_cli.sizing.arguments import short_name
from plimsoll_cli.sizing.page_charts import Mark, fleet_chart
from plimsoll_cli.sizing.page_sections import (
    commands_section,
    curve_sections,
    kv_section,
    memory_section,
    observed_sections,
    prediction_section,
    remainder_section,
)
from plimsoll_recommender import Recommendation
from plimsoll_recommender.explanation.headline import fleet_text, headline, member_text
from plimsoll_recommender.explanation.neighbours import neighbour_curves
from plimsoll_recommender.explanation.question import Question
from plimsoll_recommender.explanation.sensitivity import Variation
from plimsoll_recommender.latency.curve import CurvePoint

DEAREST: Final = 3.0
"""Fleets that cost more times what the chosen one does are not drawn: they would press all others to one side."""


def recommendation_page(
    question: Question,
    answer: Recommendation,
    curve: Sequence[CurvePoint],
    changed: Sequence[Variation],
    command: str,
) -> str:
    """The page: the sentence, memory, latency, cost, reasons, what would change it, arithmetic, and the question.

    Args:
        question: what was asked.
        answer: the recommendation.
        curve: latencies of one replica over its request rate.
        changed: answers to neighbouring questions.
        command: the command that asks the same again.
    """
    facts = answer.facts or question.facts
    memory = f"Memory of every GPU of a replica, {answer.accelerator.product}"
    mark = Mark(answer.load_line_rps, answer.predicted, "Chosen", answer.load_line_rps)
    neighbours = list(neighbour_curves(question, answer))
    sections = [
        *_kinds(answer),
        memory_section(memory, facts, answer.config, answer.ledger),
        *curve_sections(question.objectives, mark, curve, neighbours),
        _fleets(question, answer),
        _changes(answer, changed),
        _reasons(answer),
        *observed_sections(question.corrections),
        kv_section(answer.ledger, answer.config),
        _asked(question),
        prediction_section("One replica at its load line", answer.predicted, question.objectives),
        remainder_section(answer.ledger),
        _considered(answer),
        commands_section(command, facts.name, answer.config),
    ]
    title = f"Plimsoll recommendation for {question.facts.name}"
    return sheet(title, headline(answer, question.workload, question.objectives), sections, _tiles(question, answer))


def _tiles(question: Question, answer: Recommendation) -> list[Tile]:
    percentile, predicted = question.objectives.percentile, answer.predicted
    million = answer.cost.per_million_output_tokens
    tone = {"High": "good", "Medium": "plain", "Low": "bad"}[answer.confidence]
    return [
        Tile(str(answer.cost.gpus), "GPU" if answer.cost.gpus == 1 else "GPUs"),
        Tile(f"{answer.cost.per_hour:.2f}", "per hour"),
        *([] if million is None else [Tile(f"{million:.2f}", "per million output tokens")]),
        Tile(f"{answer.load_line_rps:.3g} req/s", "load line of a replica"),
        Tile(duration_text(predicted.ttft.at(percentile)), f"TTFT p{percentile:g} at the load line"),
        Tile(duration_text(predicted.tpot.at(percentile)), f"TPOT p{percentile:g} at the load line"),
        Tile(answer.confidence, "confidence", tone),  # type: ignore[arg-type]
    ]


def _kinds(answer: Recommendation) -> list[Section]:
    """The kinds of a mixed fleet; nothing when there is only one."""
    if len(answer.fleet) < 2:
        return []
    header = ["kind", "requests to route to it", "load line of each", "max_num_seqs", "KV cache", "per hour"]
    rows = [
        [
            member_text(member),
            f"{member.weight:.1%}",
            f"{member.load_line_rps:.3g} req/s",
            str(member.config.max_num_seqs),
            f"{member.ledger.kv_cache_gib:.1f} GiB per GPU",
            f"{member.hourly_cost:.2f}",
        ]
        for member in answer.fleet
    ]
    return [Section("The fleet", table(header, rows), "What follows is of the first kind, which carries most.")]


def _fleets(question: Question, answer: Recommendation) -> Section:
    dearest = DEAREST * answer.cost.per_hour
    note = (
        "Under the expected load, spread evenly over each fleet's replicas. All of them meet the objectives; the "
        "dashed line joins those that nothing is both cheaper and faster than."
    )
    if any((item.hourly_cost or 0.0) > dearest for item in answer.alternatives):
        note += f" Fleets of more than {DEAREST:g} times the cost are left out."
    return Section("Cost against latency", fleet_chart(question.objectives, answer, dearest), note, half=True)


def _changes(answer: Recommendation, changed: Sequence[Variation]) -> Section:
    rows = []
    for variation in changed:
        found = variation.answer
        if found is None:
            rows.append([short_name(variation.change), f"none: {short_name(variation.why_none)}", "-"])
            continue
        same = fleet_text(found) == fleet_text(answer)
        then = "the same" if same else short_name(fleet_text(found))
        rows.append([short_name(variation.change), then, f"{found.cost.per_hour:.2f}"])
    body = table(["if", "then run", "per hour"], rows, text_columns=(1,))
    return Section("What would change the answer", body, f"As asked: {fleet_text(answer)}.", half=True)


def _reasons(answer: Recommendation) -> Section:
    rows = []
    for reason in answer.reasons:
        rejected = "".join(f"<li>not {escape(text)}</li>" for text in reason.rejected)
        listed = f"<ul>{rejected}</ul>" if rejected else ""
        rows.append(
            f"<tr><td><code>{escape(reason.field)}</code></td><td class='text'><b>{escape(reason.value)}</b></td>"
            f"<td class='text'>{escape(reason.because)}{listed}</td></tr>"
        )
    body = (
        '<div class="scroll"><table><thead><tr><th>setting</th><th class="text">value</th>'
        f'<th class="text">why, and what was rejected</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )
    return Section("Every setting", body, f"Confidence {answer.confidence}: {answer.confidence_why}.")


def _asked(question: Question) -> Section:
    workload, objectives = question.workload, question.objectives
    if workload.requests_per_second is not None:
        load = f"{workload.requests_per_second:g} requests/s, burstiness {workload.burstiness:g} (1 is Poisson)"
    elif workload.concurrency is not None:
        load = f"{workload.concurrency:g} requests in flight"
    else:
        load = "none stated: one replica is sized"
    targets = [
        f"{name.upper()} {duration_text(value)}"
        for name in ("ttft", "tpot", "e2e")
        if (value := getattr(objectives, name)) is not None
    ]
    rows = [
        ["model", f"{question.facts.name} ({question.facts.source})"],
        ["load", load],
        ["prompt", f"{workload.input_tokens:g} tokens, p95 {workload.input_p95:g}"],
        ["output", f"{workload.output_tokens:g} tokens, p95 {workload.output_p95:g}"],
        ["prefix cache", f"{workload.prefix_hit_ratio:.0%} of the prompt"],
        ["objectives", f"{', '.join(targets)} at p{objectives.percentile:g}" if targets else "none"],
        ["accelerators", ", ".join(gpu.product for gpu in question.accelerators)],
        ["headroom", f"{question.limits.headroom:.0%} of the load line kept free"],
    ]
    pinned = question.limits.pinned()
    if pinned:
        rows.append(["pinned", ", ".join(f"{name} {value}" for name, value in pinned.items())])
    return Section("What was asked", table(["", ""], rows, text_columns=(1,)), half=True)


def _considered(answer: Recommendation) -> Section:
    rows = [
        [
            item.summary,
            "-" if item.hourly_cost is None else f"{item.hourly_cost:.2f}",
            *map(duration_text, (item.ttft, item.tpot, item.e2e)),
            item.rejected_because,
        ]
        for item in answer.alternatives
    ]
    body = table(["configuration", "per hour", "TTFT", "TPOT", "E2E", "why not"], rows, text_columns=(5,))
    return Section(
        "Considered and not chosen", body, f"{count_and_noun(len(rows), 'configuration')}, the nearest first."
    )

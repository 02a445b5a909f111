"""`plimsoll recommend`, `plimsoll memory`, `plimsoll predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from plimsoll_cli.errors import CommandError
from plimsoll_cli.sizing import options, results
from plimsoll_cli.sizing.documents import as_text, memory_document, prediction_document, recommendation_document
from plimsoll_cli.sizing.observed import corrections_of
from plimsoll_cli.sizing.progress import sign_of_life
from plimsoll_cli.sizing.questions import (
    config_of,
    device_of,
    facts_of,
    model_of,
    objectives_of,
    question_of,
    with_weights,
    workload_of,
)
from plimsoll_cli.sizing.reproduce import command_of
from plimsoll_cli.sizing.results import page_goes_somewhere
from plimsoll_cli.sizing.wording import INFEASIBLE, WRONG_INPUT, told_by_option
from plimsoll_recommender import (
    Accelerator,
    EngineConfig,
    MemoryLedger,
    ModelFacts,
    Objectives,
    Prediction,
    ResolvedConfig,
    Workload,
    accelerator,
    memory_ledger,
)
from plimsoll_recommender.explanation.question import Question
from plimsoll_recommender.latency.curve import latency_curve
from plimsoll_recommender.memory.defaults import resolve
from plimsoll_recommender.observation.apply import corrected_ledger, corrected_predict

if TYPE_CHECKING:
    from plimsoll_recommender.observation.corrections import Corrections

CONTEXT = {"max_content_width": 110}


@click.command(cls=options.SizingCommand, context_settings=CONTEXT)
@options.model_options
@options.gpus_option
@options.service_option
@options.workload_options
@options.limit_options
@options.result_options
@options.output_options
@click.pass_context
def recommend(context: click.Context, /, form: str, file: Path | None, **given: Any) -> None:
    """Size a service: the cheapest fleet that meets the objectives, every setting, and why.

    \b
    plimsoll recommend -m meta-llama/Llama-3.1-8B-Instruct --gpu H100 --gpu L4=0.45 \\
        --rps 4 --input-tokens 1200 --output-tokens 250 --ttft 800ms --tpot 60ms
    plimsoll recommend --service chat.yaml

    Exit codes: 0 an answer, 2 the input is wrong, 3 nothing fits or meets the objectives.
    """
    results.check(form, file, given)
    with told_by_option():
        question = _service_question(context, given) if given["service"] else question_of(given)
        with sign_of_life("sizing"):
            answer = question.answer()
        if given["flags"]:
            _put(results.flags_text(question, answer), file)
        elif given["manifest"]:
            _put(results.manifest_text(question, answer, given["service"]), file)
        elif form in ("json", "yaml"):
            _put(as_text(recommendation_document(question, answer), form), file)
        elif form == "html":
            with sign_of_life("asking the neighbouring questions"):
                text = results.page_text(question, answer, context)
            _put(text, file)
        else:
            with sign_of_life("asking the neighbouring questions"):
                view = results.terminal_view(question, answer, explain=given["explain"], what_if=given["what_if"])
            _show(view, file)


def _service_question(context: click.Context, given: dict[str, Any]) -> Question:
    # The operator's models come with it: they take longer to import than an answer takes.
    from plimsoll_cli.sizing.service import service_question

    return service_question(context, given)


@click.command(cls=options.SizingCommand, context_settings=CONTEXT)
@options.model_options
@options.one_gpu_option
@options.engine_options
@options.draft_option
@options.output_options
@click.pass_context
def memory(context: click.Context, /, form: str, file: Path | None, **given: Any) -> None:
    """Show where every GiB of a GPU goes, and whether the engine would start.

    Exit codes: 0 it starts, 2 the input is wrong, 3 it would not start.
    """
    page_goes_somewhere(form, file)
    with told_by_option():
        facts = facts_of(given)
        device = accelerator(given["gpu"])
        config = resolve(config_of(given), facts, device)
        ledger, corrections = _ledger(facts, device, config, given)
    if form in ("json", "yaml"):
        _put(as_text(memory_document(facts, device, config, ledger, corrections), form), file)
    elif form == "html":
        from plimsoll_cli.sizing.engine_pages import Engine, memory_page

        _put(memory_page(Engine(facts, device, config, ledger, corrections, command_of(context))), file)
    else:
        from plimsoll_cli.sizing.terminal import ledger_view

        _show(ledger_view(facts, device, config, ledger, corrections), file)
    if not ledger.fits:
        raise CommandError(ledger.reason, INFEASIBLE)


def _ledger(
    facts: ModelFacts, device: Accelerator, config: ResolvedConfig, given: dict[str, Any]
) -> tuple[MemoryLedger, Corrections | None]:
    """The ledger, corrected by what was observed, and the corrections."""
    measured = {name: given[name] for name in ("weights_gib", "gpu_total_gib")}
    corrections = corrections_of(given["observed"], facts, [device], config)
    draft = given["draft"]
    if corrections is None:
        drafter = model_of(draft, given["hub_token_env"]) if draft else None
        return memory_ledger(facts, device, config, draft=drafter, **measured), None
    if draft:
        raise CommandError("--draft and --observed exclude each other: give --draft-weights-gib instead", WRONG_INPUT)
    return corrected_ledger(facts, device, config, corrections, **measured), corrections


@click.command(cls=options.SizingCommand, context_settings=CONTEXT)
@options.model_options
@options.one_gpu_option
@options.engine_options
@options.workload_options
@options.output_options
@click.pass_context
def predict(context: click.Context, /, form: str, file: Path | None, **given: Any) -> None:
    """Predict latency and throughput of one configuration, at a rate or a concurrency.

    Without --rps and --concurrency it is predicted at its load line.
    Exit codes: 0 a prediction, 2 the input is wrong, 3 the engine would not start.
    """
    page_goes_somewhere(form, file)
    with told_by_option():
        facts = facts_of(given)
        device = device_of(given["gpu"], given["gpu_total_gib"])
        config = config_of(given)
        workload, objectives = workload_of(given), objectives_of(given)
        facts = with_weights(facts, device, config, given["weights_gib"])
        corrections = corrections_of(given["observed"], facts, [device], config)
        prediction = _prediction(facts, device, config, workload, objectives, corrections)
    settings = resolve(config, facts, device)
    if form in ("json", "yaml"):
        document = prediction_document(facts, device, settings, workload, objectives, prediction, corrections)
        _put(as_text(document, form), file)
    elif form == "html":
        from plimsoll_cli.sizing.engine_pages import Engine, prediction_page

        ledger = corrected_ledger(facts, device, settings, corrections)
        curve = latency_curve(facts, device, settings, workload, objectives, corrections=corrections)
        engine = Engine(facts, device, settings, ledger, corrections, command_of(context))
        _put(prediction_page(engine, workload, prediction, objectives, curve), file)
    else:
        from plimsoll_cli.sizing.terminal import predicted_view

        _show(predicted_view(facts, device, settings, prediction, objectives, corrections), file)


def _prediction(
    facts: ModelFacts,
    device: Accelerator,
    config: EngineConfig,
    workload: Workload,
    objectives: Objectives,
    corrections: Corrections | None,
) -> Prediction:
    return corrected_predict(facts, device, config, workload, objectives, corrections)


def _show(view: Any, file: Path | None) -> None:
    from plimsoll_cli.sizing.terminal import as_plain_text, show

    if file is None:
        show(view)
    else:
        _put(as_plain_text(view), file)


def _put(text: str, file: Path | None) -> None:
    """Write a text where it was asked for.

    Raises:
        CommandError: the file cannot be written.
    """
    if file is None:
        click.echo(text, nl=False)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"--file {file} cannot be written: {error.strerror}", WRONG_INPUT) from error
    click.echo(f"wrote {file}", err=True)

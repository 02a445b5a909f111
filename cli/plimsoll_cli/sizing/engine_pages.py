"""The pages of `plimsoll memory` and `plimsoll predict`: one configuration of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from plimsoll_cli.report.figures import duration_text
from plimsoll_cli.report.parts import Section, Tile
from plimsoll_cli.report.sheet import sheet
from plimsoll_cli.report.tables import table
from plimsoll_cli.sizing.page_charts import Mark
from plimsoll_cli.sizing.page_sections import (
    commands_section,
    curve_sections,
    kv_section,
    memory_section,
    observed_sections,
    prediction_section,
    remainder_section,
)
from plimsoll_recommender import (
    Accelerator,
    EngineConfig,
    MemoryLedger,
    ModelFacts,
    Objectives,
    Prediction,
    ResolvedConfig,
    Workload,
)
from plimsoll_recommender.explanation.headline import layout_text, nearest_objective
from plimsoll_recommender.latency.curve import CurvePoint

if TYPE_CHECKING:
    from plimsoll_recommender.observation.corrections import Corrections


@dataclass(frozen=True)
class Engine:
    """What a page is about.

    Args:
        facts: the model.
        gpu: the accelerator.
        config: engine settings, all known.
        ledger: memory of the GPU that limits.
        corrections: what was observed of such engines; None when nothing was.
        command: the command that asks the same again.
    """

    facts: ModelFacts
    gpu: Accelerator
    config: ResolvedConfig
    ledger: MemoryLedger
    corrections: Corrections | None
    command: str

    @property
    def name(self) -> str:
        """Model, accelerator and layout."""
        return f"{self.facts.name} on {self.gpu.product}, {layout_text(self.config)}"


def memory_page(engine: Engine) -> str:
    """Where every GiB goes, and whether the engine would start."""
    ledger = engine.ledger
    verdict = "It starts" if ledger.fits else "It does not start"
    tiles = [
        Tile("fits" if ledger.fits else "does not fit", "verdict", "good" if ledger.fits else "bad"),
        Tile(f"{ledger.weights_gib:.1f} GiB", "weights per GPU"),
        Tile(f"{ledger.kv_cache_gib:.1f} GiB", "KV cache per GPU"),
        Tile(f"{ledger.kv_cache_tokens:,}", "KV tokens"),
        Tile(f"{ledger.max_concurrency:.1f}", f"sequences of {engine.config.max_model_len:,} tokens"),
    ]
    sections = [*_memory(engine), remainder_section(ledger)]
    return sheet(f"Plimsoll memory of {engine.name}", f"{verdict}: {ledger.reason}.", sections, tiles)


def prediction_page(
    engine: Engine, workload: Workload, prediction: Prediction, objectives: Objectives, curve: Sequence[CurvePoint]
) -> str:
    """Latency and throughput of one replica, where that lies on its curve, and its memory."""
    percentile, through = objectives.percentile, prediction.throughput
    mark = Mark(through.requests_per_second, prediction, "Predicted", prediction.load_line_rps)
    nearest = nearest_objective(prediction, objectives)
    used = (
        ""
        if nearest is None
        else f"; {nearest.name} {duration_text(nearest.reached)} of {duration_text(nearest.target)} at p{percentile:g}"
    )
    summary = (
        f"One replica completes {through.requests_per_second:.3g} requests/s, "
        f"{through.output_tokens_per_second:,.0f} output tokens/s, limited by {prediction.bound}{used}."
    )
    if prediction.saturated:
        summary = f"More is asked than one replica carries: the queue grows. {summary}"
    tiles = [
        Tile(duration_text(prediction.ttft.at(percentile)), f"TTFT p{percentile:g}"),
        Tile(duration_text(prediction.tpot.at(percentile)), f"TPOT p{percentile:g}"),
        Tile(duration_text(prediction.e2e.at(percentile)), f"E2E p{percentile:g}"),
        Tile(f"{prediction.load_line_rps:.3g} req/s", "load line"),
        Tile(f"{prediction.kv_cache_usage:.0%}", "of the KV cache in use"),
    ]
    remark = ""
    if workload.concurrency is not None:
        remark = (
            f" The point is of a closed loop, {workload.concurrency:g} requests in flight that start together: its "
            "prompts wait for each other."
        )
    sections = [
        *curve_sections(objectives, mark, curve, remark=remark),
        prediction_section("What is predicted", prediction, objectives),
        remainder_section(engine.ledger),
        *_memory(engine),
    ]
    return sheet(f"Plimsoll prediction for {engine.name}", summary, sections, tiles)


def _memory(engine: Engine) -> list[Section]:
    title = f"Memory of every GPU of a replica, {engine.gpu.product}"
    return [
        memory_section(title, engine.facts, engine.config, engine.ledger),
        kv_section(engine.ledger, engine.config),
        _settings(engine.config),
        *observed_sections(engine.corrections),
        commands_section(engine.command, engine.facts.name, engine.config),
    ]


def _settings(config: ResolvedConfig) -> Section:
    """The settings that are given or worked out; the others, which are as the engine has them, below."""
    plain = {field.name: field.default for field in fields(EngineConfig)}
    plain["engine_version"] = None
    rows, rest = [], []
    for name, default in plain.items():
        value = getattr(config, name)
        if value != default:
            rows.append([name, str(value)])
        else:
            rest.append(f"{name} {'none' if value is None else value}")
    return Section("Settings", table(["", ""], rows), f"As the engine has them: {', '.join(rest)}.", half=True)

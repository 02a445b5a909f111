"""What people look at: the terminal's views with and without colours, and the page."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from plimsoll_cli.report.svg import Dot, Frame, Trace, chart, ticks
from plimsoll_cli.sizing.bar import PARTS, MemoryBar, cells_of
from plimsoll_cli.sizing.plot import CHOSEN, LOAD_LINE, Plot, drawn
from plimsoll_cli.sizing.progress import sign_of_life
from plimsoll_recommender import EngineConfig, MemoryLedger, ModelFacts, accelerator, memory_ledger
from plimsoll_recommender.explanation.arithmetic import kv_cache_terms, remainder_terms
from plimsoll_recommender.explanation.ranks import ranks_of
from plimsoll_recommender.memory.defaults import resolve

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
ASKED = ("recommend", "-m", MODEL, "-g", "H100", "-g", "L40S", "--rps", "20", "--ttft", "800ms", "--tpot", "60ms")


def ledger(**settings: Any) -> MemoryLedger:
    return memory_ledger(ModelFacts.load(MODEL), accelerator("H100"), EngineConfig(**settings))


def printed(view: Any, **console: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=100, **console).print(view)
    return out.getvalue()


def test_the_bar_has_colours_on_a_terminal_and_letters_elsewhere() -> None:
    coloured = printed(MemoryBar(ledger()), force_terminal=True, color_system="standard")
    assert "\x1b[" in coloured
    assert "█" in coloured
    plain = printed(MemoryBar(ledger()), color_system=None)
    assert "\x1b" not in plain
    assert "█" not in plain
    assert re.match(r"W+K+A+G+N+C+\.+\n", plain)


@given(st.lists(st.just(0.0) | st.floats(0.01, 200), min_size=7, max_size=7).filter(any), st.integers(20, 200))
def test_a_bar_is_as_wide_as_it_should_be(sizes: list[float], width: int) -> None:
    cells = cells_of(list(zip((*PARTS, PARTS[0]), sizes, strict=True)), width)
    assert sum(count for _, count in cells) == width
    assert all((count > 0) == (size > 0) for (_, count), size in zip(cells, sizes, strict=True))


def test_pipes_and_no_color_get_plain_text(plimsoll: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in plimsoll(*ASKED).out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in plimsoll(*ASKED).out
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", plimsoll(*ASKED).out)


def test_the_table_fits_the_terminal(plimsoll: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for width in (80, 100, 160):
        monkeypatch.setenv("COLUMNS", str(width))
        assert max(map(len, plimsoll(*ASKED, "--explain").out.splitlines())) <= width


def test_the_table_says_what_to_run_what_it_carries_what_it_costs_and_what_binds(plimsoll: Callable[..., Any]) -> None:
    lines = " ".join(plimsoll(*ASKED).out.split())
    assert re.search(
        r"Run \d+ x NVIDIA-\S+ TP \d .*carries up to .* req/s where 20 are expected, for [\d.]+ per", lines
    )
    assert "binds" in lines


def test_neighbours_are_for_those_who_ask(plimsoll: Callable[..., Any]) -> None:
    assert "\n not " not in plimsoll(*ASKED).out
    explained = plimsoll(*ASKED, "--explain").out
    assert explained.count("not ") > 8
    assert "= KV cache" in explained


def test_a_plot_marks_the_load_line_and_the_chosen_point() -> None:
    plot = Plot("TPOT", [1, 5, 9, 10], [0.01, 0.015, 0.03, 0.3], load_line=9, chosen=0.03, objective=0.03)
    lines = drawn(plot, 47, 9)
    assert all(len(line) <= 47 for line in lines)
    assert sum(CHOSEN in line for line in lines[1:]) == 1
    assert sum(LOAD_LINE in line[10:] for line in lines) >= 5
    assert "30.0 ms" in "".join(lines)


@given(
    st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=30).map(sorted),
    st.lists(st.floats(1e-4, 1e4) | st.just(float("inf")), min_size=30, max_size=30),
    st.floats(1e-3, 1e3),
    st.none() | st.floats(1e-3, 1e3),
)
def test_a_plot_of_anything_has_its_size(
    rates: list[float], seconds: list[float], line: float, objective: float | None
) -> None:
    lines = drawn(Plot("x", rates, seconds[: len(rates)], min(line, rates[-1]), seconds[0], objective), 47, 9)
    assert len(lines) == 12
    assert all(len(row) <= 47 for row in lines)


def test_the_arithmetic_adds_up() -> None:
    for version in ("0.19.0", "0.32.0"):
        found = ledger(tensor_parallel_size=2, engine_version=version)
        config = resolve(
            EngineConfig(tensor_parallel_size=2, engine_version=version), ModelFacts.load(MODEL), accelerator("H100")
        )
        terms = {term.name: float(term.value.replace(",", "")) for term in kv_cache_terms(found, config)}
        used = sum(terms.get(name, 0.0) for name in ("weights", "activation peak", "outside torch", "CUDA graphs"))
        assert terms["budget"] == pytest.approx(terms["GPU memory"] * terms["gpu_memory_utilization"], abs=0.01)
        assert terms["KV cache"] == pytest.approx(terms["budget"] - used, abs=0.03)
        assert terms["KV blocks"] == int(found.kv_cache_gib * 1024**3 / terms["bytes per block"])
        left = {term.name: float(term.value) for term in remainder_terms(found)}
        taken = left["budget"] + left["CUDA context"] + left.get("CUDA graphs", 0.0)
        assert left["free"] == pytest.approx(left["GPU memory"] - taken, abs=0.03)


def test_every_stage_keeps_the_same_blocks_within_its_memory() -> None:
    facts, gpu = ModelFacts.load("Qwen/Qwen3-32B"), accelerator("H100")
    config = resolve(EngineConfig(tensor_parallel_size=2, pipeline_parallel_size=4), facts, gpu)
    limiting = memory_ledger(facts, gpu, config)
    ranks = ranks_of(facts, config, limiting)
    assert ranks[0].name == "GPUs 0-1, stage 1 of 4"
    assert [rank.limiting for rank in ranks].count(True) == 1
    for rank in ranks:
        assert rank.ledger.kv_cache_blocks == limiting.kv_cache_blocks
        assert rank.ledger.weights_gib + rank.ledger.kv_cache_gib < rank.ledger.requested_gib


class Links(HTMLParser):
    """Whatever a page would load, its text, and whether its tags are closed in order."""

    VOID = frozenset({"meta", "line", "circle", "rect", "path", "br", "link", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.tips = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.loaded += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href")]
        self.tips += any(name == "data-tip" for name, _ in attributes)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    from click.testing import CliRunner

    from plimsoll_cli.__main__ import plimsoll as group

    file = tmp_path_factory.mktemp("page") / "answer.html"
    CliRunner().invoke(group, [*ASKED, "-o", "html", "--file", str(file)], catch_exceptions=False)
    return file.read_text(encoding="utf-8")


def test_the_page_loads_nothing_and_is_small(page: str) -> None:
    links = Links()
    links.feed(page)
    assert links.loaded == []
    assert links.open == []
    assert links.tips > 60
    assert not re.search(r"url\(|@import|https?://", page)
    assert len(page) < 200_000


def test_the_page_has_its_parts(page: str) -> None:
    for title in (
        "Memory of every GPU of a replica",
        "TTFT at p95 against throughput",
        "Cost against latency",
        "What would change the answer",
        "Every setting",
        "From GPU memory to sequences",
        "What was asked",
    ):
        assert title in page
    assert "traffic +20%" in page
    assert "TTFT objective halved" in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_the_page_tells_how_to_ask_again(page: str) -> None:
    command = re.search(r"<pre>(plimsoll recommend[^<]*|\S+ recommend[^<]*)</pre>", page)
    assert command is not None
    for part in ("--model meta-llama", "--gpu H100", "--gpu L40S", "--requests-per-second 20", "--ttft 0.8"):
        assert part in command.group(1)
    assert "--output" not in command.group(1)


@pytest.mark.parametrize(
    ("arguments", "titles"),
    [
        (("memory", "-m", "Qwen/Qwen3-32B", "-g", "H100", "-tp", "2", "-pp", "2"), ("stage 2 of 2", "Settings")),
        (("predict", "-m", MODEL, "-g", "H100", "--rps", "4", "--tpot", "40ms"), ("TPOT at p95", "What is predicted")),
        (("predict", "-m", MODEL, "-g", "H100", "--concurrency", "64"), ("TTFT at p95", "requests/s")),
        (("predict", "-m", MODEL, "-g", "H100", "--rps", "4000"), ("the queue grows", "Commands")),
    ],
)
def test_one_engine_has_a_page_too(
    plimsoll: Callable[..., Any], arguments: tuple[str, ...], titles: tuple[str, ...]
) -> None:
    ran = plimsoll(*arguments, "-o", "html")
    assert ran.code == 0, ran.err
    links = Links()
    links.feed(ran.out)
    assert (links.loaded, links.open) == ([], [])
    for title in titles:
        assert title in ran.out


def test_a_page_of_what_does_not_fit_says_so(plimsoll: Callable[..., Any]) -> None:
    ran = plimsoll("memory", "-m", MODEL, "-g", "T4", "-o", "html")
    assert ran.code == 3
    assert "missing: the engine does not start" in ran.out
    assert "GiB of 14." in ran.out
    assert "does not fit" in ran.out


def test_texts_of_a_chart_are_escaped() -> None:
    name = "<b>&amp;"
    parts = chart(Frame(name, name, 1.0, 1.0), [Trace(name, [0, 1], [0, 1], "red", tips=[name, name])])
    assert "<b>" not in parts
    assert "<b>" not in chart(Frame("x", "y", 1.0, 1.0), dots=[Dot(0.5, 0.5, name, name, "red")])


@given(st.floats(1e-6, 1e9), st.just(0.0) | st.floats(0.1, 0.9))
def test_ticks_are_round_and_within(end: float, share: float) -> None:
    found = ticks(end, begin=share * end)
    assert 2 <= len(found) <= 12
    assert found[0] >= share * end * (1 - 1e-6)
    assert found[-1] <= end * (1 + 1e-6)
    assert ticks(end)[0] == 0


def test_a_quick_answer_shows_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with sign_of_life("sizing", after=60):
        pass
    assert capsys.readouterr().err == ""


HEAVY = ("rich", "yaml", "pydantic", "numpy", "scipy", "plotly", "kubernetes", "huggingface_hub", "asyncio", "sklearn")
"""Packages whose import alone takes a good part of the second that an answer may take."""


@pytest.mark.parametrize(
    "arguments", [[*ASKED, "-o", "json"], ["memory", "-m", MODEL, "-g", "H100", "-o", "json"], ["recommend", "--help"]]
)
def test_an_answer_as_data_loads_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom plimsoll_cli.__main__ import main\n"
        f"sys.argv = ['plimsoll', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code, ended.code\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stderr.strip() == "[]"


def test_a_slow_answer_shows_a_sign_of_life_on_a_terminal() -> None:
    """The answer is as slow as it takes to see the sign."""
    controller, terminal = pty.openpty()
    program = (
        "import sys\nfrom plimsoll_cli.sizing.progress import sign_of_life\n"
        "with sign_of_life('sizing', after=0):\n    sys.stdin.read()\n"
    )
    ran = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm"},
    )
    assert ran.stdin is not None
    os.close(terminal)
    seen = b""
    with suppress(OSError):  # the terminal is gone when the program ends
        while b"sizing" not in seen:
            seen += os.read(controller, 4096)
    ran.stdin.close()
    with suppress(OSError):
        while os.read(controller, 4096):
            pass
    os.close(controller)
    assert ran.wait(timeout=30) == 0
    assert b"sizing" in seen

"""One tick of the detector over a fleet: real Prometheus answers, real decisions, and how many queries they cost."""

from __future__ import annotations

import asyncio
import http.server
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final

import yaml

from bench.figures import Context, Figure
from plimsoll_api import names, series
from plimsoll_cli.sandbox import binaries, processes
from plimsoll_cli.sandbox.addresses import free_port
from plimsoll_cli.sandbox.processes import Component
from plimsoll_detector.decision.policy import LoadLine, Policy
from plimsoll_detector.features import Limits, Objectives, by_service, observe
from plimsoll_detector.judgement import Memory, judge
from plimsoll_detector.observation import PodFacts
from plimsoll_detector.prometheus import Prometheus
from plimsoll_detector.queries import query_table
from plimsoll_detector.reading import Reading

SERVICES: Final = 200
PODS: Final = 8
WINDOW_SECONDS: Final = 20.0
SCRAPE_SECONDS: Final = 5
TICKS: Final = 10
MOST_TICK_SECONDS: Final = 15.0
"""The default interval: a tick that takes longer delays the next."""

_TTFT_EDGES: Final = "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1.0 2.5 5.0 7.5 10.0 20.0 40.0 80.0 160.0"
_LINE: Final = LoadLine(2.0, 20.0, 500.0, 1000.0, 0.04)


def run(context: Context) -> list[Figure]:
    """Serve a fleet's series to a real Prometheus, then time ticks against it."""
    services = 20 if context.quick else SERVICES
    with tempfile.TemporaryDirectory() as folder, _Fleet(services) as fleet:
        port = free_port("127.0.0.1", 19190)
        with _prometheus(Path(folder), port, fleet) as url:
            _wait_for_rates(url, services * PODS)
            return asyncio.run(_measure(url, services, 3 if context.quick else TICKS))


async def _measure(url: str, services: int, ticks: int) -> list[Figure]:
    """The figures: time to read, time to judge, queries per tick."""
    asked: list[str] = []
    prometheus = Prometheus(url, lambda signal, *_: asked.append(signal))
    reads: list[float] = []
    judgements: list[float] = []
    memories: dict[int, Memory] = {}
    usable = 0
    for _ in range(ticks):
        began = time.perf_counter()
        reading = await prometheus.read(query_table(WINDOW_SECONDS), 60.0)
        reads.append(time.perf_counter() - began)
        began = time.perf_counter()
        usable = _judge_all(reading, services, memories)
        judgements.append(time.perf_counter() - began)
    prometheus.close()
    fleet = f"{services} services x {PODS} replicas, {ticks} ticks, median"
    return [
        Figure("detector.tick", median(reads) + median(judgements), "s", MOST_TICK_SECONDS, detail=fleet),
        Figure("detector.read", median(reads), "s", detail="all answers of Prometheus, parsed"),
        Figure("detector.judge", median(judgements), "s", detail="observe, diagnose, decide, every service"),
        Figure("detector.queries", len(asked) / ticks, "queries", detail="per tick, however many services there are"),
        Figure("detector.usable", usable / services, "of services", 1.0, ">=", "observations without a problem"),
    ]


def _judge_all(reading: Reading, services: int, memories: dict[int, Memory]) -> int:
    """Judge every service; how many had usable data."""
    samples = by_service(reading)
    limits = Limits(WINDOW_SECONDS, 2 * WINDOW_SECONDS)
    objectives = Objectives(0.95, {"ttft": 2.0, "tpot": 0.1})
    policy = replace(Policy(load_line=_LINE), window=WINDOW_SECONDS)
    usable = 0
    for index in range(services):
        pods = [PodFacts(f"s{index}-{pod}", ready=True) for pod in range(PODS)]
        observation = observe(reading, samples.get(("bench", f"s{index}")), pods, objectives, limits)
        made = judge(PODS, observation, (), policy, memories.get(index, Memory()), reading.at)
        memories[index] = made.memory
        usable += observation.quality.usable
    return usable


class _Fleet:
    """Serves one page with every replica's series; the labels of a scrape are in the page (honor_labels)."""

    def __init__(self, services: int) -> None:
        self.services = services
        self.began = time.monotonic()
        fleet = self

        class Page(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = fleet.page().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> _Fleet:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def page(self) -> str:
        """Every series of every replica, 1.5 requests/s each."""
        done = 1.5 * (time.monotonic() - self.began)
        lines: list[str] = []
        for index in range(self.services):
            for pod in range(PODS):
                labels = (
                    f'{{{names.SERIES_NAMESPACE}="bench",{names.SERIES_SERVICE}="s{index}",'
                    f'{names.SERIES_POD}="s{index}-{pod}",engine="0"'
                )
                lines += _series(labels, done)
        return "\n".join(lines) + "\n"


def _series(labels: str, done: float) -> list[str]:
    """One replica's series, with vLLM's number of buckets."""
    lines = [
        f"{series.RUNNING}{labels}}} 14",
        f"{series.WAITING}{labels}}} 0",
        f'{series.WAITING_BY_REASON}{labels},reason="capacity"}} 0',
        f'{series.WAITING_BY_REASON}{labels},reason="deferred"}} 0',
        f"{series.KV_CACHE_USAGE}{labels}}} 0.4",
        f"{series.PROMPT_TOKENS}{labels}}} {done * 1000}",
        f"{series.GENERATION_TOKENS}{labels}}} {done * 250}",
        f"{series.PREEMPTIONS}{labels}}} 0",
        f"{series.count(series.ITERATION_TOKENS)}{labels}}} {done * 20}",
    ]
    lines += [
        f'{series.REQUEST_SUCCESS}{labels},finished_reason="{reason}"}} {done if reason == "stop" else 0}'
        for reason in series.FINISHED_REASONS
    ]
    for name, value in (
        (series.TIME_TO_FIRST_TOKEN, 0.3),
        (series.INTER_TOKEN_LATENCY, 0.03),
        (series.TIME_PER_OUTPUT_TOKEN, 0.03),
        (series.E2E_LATENCY, 8.0),
        (series.QUEUE_TIME, 0.1),
    ):
        lines += [
            f'{series.bucket(name)}{labels},le="{edge}"}} {done if float(edge) >= value else 0}'
            for edge in (*_TTFT_EDGES.split(), "+Inf")
        ]
        lines += [f"{series.total(name)}{labels}}} {done * value}", f"{series.count(name)}{labels}}} {done}"]
    for name, tokens in ((series.REQUEST_PROMPT_TOKENS, 1000), (series.REQUEST_GENERATION_TOKENS, 250)):
        lines += [f"{series.total(name)}{labels}}} {done * tokens}", f"{series.count(name)}{labels}}} {done}"]
    return lines


@contextmanager
def _prometheus(folder: Path, port: int, fleet: _Fleet) -> Iterator[str]:
    """A real Prometheus that scrapes the fleet's page; gives its URL."""
    job = {
        "job_name": "fleet",
        "honor_labels": True,
        "static_configs": [{"targets": [f"127.0.0.1:{fleet.server.server_port}"]}],
    }
    interval = {"scrape_interval": f"{SCRAPE_SECONDS}s", "scrape_timeout": f"{SCRAPE_SECONDS}s"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump({"global": interval, "scrape_configs": [job]}))
    arguments = (
        str(binaries.resolve("prometheus")),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    process = processes.start(Component("prometheus", arguments, folder / "prometheus.log"))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stop()


def _wait_for_rates(url: str, replicas: int) -> None:
    """Wait until every replica has been scraped for a whole window."""
    prometheus = Prometheus(url)
    deadline = time.monotonic() + 180.0

    async def look() -> Reading:
        return await prometheus.read(query_table(WINDOW_SECONDS), 30.0)

    try:
        while True:
            answers = asyncio.run(look()).answers
            counts = [len(samples) for signal, samples in answers.items() if signal.value in ("started", "running")]
            if len(counts) == 2 and min(counts) >= replicas:
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"Prometheus has rates of {counts} replicas, not of {replicas}, after 180 s")
            time.sleep(1.0)
        time.sleep(WINDOW_SECONDS)
    finally:
        prometheus.close()

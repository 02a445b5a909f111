"""The text of /metrics: what prometheus_client would write for the same observations."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Counter as TheirCounter
from prometheus_client import Gauge as TheirGauge
from prometheus_client import Histogram as TheirHistogram
from prometheus_client import Summary as TheirSummary

from plimsoll_runtime.engine.exposition import Counter, Family, Gauge, Histogram, Summary
from plimsoll_runtime.engine.http_metrics import HttpMetrics
from plimsoll_runtime.engine.metrics import EngineMetrics, token_buckets


def text(*families: Family) -> str:
    """Rendered families."""
    lines: list[str] = []
    for family in families:
        family.render(lines)
    return "\n".join(lines) + "\n"


def without_created_values(rendered: str) -> list[str]:
    """Lines, those of creation times without their value."""
    return [line.rsplit(" ", 1)[0] if "_created" in line and line[0] != "#" else line for line in rendered.splitlines()]


def test_it_is_what_prometheus_client_writes() -> None:
    registry = CollectorRegistry()
    labels = {"b": 'quote " and \\', "a": "1"}
    histogram = Histogram("h_seconds", "text", (0.1, 1, 2.5), [labels], created=1.0)
    theirs = TheirHistogram("h_seconds", "text", ["b", "a"], buckets=(0.1, 1, 2.5), registry=registry).labels(**labels)
    for value in (0.05, 0.1, 0.7, 2.6, 1e9):
        histogram.observe(value)
        theirs.observe(value)
    counter = Counter("c_total", "text", [labels], created=1.0)
    counter.values[0] += 1234567.5
    TheirCounter("c", "text", ["b", "a"], registry=registry).labels(**labels).inc(1234567.5)
    gauge = Gauge("g", "text", [labels])
    gauge.values[0] = 0.25
    TheirGauge("g", "text", ["b", "a"], registry=registry).labels(**labels).set(0.25)
    summary = Summary("s_bytes", "text", created=1.0)
    summary.observe(5, summary.add_series(labels))
    TheirSummary("s_bytes", "text", ["b", "a"], registry=registry).labels(**labels).observe(5)
    ours = text(histogram, counter, gauge, summary)
    assert without_created_values(ours) == without_created_values(generate_latest(registry).decode())


def test_many_observations_at_once() -> None:
    histogram = Histogram("h", "text", (1, 2), [{}], created=1.0)
    histogram.observe(1.5, times=3)
    assert 'h_bucket{le="2.0"} 3.0' in text(histogram)
    assert "h_sum 4.5" in text(histogram)


def test_buckets_of_token_counts_depend_on_the_longest_context() -> None:
    assert token_buckets(1024) == (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
    assert token_buckets(20) == (1, 2, 5, 10, 20)


def test_all_families_render_and_scrapes_are_not_counted() -> None:
    metrics = EngineMetrics("m", 131072, {"block_size": "16"}, created=1.0)
    http = HttpMetrics(created=1.0)
    http.observe("/v1/completions", "POST", 200, 0.2, 100, 200)
    http.observe("/metrics", "GET", 200, 0.2, 100, 200)
    rendered = text(*metrics.families, *http.families)
    assert rendered.count("\n") > 500
    assert '/metrics"' not in rendered

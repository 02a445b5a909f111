"""What the users of a test would have seen: percentiles, attainment, goodput, errors, and series for plots (pure)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from plimsoll_cli.load.histogram import Histogram
from plimsoll_cli.load.plan import Objectives
from plimsoll_cli.load.records import Floats, LoadResult, Outcome, Records

Bools = NDArray[np.bool_]

LAG_LIMIT_SECONDS: Final = 0.010
"""Own delay (p99) above which figures are not trusted: a tenth of the tightest TTFT people ask for (100 ms)."""
SERIES_WINDOW_SECONDS: Final = 5.0
_MINUTE: Final = 60.0
_SHOWN_ERRORS: Final = 20
"""Different error texts kept; the rest are counted together."""


@dataclass(frozen=True)
class Percentiles:
    """A distribution of durations in seconds; None where nothing was measured."""

    count: int
    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    maximum: float | None


@dataclass(frozen=True)
class Series:
    """The test over time, in windows; a value belongs to the window's start.

    Attributes:
        window: seconds of each window.
        at: start of each window (s).
        offered: requests sent per second.
        completed: answers completed per second.
        failed: requests that ended as a miss of any kind, per second.
        in_flight: requests in flight at the window's end.
        ttft_p50, ttft_p95: of the requests scheduled in the window (s); NaN where there were none.
    """

    window: float
    at: Floats
    offered: Floats
    completed: Floats
    failed: Floats
    in_flight: Floats
    ttft_p50: Floats
    ttft_p95: Floats


@dataclass(frozen=True)
class Summary:
    """A test in numbers. Durations in seconds, rates per second, shares from 0 to 1.

    Latencies count from the scheduled time. TTFT is of every request that got a token, TPOT and E2E of completed ones;
    the requests missing from them are in `failed`, `timed_out` and `truncated`, and count as misses in `attainment`.
    """

    planned: int
    sent: int
    completed: int
    failed: int
    timed_out: int
    truncated: int
    abandoned: int
    elapsed: float
    interrupted: bool
    offered_rate: float
    """Requests sent per second of the time in which they were sent."""
    completed_rate: float
    output_tokens_per_second: float
    input_tokens: int
    """Of the completed requests."""
    output_tokens: int
    """Received, whole answers or not."""
    ttft: Percentiles
    ttft_from_send: Percentiles
    tpot: Percentiles
    itl: Percentiles
    e2e: Percentiles
    at_percentile: dict[str, float | None]
    """TTFT, TPOT and E2E at the objectives' percentile, of the requests that have one."""
    within: dict[str, float | None]
    """Share of the ended requests that completed within an objective, by the name of each that is set."""
    attainment: float | None
    """Share of the requests that met every objective at once; None when none ended."""
    goodput: float
    """Requests per second that met every objective."""
    requests_per_minute: tuple[int, ...]
    errors: dict[str, int]
    lag: Percentiles
    """From a request's scheduled time to the generator turning to it."""
    loop_delay: Percentiles
    """How late the generator's event loop ran."""

    @property
    def trusted(self) -> bool:
        """Whether the generator's own delay is small enough to believe the figures."""
        return max(self.lag.p99 or 0.0, self.loop_delay.p99 or 0.0) <= LAG_LIMIT_SECONDS

    @property
    def misses(self) -> int:
        """Requests without a whole answer."""
        return self.failed + self.timed_out + self.truncated


def summarise(result: LoadResult) -> Summary:
    """The summary of a result against its plan's objectives."""
    records, objectives = result.records, result.plan.objectives
    ttft, tpot, e2e = ttft_seconds(records), tpot_seconds(records), e2e_seconds(records)
    counts = {outcome: int((records.outcome == outcome).sum()) for outcome in Outcome}
    sent = int(np.isfinite(records.dispatched).sum())
    ended = len(records) - counts[Outcome.ABANDONED]
    met = int(meets(records, objectives).sum())
    sending = min(result.plan.duration, result.elapsed)
    tokens = int(records.tokens.sum())
    completed = records.outcome == Outcome.COMPLETED
    return Summary(
        planned=len(records),
        sent=sent,
        completed=counts[Outcome.COMPLETED],
        failed=counts[Outcome.FAILED],
        timed_out=counts[Outcome.TIMED_OUT],
        truncated=counts[Outcome.TRUNCATED],
        abandoned=sent - ended,
        elapsed=result.elapsed,
        interrupted=result.interrupted,
        offered_rate=_per(sent, sending),
        completed_rate=_per(counts[Outcome.COMPLETED], result.elapsed),
        output_tokens_per_second=_per(tokens, result.elapsed),
        input_tokens=int(
            np.where(records.prompt_tokens > 0, records.prompt_tokens, records.input_tokens)[completed].sum()
        ),
        output_tokens=tokens,
        ttft=percentiles(ttft),
        ttft_from_send=percentiles(records.first_token - records.sent),
        tpot=percentiles(tpot),
        itl=histogram_percentiles(result.inter_token),
        e2e=percentiles(e2e),
        at_percentile={
            name: _at(values, objectives.percentile) for name, values in (("ttft", ttft), ("tpot", tpot), ("e2e", e2e))
        },
        within={name: float(ok.sum()) / ended if ended else None for name, ok in each_met(records, objectives).items()},
        attainment=met / ended if ended else None,
        goodput=_per(met, result.elapsed),
        requests_per_minute=_per_minute(records, result.plan.duration),
        errors=_errors(records),
        lag=percentiles(records.dispatched - records.scheduled),
        loop_delay=histogram_percentiles(result.loop_delay),
    )


def meets(records: Records, objectives: Objectives) -> Bools:
    """Which requests completed and met every objective at once.

    A request of one token has no TPOT and cannot miss it.
    """
    met: Bools = records.outcome == Outcome.COMPLETED
    for within in each_met(records, objectives).values():
        met = met & within
    return met


def each_met(records: Records, objectives: Objectives) -> dict[str, Bools]:
    """Which requests completed and met an objective, by the name of each that is set."""
    completed = records.outcome == Outcome.COMPLETED
    limits = {
        "ttft": (objectives.ttft, ttft_seconds(records)),
        "tpot": (objectives.tpot, np.nan_to_num(tpot_seconds(records), nan=0.0)),
        "e2e": (objectives.e2e, e2e_seconds(records)),
    }
    return {name: completed & (values <= limit) for name, (limit, values) in limits.items() if limit is not None}


def percentiles(values: Floats) -> Percentiles:
    """The distribution of an array's finite values, interpolated linearly between ranks."""
    measured = values[np.isfinite(values)]
    if not len(measured):
        return Percentiles(0, None, None, None, None, None, None)
    p50, p90, p95, p99 = (float(p) for p in np.percentile(measured, (50, 90, 95, 99)))
    return Percentiles(len(measured), float(measured.mean()), p50, p90, p95, p99, float(measured.max()))


def histogram_percentiles(histogram: Histogram) -> Percentiles:
    """The distribution in a histogram, to its 1 % precision."""
    p50, p90, p95, p99 = (histogram.percentile(p) for p in (50, 90, 95, 99))
    maximum = histogram.maximum if histogram.count else None
    return Percentiles(histogram.count, histogram.mean, p50, p90, p95, p99, maximum)


def series(result: LoadResult, window: float = SERIES_WINDOW_SECONDS) -> Series:
    """The test in windows of `window` seconds, from second 0 to the last answer."""
    records = result.records
    edges = np.arange(0.0, max(result.elapsed, window) + window, window)
    sent, ended = np.isfinite(records.dispatched), np.isfinite(records.ended)
    completed = records.outcome == Outcome.COMPLETED
    missed = ended & ~completed & (records.outcome != Outcome.ABANDONED)

    def rate(moments: Floats) -> Floats:
        counts: Floats = np.histogram(moments, edges)[0] / window
        return counts

    begun = np.searchsorted(np.sort(records.dispatched[sent]), edges[1:])
    over = np.searchsorted(np.sort(records.ended[ended]), edges[1:])
    p50, p95 = _windowed(records.scheduled, ttft_seconds(records), edges)
    return Series(
        window=window,
        at=edges[:-1],
        offered=rate(records.dispatched[sent]),
        completed=rate(records.ended[completed]),
        failed=rate(records.ended[missed]),
        in_flight=(begun - over).astype(np.float64),
        ttft_p50=p50,
        ttft_p95=p95,
    )


def ttft_seconds(records: Records) -> Floats:
    """From the scheduled time to the first token; NaN where none came."""
    return records.first_token - records.scheduled


def tpot_seconds(records: Records) -> Floats:
    """Mean time per output token after the first, of completed requests with more than one; NaN elsewhere."""
    usable = (records.outcome == Outcome.COMPLETED) & (records.tokens > 1)
    spans = records.last_token - records.first_token
    return np.where(usable, spans / np.maximum(records.tokens - 1, 1), np.nan)


def e2e_seconds(records: Records) -> Floats:
    """Time to the last token of completed requests; NaN elsewhere."""
    return np.where(records.outcome == Outcome.COMPLETED, records.last_token - records.scheduled, np.nan)


def _at(values: Floats, percentile: int) -> float | None:
    measured = values[np.isfinite(values)]
    return float(np.percentile(measured, percentile)) if len(measured) else None


def _per(count: float, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0


def _per_minute(records: Records, duration: float) -> tuple[int, ...]:
    sent = records.scheduled[np.isfinite(records.dispatched)]
    minutes = max(1, int(np.ceil(duration / _MINUTE)))
    return tuple(np.bincount(np.minimum(sent // _MINUTE, minutes - 1).astype(np.int64), minlength=minutes).tolist())


def _errors(records: Records) -> dict[str, int]:
    """How often each error came, the most frequent first."""
    counts = Counter(text for text in records.error if text)
    shown = dict(counts.most_common(_SHOWN_ERRORS))
    rest = counts.total() - sum(shown.values())
    return {**shown, "other errors": rest} if rest else shown


def _windowed(moments: Floats, values: Floats, edges: Floats) -> tuple[Floats, Floats]:
    """(p50, p95) of the values whose moment lies in each window."""
    measured = np.isfinite(values)
    window = np.searchsorted(edges, moments[measured], side="right") - 1
    kept = values[measured]
    result = np.full((2, len(edges) - 1), np.nan)
    for index in np.unique(window[window < len(edges) - 1]):
        result[:, index] = np.percentile(kept[window == index], (50, 95))
    return result[0], result[1]

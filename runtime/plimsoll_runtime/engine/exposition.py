"""Counters, gauges and histograms that cost nothing to observe and little to render.

prometheus_client's own objects take a lock per observation and 10 ms to render a thousand series, which is more than an
engine step; these are for one thread, the event loop's. The text is the same format, `_created` series included.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from prometheus_client import utils

CONTENT_TYPE: Final = "text/plain; version=1.0.0; charset=utf-8"


def number_text(value: float) -> str:
    """A number as prometheus_client writes it."""
    return str(utils.floatToGoString(value))  # type: ignore[no-untyped-call]


class Family(Protocol):
    """A metric family that can be rendered."""

    def render(self, into: list[str]) -> None:
        """Append its lines."""


def labels_text(labels: Mapping[str, str]) -> str:
    """`{a="b"}` in order of name, as prometheus_client writes them; empty for none."""
    if not labels:
        return ""
    escaped = (
        (name, value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')) for name, value in labels.items()
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in sorted(escaped)) + "}"


class _Named:
    def __init__(self, name: str, kind: str, documentation: str, created: float | None) -> None:
        self.name = name
        self._head = f"# HELP {name} {documentation}\n# TYPE {name} {kind}"
        base = name.removesuffix("_total") if kind == "counter" else name
        self._created_name = f"{base}_created"
        self._created_head = f"# HELP {base}_created {documentation}\n# TYPE {base}_created gauge"
        self._created = number_text(created) if created is not None else None

    def _render_created(self, texts: Iterable[str], into: list[str]) -> None:
        if self._created is not None:
            into.append(self._created_head)
            into.extend(f"{self._created_name}{text} {self._created}" for text in texts)


class Gauge(_Named):
    """Values by label set. `values` may be written directly."""

    def __init__(self, name: str, documentation: str, labels: Sequence[Mapping[str, str]]) -> None:
        super().__init__(name, "gauge", documentation, None)
        self._texts = [labels_text(label) for label in labels]
        self.values = [0.0] * len(labels)

    def render(self, into: list[str]) -> None:
        """Append its lines."""
        into.append(self._head)
        for text, value in zip(self._texts, self.values, strict=True):
            into.append(f"{self.name}{text} {number_text(value)}")


class Counter(_Named):
    """Growing values by label set. `values` may be written directly. The name carries `_total`."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[Mapping[str, str]], created: float, *, show: bool = True
    ) -> None:
        super().__init__(name, "counter", documentation, created if show else None)
        self._texts = [labels_text(label) for label in labels]
        self.values = [0.0] * len(labels)

    def add_series(self, labels: Mapping[str, str]) -> int:
        """A further label set; returns its index in `values`."""
        self._texts.append(labels_text(labels))
        self.values.append(0.0)
        return len(self.values) - 1

    def render(self, into: list[str]) -> None:
        """Append its lines; a family that has no series yet has its head alone."""
        into.append(self._head)
        for text, value in zip(self._texts, self.values, strict=True):
            into.append(f"{self.name}{text} {number_text(value)}")
        if self._texts:
            self._render_created(self._texts, into)


class _Series:
    __slots__ = ("counts", "lines", "suffix", "total")

    def __init__(self, name: str, labels: Mapping[str, str], edges: Sequence[str]) -> None:
        self.counts = [0] * len(edges)
        self.total = 0.0
        self.suffix = labels_text(labels)
        self.lines = [f"{name}_bucket{labels_text({**labels, 'le': edge})} " for edge in edges]


class Histogram(_Named):
    """Observations in buckets, by label set.

    Args:
        edges: upper bounds without +Inf.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        edges: Sequence[float],
        labels: Sequence[Mapping[str, str]],
        created: float,
    ) -> None:
        super().__init__(name, "histogram", documentation, created)
        self.edges = tuple(float(edge) for edge in edges)
        self._edge_texts = [*map(number_text, self.edges), "+Inf"]
        self.series: list[_Series] = []
        for label in labels:
            self.add_series(label)

    def add_series(self, labels: Mapping[str, str]) -> int:
        """A further label set; returns its index."""
        self.series.append(_Series(self.name, labels, self._edge_texts))
        return len(self.series) - 1

    def observe(self, value: float, times: int = 1, series: int = 0) -> None:
        """Count a value, several times over if need be."""
        held = self.series[series]
        held.counts[bisect_left(self.edges, value)] += times
        held.total += value * times

    def render(self, into: list[str]) -> None:
        """Append its lines."""
        into.append(self._head)
        for series in self.series:
            seen = 0
            for line, count in zip(series.lines, series.counts, strict=True):
                seen += count
                into.append(f"{line}{seen}.0")
            into.append(f"{self.name}_count{series.suffix} {seen}.0")
            into.append(f"{self.name}_sum{series.suffix} {number_text(series.total)}")
        if self.series:
            self._render_created([series.suffix for series in self.series], into)


class Summary(_Named):
    """Count and sum of observations, by label set."""

    def __init__(self, name: str, documentation: str, created: float) -> None:
        super().__init__(name, "summary", documentation, created)
        self._series: list[tuple[str, list[float]]] = []

    def add_series(self, labels: Mapping[str, str]) -> int:
        """A further label set; returns its index."""
        self._series.append((labels_text(labels), [0.0, 0.0]))
        return len(self._series) - 1

    def observe(self, value: float, series: int) -> None:
        """Count a value."""
        held = self._series[series][1]
        held[0] += 1
        held[1] += value

    def render(self, into: list[str]) -> None:
        """Append its lines."""
        into.append(self._head)
        for text, (count, total) in self._series:
            into.append(f"{self.name}_count{text} {number_text(count)}")
            into.append(f"{self.name}_sum{text} {number_text(total)}")
        if self._series:
            self._render_created([text for text, _ in self._series], into)

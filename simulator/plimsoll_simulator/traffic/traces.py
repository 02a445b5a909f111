"""Reading a recorded trace: CSV rows of time, input tokens, output tokens."""

from __future__ import annotations

import csv
import io
import math
from datetime import UTC, datetime
from typing import Final

from plimsoll_simulator.traffic.requests import Request

# Column names, compared in lower case. The first of each is the Azure LLM inference trace's.
_TIME: Final = ("timestamp", "at_seconds", "seconds", "arrival", "time")
_INPUT: Final = ("contexttokens", "input_tokens", "prompt_tokens", "input_length")
_OUTPUT: Final = ("generatedtokens", "output_tokens", "completion_tokens", "output_length")


def parse_trace(text: str) -> tuple[Request, ...]:
    """The requests of a CSV trace, sorted, times counted from the first request.

    The header names three columns, as in `TIMESTAMP,ContextTokens,GeneratedTokens` (Azure LLM inference traces) or
    `seconds,input_tokens,output_tokens`; others are ignored. A time is a date and time (ISO 8601) or a number of
    seconds. A length of 0 becomes 1, the least an engine accepts.

    Raises:
        ValueError: a column is missing, a value cannot be read (with its line), or there is no request.
    """
    rows = csv.reader(io.StringIO(text.removeprefix("\ufeff")))
    header = [name.strip().lower() for name in next(rows, [])]
    columns = tuple(_column(header, names) for names in (_TIME, _INPUT, _OUTPUT))
    requests = [_row(row, columns, rows.line_num) for row in rows if row]
    if not requests:
        raise ValueError("the trace has no requests")
    first = min(r.at_seconds for r in requests)
    shifted = (Request(r.at_seconds - first, r.input_tokens, r.output_tokens) for r in requests)
    return tuple(sorted(shifted, key=lambda r: r.at_seconds))


def _column(header: list[str], names: tuple[str, ...]) -> int:
    for index, name in enumerate(header):
        if name in names:
            return index
    raise ValueError(
        f"the header has none of the columns {', '.join(names)}: it reads {','.join(header) or '(nothing)'}"
    )


def _row(row: list[str], columns: tuple[int, ...], line: int) -> Request:
    try:
        time, inputs, outputs = (row[column].strip() for column in columns)
        request = Request(_seconds(time), max(int(inputs), 1), max(int(outputs), 1))
    except (ValueError, IndexError):
        raise ValueError(f"line {line}: {','.join(row)!r} is not a time and two whole numbers of tokens") from None
    if min(int(inputs), int(outputs)) < 0:
        raise ValueError(f"line {line}: {','.join(row)!r} has a negative number of tokens")
    return request


def _seconds(text: str) -> float:
    """Seconds in a number or an ISO 8601 date and time (UTC where it names no zone)."""
    try:
        seconds = float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(seconds):
        raise ValueError(f"{text} is no time")
    return seconds

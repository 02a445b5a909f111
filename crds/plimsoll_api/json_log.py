"""Logs as every process of the product writes them: one JSON object per line on stderr.

Keys are `time` (UTC, milliseconds), `level`, `logger`, `event` (what happened, in a few constant words), `traceback`
where there was an exception, and whatever a call gave as `extra`.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What a record has without anybody's doing; the rest was given as `extra`."""


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update({name: value for name, value in vars(record).items() if name not in _STANDARD})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def configure(level: str = "info", *, only_warnings_of: Iterable[str] = (), only_errors_of: Iterable[str] = ()) -> None:
    """Send every logger's records to stderr.

    Args:
        level: least level that is written.
        only_warnings_of: loggers of libraries whose information nobody acts on.
        only_errors_of: loggers whose warnings our own words say better.

    Raises:
        ValueError: there is no such level.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in only_warnings_of:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in only_errors_of:
        logging.getLogger(name).setLevel(logging.ERROR)

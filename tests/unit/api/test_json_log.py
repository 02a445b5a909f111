"""Every process logs in the same words."""

from __future__ import annotations

import json
import logging
import sys

from plimsoll_api.json_log import JsonFormatter


def test_a_log_line_is_one_json_object() -> None:
    """The message is the event, and extra fields stand beside it."""
    record = logging.makeLogRecord({"msg": "listening", "levelname": "INFO", "name": "x", "what": "health", "port": 1})
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert {"event": "listening", "what": "health", "port": 1, "level": "info"}.items() <= json.loads(line).items()


def test_an_exception_stays_on_the_line() -> None:
    """Its traceback is a field, and what cannot be JSON is text."""
    try:
        raise ValueError("no")
    except ValueError:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info(), "where": {1}})
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert "ValueError: no" in json.loads(line)["traceback"]
    assert json.loads(line)["where"] == "{1}"

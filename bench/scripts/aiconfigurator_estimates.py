"""Estimates of aiconfigurator for many configurations in one process: queries as JSON in, a line per answer out.

Run by bench/aiconfigurator.py in aiconfigurator's own environment; it needs nothing of Plimsoll.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from typing import Any

from aiconfigurator.cli.api import cli_estimate  # type: ignore[import-not-found]


def answer(query: dict[str, Any]) -> dict[str, Any]:
    """TTFT and TPOT in seconds and the time the estimate took, or why there is none."""
    began = time.perf_counter()
    try:
        found = cli_estimate(backend_name="vllm", mode="agg", **query)
    except Exception as error:  # Its exceptions have no common ancestor; each is one unanswered row.
        return {"error": f"{type(error).__name__}: {str(error)[:200]}"}
    return {
        "ttft": float(found.ttft) / 1000,
        "tpot": float(found.tpot) / 1000,
        "seconds": time.perf_counter() - began,
        "database": str(found.backend_version),
    }


def main() -> None:
    """Answer every query."""
    logging.disable(logging.WARNING)
    answers = sys.stdout
    # It prints tables; stdout is for the answers.
    with contextlib.redirect_stdout(sys.stderr):
        for query in json.load(sys.stdin):
            print(json.dumps(answer(query)), file=answers, flush=True)


if __name__ == "__main__":
    main()

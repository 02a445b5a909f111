"""`plimsoll load` as a person runs it: exit codes, output, messages."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from plimsoll_cli.errors import CommandError
from plimsoll_cli.load.command import load

COMMAND = [sys.executable, "-m", "plimsoll_cli"]
SHORT = ["--shape", "poisson", "--rate", "40", "--duration", "0.5s", "--input-tokens", "10", "--output-tokens", "4"]


async def plimsoll(*arguments: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of `plimsoll load` in a process of its own, as the endpoint needs this loop."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "load", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "120"},
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_all_whole_is_exit_code_0(endpoint) -> None:  # type: ignore[no-untyped-def]
    code, out, err = await plimsoll("--url", endpoint.url, *SHORT, "--ttft", "60s", "--tpot", "60s")
    assert code == 0, err
    assert "all whole; 100 % within the objectives, which meets the 95 % asked for" in out
    assert "own scheduling lag p50" in out
    assert "60s met" in out


async def test_json_is_for_machines(endpoint) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = await plimsoll("--url", endpoint.url, *SHORT, "-o", "json", "--seed", "3")
    document = json.loads(out)
    assert code == 0
    assert document["seed"] == 3
    assert document["summary"]["completed"] == document["summary"]["planned"] > 0


async def test_failures_are_exit_code_1(endpoint) -> None:  # type: ignore[no-untyped-def]
    endpoint.behaviour = "refuse"
    code, out, _ = await plimsoll("--url", endpoint.url, *SHORT)
    assert code == 1
    assert "HTTP 503: too many requests are queued" in out


async def test_too_little_attainment_is_exit_code_1(endpoint) -> None:  # type: ignore[no-untyped-def]
    endpoint.token_gap = 0.2  # a client that had to wait itself must not read a whole answer at once
    arguments = ["--url", endpoint.url, *SHORT, "--tpot", "1ms"]
    code, _, err = await plimsoll(*arguments, "--require-attainment", "0.9")
    assert code == 1
    assert "attainment 0 % is below the 90 % required" in err
    code, _, _ = await plimsoll(*arguments)
    assert code == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--shape", "poisson", "--rate", "5"], "this shape needs --duration"),
        (["--shape", "gamma", "--rate", "5", "--duration", "1s"], "needs --cv"),
        (["--shape", "steps", "--steps", "2-60"], "write rate:seconds"),
        (["--shape", "poisson", "--rate", "5", "--duration", "1s", "--speed", "2"], "--speed is for --trace"),
        (["--rate", "5"], "either --shape or --trace"),
        ([*SHORT, "--input-tokens", "many"], "write a number of tokens"),
        ([*SHORT, "--input-tokens", "100:90"], "from 100 to 387"),
        ([*SHORT, "--ttft", "fast"], "is not a duration"),
        ([*SHORT, "--require-attainment", "0.9"], "needs an objective"),
        ([*SHORT, "--trace", __file__], "either --shape or --trace"),
        (["--trace", __file__], "none of the columns"),
        (["--shape", "poisson", "--rate", "0.001", "--duration", "1s"], "no request in it"),
        (["--shape", "poisson", "--rate", "nan", "--duration", "1s"], "not a finite number"),
        (["--shape", "poisson", "--rate", "1e12", "--duration", "1s"], "about 1e+12 requests"),
        ([*SHORT, "--rate-factor", "1e9"], "one run sends at most 2,000,000"),
        ([*SHORT, "--input-tokens", "0"], "--input-tokens: a length must be 1 token or more, not 0"),
        ([*SHORT, "--input-tokens", "99999999999999999999"], "is not up to 16,000,000 tokens"),
        ([*SHORT, "--output-tokens", "inf:inf"], "is not up to 16,000,000 tokens"),
        ([*SHORT, "--url", "localhost:8000"], "--url 'localhost:8000': write it as http://host:port"),
        ([*SHORT, "--url", "ftp://127.0.0.1"], "write it as http://host:port"),
        ([*SHORT, "--url", "http://[::1"], "write it as http://host:port"),
        ([*SHORT, "--url", "http://127.0.0.1:99999"], "write it as http://host:port"),
    ],
)
def test_wrong_input_is_exit_code_2(arguments: list[str], complaint: str) -> None:
    outcome = CliRunner().invoke(load, ["--url", "http://127.0.0.1:1", *arguments])
    error = outcome.exception
    code, text = (
        (error.exit_code, str(error)) if isinstance(error, CommandError) else (outcome.exit_code, outcome.output)
    )
    assert code == 2
    assert complaint in " ".join(text.split())


async def test_a_model_that_is_not_served_is_exit_code_2(endpoint) -> None:  # type: ignore[no-untyped-def]
    code, _, err = await plimsoll("--url", endpoint.url, *SHORT, "--model", "other")
    assert code == 2
    assert "'other' is not served at" in err
    assert "it serves m" in err
    assert "Traceback" not in err


async def test_an_endpoint_that_cannot_be_reached_is_exit_code_3() -> None:
    code, _, err = await plimsoll("--url", "http://127.0.0.1:1", *SHORT)
    assert code == 3
    assert "nothing answers at http://127.0.0.1:1/v1/models" in err


async def test_a_trace_is_replayed_and_reported(endpoint, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    trace = tmp_path / "trace.csv"
    trace.write_text("seconds,input_tokens,output_tokens\n0,10,3\n4,20,3\n5,30,3\n90,5,5\n")
    page = tmp_path / "report.html"
    arguments = ["--trace", str(trace), "--speed", "10", "--window", "0:60", "--html", str(page)]
    code, out, err = await plimsoll("--url", endpoint.url, *arguments)
    assert code == 0, err
    assert sorted(len(body["prompt"]) for body in endpoint.bodies) == [10, 20, 30]
    assert "3 requests" in out
    text = page.read_text()
    assert text.count("plotly.js v") == 1
    assert "Time to first token" in text
    assert "<link" not in text.split("</script>", 1)[1]


async def test_ctrl_c_stops_and_still_reports(endpoint) -> None:  # type: ignore[no-untyped-def]
    endpoint.token_gap = 0.01
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "load", "--url", endpoint.url, "--shape", "poisson", "--rate", "20", "--duration", "300s",
        "--output-tokens", "5", "-o", "json", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    async with asyncio.timeout(60):
        while len(endpoint.bodies) == endpoint.in_flight:
            await asyncio.sleep(0.02)
        # The command has read the first answer, too, once it has sent some more.
        enough = len(endpoint.bodies) + 5
        while len(endpoint.bodies) < enough:
            await asyncio.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    document = json.loads(out)
    assert process.returncode == 130
    assert document["summary"]["interrupted"] is True
    assert document["summary"]["completed"] > 0
    assert document["summary"]["failed"] == 0

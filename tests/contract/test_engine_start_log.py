"""vLLM itself does not start: what it leaves behind, and the cause that the operator finds in it."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from plimsoll_operator.start_log import TAIL_LINES, cause_in, is_above
from plimsoll_runtime import tiny_model, vllm_environment

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.xdist_group("vllm"), pytest.mark.timeout(600)]

ADDRESS = "127.0.0.3"
"""Connections on this machine take their ports on 127.0.0.1: one that is free there may be taken at any time."""
TERMINATION_MESSAGE_BYTES = 2048
"""core/v1: what a kubelet keeps of a log's end."""
TOO_LONG = 10**8
"""Tokens of one sequence, whose buffers no machine holds."""


def test_the_cause_is_in_the_log_and_not_in_the_last_words() -> None:
    environment = vllm_environment.ensure()
    with socket.socket() as unused:
        unused.bind((ADDRESS, 0))
        port = unused.getsockname()[1]
    command = environment.command(
        tiny_model.ensure(environment), f"--port={port}", f"--host={ADDRESS}", "--enforce-eager",
        f"--max-model-len={TOO_LONG}",
    )  # fmt: skip
    variables = environment.variables({**os.environ, "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"})
    ended = subprocess.run(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=500, check=False
    )
    assert ended.returncode != 0
    last_words = ended.stdout[-TERMINATION_MESSAGE_BYTES:]
    assert is_above(last_words), last_words
    assert not cause_in(last_words)
    cause = cause_in("\n".join(ended.stdout.splitlines()[-TAIL_LINES:]))
    assert "can't allocate memory" in cause, ended.stdout

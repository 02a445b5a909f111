"""`kubectl plimsoll ...`, found and run by the real kubectl."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from plimsoll_cli.sandbox import binaries
from plimsoll_cli.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.xdist_group("sandbox"), pytest.mark.slow, pytest.mark.timeout(240)]


def plugin(sandbox: Sandbox, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it as a person does: kubectl finds `kubectl-plimsoll` on PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "KUBECONFIG": str(sandbox.kubeconfig), "COLUMNS": "200"}
    command = [str(binaries.resolve("kubectl")), "plimsoll", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_status_explain_and_top(sandbox: Sandbox, sandbox_namespace: str, apply_service: Callable[..., str]) -> None:
    """What it says of a serving service, for people and for programs; a name that is not there is exit code 1."""
    apply_service("plugged")
    shown = plugin(sandbox, "status", "-n", sandbox_namespace)
    assert shown.returncode == 0, shown.stderr
    assert "plugged" in shown.stdout
    assert "meta-llama/Llama-3.1-8B-Instruct" in shown.stdout
    explained = plugin(sandbox, "explain", "plugged", "-n", sandbox_namespace)
    assert "maxNumSeqs" in explained.stdout
    everywhere = json.loads(plugin(sandbox, "top", "-A", "-o", "json").stdout)
    assert "plugged" in {one["figures"]["name"] for one in everywhere}
    missing = plugin(sandbox, "status", "no-such", "-n", sandbox_namespace)
    assert missing.returncode == 1
    assert "no LLMService no-such" in missing.stderr
    assert "Traceback" not in missing.stderr

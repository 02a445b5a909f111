"""`plimsoll sandbox` where a sandbox is only just starting, and where a proxy is set."""

from __future__ import annotations

import fcntl
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from plimsoll_cli.errors import CommandError
from plimsoll_cli.sandbox import control_plane, state
from plimsoll_cli.sandbox.certificates import create_authority
from plimsoll_cli.sandbox.commands import sandbox
from plimsoll_cli.sandbox.options import sandboxes_directory
from plimsoll_cli.sandbox.sandbox import LOCK_FILE, STATE_FILE

ADDRESS = "127.65.255.1"
"""As a sandbox has it."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of all sandboxes, with one that is only just starting: locked, and without a state file."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folder = sandboxes_directory() / "starting"
    folder.mkdir(parents=True)
    with (folder / LOCK_FILE).open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield sandboxes_directory()


def test_all_that_can_be_ended_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be yet is named at the end."""
    running = home / "tested"
    running.mkdir()
    (running / STATE_FILE).write_text(json.dumps({"pid": 1}), encoding="utf-8")
    ended: list[str] = []
    monkeypatch.setattr(state.RunningSandbox, "end", lambda self: ended.append(self.directory.name))
    with (running / LOCK_FILE).open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = CliRunner().invoke(sandbox, ["down", "--all"])
    assert ended == ["tested"]
    assert isinstance(outcome.exception, CommandError)
    assert "sandbox starting is only just starting" in str(outcome.exception)


def test_a_log_that_is_not_there_yet_is_said_to_be_absent(home: Path) -> None:
    content = {"pid": 1, "components": [], "auditLog": str(home / "audit.log"), "options": {}}
    (home / "starting" / STATE_FILE).write_text(json.dumps(content), encoding="utf-8")
    outcome = CliRunner().invoke(sandbox, ["logs", "sandbox", "--name", "starting"])
    assert isinstance(outcome.exception, CommandError)
    assert "sandbox has written no log yet" in str(outcome.exception)


def test_a_stray_file_is_no_sandbox(home: Path) -> None:
    (home / "notes.txt").write_text("x", encoding="utf-8")
    assert state.running_names() == ["starting"]


def test_a_component_is_asked_through_no_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`no_proxy` seldom names a sandbox's own addresses, and a proxy does not reach them."""

    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    authority = create_authority(tmp_path)
    authority.client("etcd-client")
    served = authority.server("ready", (ADDRESS,))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    with http.server.HTTPServer((ADDRESS, 0), Ready) as server:
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trust.load_cert_chain(served.certificate, served.key)
        server.socket = trust.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        layout: Any = SimpleNamespace(certificates=tmp_path)
        assert control_plane.answers(f"https://{ADDRESS}:{server.server_port}/readyz", layout)
        server.shutdown()

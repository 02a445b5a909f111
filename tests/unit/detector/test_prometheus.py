"""The adapter against servers that answer well, badly, slowly or not at all."""

from __future__ import annotations

import http.server
import json
import math
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plimsoll_cli.sandbox.certificates import create_authority
from plimsoll_detector.prometheus import Connection, Prometheus, QueryError, Trust
from plimsoll_detector.queries import Signal, query_table
from plimsoll_detector.reading import Reading

Respond = Callable[[str], tuple[int, Any]]
TABLE = query_table(60.0)
NOW = 1_800_000_000.0


def vector(*values: str, warnings: list[str] | None = None) -> tuple[int, Any]:
    """A successful answer."""
    result = [{"metric": {"pod": f"p{index}"}, "value": [NOW, value]} for index, value in enumerate(values)]
    body = {"status": "success", "data": {"resultType": "vector", "result": result}}
    return 200, {**body, **({"warnings": warnings} if warnings else {})}


class Server:
    """A server whose answer depends on the query; it remembers what was asked."""

    def __init__(self) -> None:
        self.respond: Respond = lambda _: vector("1")
        self.asked: list[dict[str, list[str]]] = []
        self.authorizations: list[str | None] = []
        self.blocked = threading.Event()
        outer = self

        class Page(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parameters = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                outer.asked.append(parameters)
                outer.authorizations.append(self.headers.get("Authorization"))
                status, body = outer.respond(parameters["query"][0])
                data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                return

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that answers every query with one sample."""
    running = Server()
    threading.Thread(target=running.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield running
    running.blocked.set()
    running.http.shutdown()
    running.http.server_close()


async def read(url: str, deadline: float = 60.0, now: float = NOW) -> Reading:
    """One reading."""
    prometheus = Prometheus(url)
    try:
        return await prometheus.read(TABLE, deadline, lambda: now)
    finally:
        prometheus.close()


async def test_every_signal_is_asked_for_once_and_at_one_moment(server: Server) -> None:
    """One query per signal, all but the first at the time the first one gave."""
    reading = await read(server.url)
    assert len(server.asked) == len(TABLE)
    assert {asked.get("time", ["none"])[0] for asked in server.asked} == {"none", f"{NOW:.3f}"}
    assert set(reading.answers) == {query.signal for query in TABLE} - {Signal.CLOCK}
    assert (reading.at, reading.skew, reading.unreachable) == (NOW, 0.0, None)


async def test_nan_and_infinity_are_kept(server: Server) -> None:
    """They are faults to be seen; dropped, they would be replicas that say nothing."""
    server.respond = lambda _: vector("NaN", "+Inf", "2")
    values = [sample.value for sample in (await read(server.url)).answers[Signal.RUNNING]]
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, 2.0]


async def test_an_empty_answer_is_empty(server: Server) -> None:
    """Not an error, and not zero."""
    server.respond = lambda query: vector("1") if query == "vector(time())" else vector()
    assert (await read(server.url)).answers[Signal.RUNNING] == ()


async def test_warnings_are_kept(server: Server) -> None:
    """The library drops them, and a partial answer of a store behind would look complete."""
    server.respond = lambda _: vector("1", warnings=["a store is down"])
    assert (await read(server.url)).warnings == ("a store is down",)


async def test_a_query_that_fails_is_a_failure_of_its_own(server: Server) -> None:
    """With what Prometheus said; the others stand."""
    bad = (422, {"status": "error", "errorType": "execution", "error": "too many samples"})
    server.respond = lambda query: bad if query.startswith("max") else vector("1")
    reading = await read(server.url)
    assert set(reading.failures) == {Signal.KV_USAGE}
    assert "too many samples" in reading.failures[Signal.KV_USAGE]
    assert Signal.RUNNING in reading.answers


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((503, "Service Unavailable"), "503"),
        ((200, "<html>a login page</html>"), "no usable answer"),
        ((200, {"status": "success"}), "not Prometheus'"),
        ((200, {"data": {"result": [{"metric": {}}]}}), "not Prometheus'"),
        ((200, {"data": {"result": []}}), "empty"),
    ],
)
async def test_what_is_not_prometheus_is_unreachable(answer: tuple[int, Any], says: str, server: Server) -> None:
    """A page of something else, or an error, and then nothing more is asked."""
    server.respond = lambda _: answer
    reading = await read(server.url)
    assert reading.unreachable is not None
    assert says in reading.unreachable
    assert len(server.asked) == 1


async def test_nobody_there_is_unreachable_at_once(server: Server) -> None:
    """One line with the cause; no repetition."""
    server.http.shutdown()
    server.http.server_close()
    reading = await read(server.url)
    assert reading.unreachable is not None
    assert "Connection refused" in reading.unreachable  # and not that the deadline has passed


async def test_a_server_that_does_not_answer_is_given_up_at_the_deadline(server: Server) -> None:
    """However long it takes."""

    def block(_: str) -> tuple[int, Any]:
        server.blocked.wait(10.0)
        return vector("1")

    server.respond = block
    reading = await read(server.url, deadline=0.3)
    assert reading.unreachable is not None
    assert "not answered within" in reading.unreachable


async def test_a_different_clock_is_seen(server: Server) -> None:
    """Prometheus' time minus ours."""
    assert (await read(server.url, now=NOW + 100.0)).skew == -100.0


def test_an_http_error_is_told_in_one_line(server: Server) -> None:
    """As ours, not as an exception of the library."""
    server.respond = lambda _: (500, "boom")
    connection = Connection(server.url)
    with pytest.raises(QueryError, match="500"):
        connection.ask("up", None)
    connection.close()


def test_the_table_asks_one_thing_per_signal() -> None:
    """No signal twice, none forgotten."""
    assert sorted(query.signal for query in TABLE) == sorted(Signal)


def test_the_token_is_read_again_for_every_query(server: Server, tmp_path: Path) -> None:
    """Tokens of service accounts are replaced while a process runs."""
    token = tmp_path / "token"
    token.write_text("first\n")
    connection = Connection(server.url, Trust(token_file=token))
    connection.ask("up", None)
    token.write_text("second")
    connection.ask("up", None)
    connection.close()
    assert server.authorizations == ["Bearer first", "Bearer second"]


def test_without_a_token_file_nothing_is_sent(server: Server) -> None:
    """Control of the test above."""
    connection = Connection(server.url)
    connection.ask("up", None)
    connection.close()
    assert server.authorizations == [None]


def test_a_token_file_that_is_not_there_is_named(server: Server, tmp_path: Path) -> None:
    """As a failure of the query: the file may come."""
    connection = Connection(server.url, Trust(token_file=tmp_path / "absent"))
    with pytest.raises(QueryError, match=r"cannot read the token or certificate file.*absent"):
        connection.ask("up", None)
    connection.close()


def test_only_the_given_authority_is_trusted(tmp_path: Path) -> None:
    """The same server: refused with the system's authorities, trusted with its own."""
    authority = create_authority(tmp_path)
    pair = authority.server("prometheus", ("127.0.0.1",))
    running = Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    running.http.socket = context.wrap_socket(running.http.socket, server_side=True)
    threading.Thread(target=running.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    url = running.url.replace("http:", "https:")
    try:
        stranger = Connection(url)
        with pytest.raises(QueryError, match="unable to get local issuer certificate"):
            stranger.ask("up", None)
        stranger.close()
        friend = Connection(url, Trust(ca_file=authority.certificate))
        assert friend.ask("up", None).samples
        friend.close()
    finally:
        running.http.shutdown()
        running.http.server_close()

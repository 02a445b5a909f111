"""Ask Prometheus, through prometheus-api-client, and say exactly what came back.

The library is synchronous, has no timeout by default, repeats a timed-out read three times, and drops the warnings of
an answer (0.7.2). So every query runs in a thread with a session of our own: no repetition (the next tick is one),
timeouts on connect and read, warnings kept. A query that fails is a failure with its text, never an empty answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from plimsoll_detector.queries import Query, Signal
from plimsoll_detector.reading import Reading, Sample

CONNECT_SECONDS: Final = 2.0
READ_SECONDS: Final = 5.0
"""Timeouts of one query. Prometheus answers these queries in tens of milliseconds; one that takes seconds is ill."""

CONNECTIONS: Final = 4
"""Queries in flight at once: enough to hide the round trip, few beside Prometheus' own limit (20)."""

_SHOWN: Final = 200
"""Characters of an error that are told: the cause, not a page of HTML."""

QueryObserver = Callable[[str, bool, float], None]
"""Called after every query with its signal, whether it succeeded, and the seconds it took."""


@dataclass(frozen=True)
class Trust:
    """How Prometheus knows us, and how we know it.

    Attributes:
        token_file: file with a bearer token, read again for every query because tokens are replaced while we run;
            None sends none.
        ca_file: certificates of the authority that signed Prometheus' own; None trusts the system's.
    """

    token_file: Path | None = None
    ca_file: Path | None = None


class _BearerToken(requests.auth.AuthBase):
    """Puts the token of a file into a request. `requests` takes it out again when it is sent to another host."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """The request with the token as the file has it now.

        Raises:
            OSError: the file cannot be read.
        """
        request.headers["Authorization"] = f"Bearer {self._file.read_text(encoding='utf-8').strip()}"
        return request


class QueryError(Exception):
    """A query without a usable answer, in one line."""


@dataclass(frozen=True)
class Answer:
    """Samples of one query, and what Prometheus warned of."""

    samples: tuple[Sample, ...]
    warnings: tuple[str, ...] = ()


class Connection:
    """One session with Prometheus, used by one thread at a time."""

    def __init__(self, url: str, trust: Trust = Trust()) -> None:
        self._warnings: tuple[str, ...] = ()
        self._session = requests.Session()
        if trust.token_file:
            self._session.auth = _BearerToken(trust.token_file)
        if trust.ca_file:
            self._session.verify = str(trust.ca_file)
        self._session.hooks["response"].append(self._keep_warnings)
        if (urlsplit(url).hostname or "").startswith(("127.", "localhost", "::1")):
            self._session.trust_env = False  # a proxy cannot reach this machine's loopback
        never = Retry(total=0, read=False, redirect=3)
        self._prometheus = PrometheusConnect(
            url=url.rstrip("/"), retry=never, session=self._session, timeout=(CONNECT_SECONDS, READ_SECONDS)
        )

    def ask(self, promql: str, at: float | None) -> Answer:
        """One instant query.

        Args:
            promql: the expression.
            at: time of evaluation in seconds since the epoch; None leaves it to Prometheus' clock.

        Raises:
            QueryError: no connection, no answer in time, an HTTP error, an answer that is not Prometheus', or a token
                or certificate file that cannot be read.
        """
        self._warnings = ()
        try:
            result = self._prometheus.custom_query(promql, params={} if at is None else {"time": f"{at:.3f}"})
            return Answer(tuple(_sample(item) for item in result), self._warnings)
        except PrometheusApiClientException as error:
            raise QueryError(f"Prometheus answered: {error}"[:_SHOWN]) from error
        except requests.Timeout as error:
            raise QueryError(f"no answer within {CONNECT_SECONDS:g} s to connect and {READ_SECONDS:g} s") from error
        except requests.ConnectionError as error:
            raise QueryError(f"cannot connect: {_cause(error)}"[:_SHOWN]) from error
        except requests.RequestException as error:
            raise QueryError(f"no usable answer: {error}"[:_SHOWN]) from error
        except (KeyError, TypeError, ValueError) as error:
            raise QueryError(f"the answer is not Prometheus': {error!r}"[:_SHOWN]) from error
        except OSError as error:  # after those of `requests`, which are OSErrors, too
            raise QueryError(f"cannot read the token or certificate file: {error}"[:_SHOWN]) from error

    def close(self) -> None:
        """Close the session."""
        self._session.close()

    def _keep_warnings(self, response: requests.Response, *_: Any, **__: Any) -> None:
        """Remember the warnings of an answer, which the library drops. Decoded only where there are some."""
        if response.status_code == requests.codes.ok and b'"warnings":' in response.content:
            self._warnings = tuple(map(str, response.json().get("warnings") or ()))


def _sample(item: dict[str, Any]) -> Sample:
    at, value = item["value"]
    return Sample(item["metric"], float(value), float(at))


def _cause(error: BaseException) -> str:
    """The innermost reason of a connection error: `[Errno 111] Connection refused` instead of three classes."""
    reason: Any = error.args[0] if error.args else error
    reason = getattr(reason, "reason", reason)
    return str(reason).rsplit(": ", 1)[-1]


class Prometheus:
    """Reads a table of queries, all evaluated at one moment of Prometheus' clock."""

    def __init__(self, url: str, observer: QueryObserver = lambda *_: None, trust: Trust = Trust()) -> None:
        self.url = url
        self._observer = observer
        self._pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="prometheus")
        self._free: SimpleQueue[Connection] = SimpleQueue()
        for _ in range(CONNECTIONS):
            self._free.put(Connection(url, trust))

    async def read(self, table: Sequence[Query], deadline: float, clock: Callable[[], float] = time.time) -> Reading:
        """Ask every query of a table.

        Args:
            table: the queries; one of them asks for Prometheus' clock.
            deadline: seconds that all of it may take.
            clock: this machine's time in seconds since the epoch.

        Returns:
            A reading that says what is missing and why; this never raises for Prometheus' sake.
        """
        now = clock()
        first = next(query for query in table if query.signal is Signal.CLOCK)
        try:
            async with asyncio.timeout(deadline):
                started = await self._ask(first, None)
                at = started.samples[0].at
                others = [query for query in table if query is not first]
                outcomes = await asyncio.gather(*(self._outcome(query, at) for query in others))
        except TimeoutError:
            return Reading(now, unreachable=f"{self.url}: not answered within {deadline:.0f} s")
        except QueryError as error:
            return Reading(now, unreachable=f"{self.url}: {error}")
        except IndexError:
            return Reading(now, unreachable=f"{self.url}: the answer to vector(time()) is empty")
        answers: dict[Signal, tuple[Sample, ...]] = {}
        failures: dict[Signal, str] = {}
        warnings: dict[str, None] = {}
        for query, outcome in zip(others, outcomes, strict=True):
            if isinstance(outcome, QueryError):
                failures[query.signal] = str(outcome)
            else:
                answers[query.signal] = outcome.samples
                warnings.update(dict.fromkeys(outcome.warnings))
        return Reading(at, at - now, answers, failures, tuple(warnings))

    def close(self) -> None:
        """Close every session; a query in flight is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        while not self._free.empty():
            self._free.get().close()

    async def _outcome(self, query: Query, at: float) -> Answer | QueryError:
        try:
            return await self._ask(query, at)
        except QueryError as error:
            return error

    async def _ask(self, query: Query, at: float | None) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._ask_in_thread, query, at)

    def _ask_in_thread(self, query: Query, at: float | None) -> Answer:
        connection = self._free.get()
        began = time.monotonic()
        succeeded = False
        try:
            answer = connection.ask(query.promql, at)
            succeeded = True
            return answer
        finally:
            self._free.put(connection)
            self._observer(str(query.signal), succeeded, time.monotonic() - began)

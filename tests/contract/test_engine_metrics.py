"""The simulated engine against vLLM itself: the same requests, then a diff of answers, errors and /metrics.

Prompts are lists of token ids, so that both count the same tokens.
"""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.error
import urllib.request
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.xdist_group("sandbox"), pytest.mark.timeout(600)]

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
PROMPT = list(range(10, 42))
MESSAGES = [{"role": "user", "content": "hello"}]
FIXED = {"prompt": PROMPT, "max_tokens": 6, "ignore_eos": True, "temperature": 0}
LONG = 24
"""Tokens of a stream: more than a busy server may put into its first and last event together."""
MOST = 900
"""Tokens of a long answer: the context has room for 992."""
SECONDS = 120.0
"""For one answer, or the end of a server: vLLM shares two cores with everything else."""
SLOWDOWN = 1000
"""Of the simulated engine where something happens during an answer: of so small a model the longest takes 0.3 s, too
little for a busy machine to send twelve requests, or to see one running, stop its server and ask again."""

REFUSAL_SECONDS = 30.0
"""From SIGTERM to the first refusal: the signal goes through a launcher to the server."""

# Differences of /metrics that are wanted, each with its reason.
ONLY_SIMULATED = {
    "plimsoll_engine_lag_seconds": "the simulation's own lateness, which the real engine has no notion of"
}
ONLY_REAL: dict[str, str] = {}

ANSWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "completion": (COMPLETIONS, FIXED),
    "completion, other name": (COMPLETIONS, {**FIXED, "model": "alias"}),
    "completion stream": (COMPLETIONS, {**FIXED, "max_tokens": LONG, "stream": True}),
    "completion stream with usage": (
        COMPLETIONS,
        {**FIXED, "max_tokens": LONG, "stream": True, "stream_options": {"include_usage": True}},
    ),
    "completion, one token": (COMPLETIONS, {**FIXED, "max_tokens": 1, "stream": True}),
    "completion to the longest context": (COMPLETIONS, {**FIXED, "prompt": PROMPT * 31, "max_tokens": 900}),
    "default max_tokens": (COMPLETIONS, {"prompt": PROMPT, "ignore_eos": True}),
    "min_tokens": (COMPLETIONS, {**FIXED, "min_tokens": 3}),
}
CHATS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, {"messages": MESSAGES, "max_tokens": 4, "ignore_eos": True}),
    "chat with max_completion_tokens": (CHAT, {"messages": MESSAGES, "max_completion_tokens": 4, "ignore_eos": True}),
    "chat stream": (CHAT, {"messages": MESSAGES, "max_tokens": LONG, "ignore_eos": True, "stream": True}),
    "chat stream with usage": (
        CHAT,
        {
            "messages": MESSAGES,
            "max_tokens": LONG,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    ),
    "chat of parts": (
        CHAT,
        {
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
            "max_tokens": 2,
            "ignore_eos": True,
        },
    ),
}
ERRORS: dict[str, tuple[str, Any]] = {
    "unknown model": (COMPLETIONS, {**FIXED, "model": "nope"}),
    "unknown model in chat": (CHAT, {"messages": MESSAGES, "model": "nope"}),
    "prompt too long": (COMPLETIONS, {**FIXED, "prompt": [5] * 1100}),
    "prompt as long as the context": (COMPLETIONS, {**FIXED, "prompt": [5] * 1024}),
    "max_tokens too large": (COMPLETIONS, {**FIXED, "max_tokens": 5000}),
    "max_tokens 0": (COMPLETIONS, {**FIXED, "max_tokens": 0}),
    "max_tokens negative": (COMPLETIONS, {**FIXED, "max_tokens": -1}),
    "max_tokens 0 in chat": (CHAT, {"messages": MESSAGES, "max_tokens": 0}),
    "max_tokens a word": (COMPLETIONS, {**FIXED, "max_tokens": "many"}),
    "no prompt": (COMPLETIONS, {"max_tokens": 3}),
    "empty prompt": (COMPLETIONS, {"prompt": "", "max_tokens": 3}),
    "no messages": (CHAT, {"max_tokens": 3}),
    "empty conversation": (CHAT, {"messages": []}),
    "temperature negative": (COMPLETIONS, {**FIXED, "temperature": -1}),
    "min_tokens above max_tokens": (COMPLETIONS, {**FIXED, "min_tokens": 30}),
    "stream_options without stream": (COMPLETIONS, {**FIXED, "stream_options": {"include_usage": True}}),
    "n 0": (COMPLETIONS, {**FIXED, "n": 0}),
    "not an object": (COMPLETIONS, [1]),
    "not JSON": (COMPLETIONS, '{"prompt": '),
}


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    content_type: str
    body: str


def send(url: str, path: str, body: Any = None, method: str | None = None, timeout: float = SECONDS) -> Reply:
    """Send one request; errors are replies, too."""
    if isinstance(body, dict) and "model" not in body:
        body = {**body, "model": "tiny"}
    data = None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
    request = urllib.request.Request(url + path, data=data, method=method, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return Reply(response.status, response.headers.get("Content-Type", ""), response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, error.headers.get("Content-Type", ""), error.read().decode())


def shape(value: Any) -> Any:
    """A JSON value with its leaves replaced by the names of their types."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__


def events(body: str) -> list[Any]:
    """The events of a stream, `[DONE]` included."""
    assert body.endswith("data: [DONE]\n\n"), body[-300:]
    texts = [event.removeprefix("data: ") for event in body.split("\n\n") if event]
    return [json.loads(text) if text != "[DONE]" else text for text in texts]


def described(reply: Reply) -> dict[str, Any]:
    """What must be equal in the two replies."""
    fixed: dict[str, Any] = {"status": reply.status, "content type": reply.content_type}
    if not reply.content_type.startswith("text/event-stream"):
        body = json.loads(reply.body)
        return {**fixed, "shape": shape(body), **facts(body)}
    found = events(reply.body)
    shapes = [shape(event) for event in found]
    # A busy server may put two tokens into one event.
    runs = [item for index, item in enumerate(shapes) if index == 0 or item != shapes[index - 1]]
    return {**fixed, "shapes": runs, "last": facts(found[-2]), "before": facts(found[-3]) if len(found) > 2 else {}}


def facts(body: dict[str, Any]) -> dict[str, Any]:
    """Values that do not depend on what the model says."""
    usage = body.get("usage")
    choices = [(choice["finish_reason"], choice.get("stop_reason")) for choice in body.get("choices", ())]
    return {"model": body.get("model"), "object": body.get("object"), "choices": choices, "usage": usage}


def without_prompt_counts(description: dict[str, Any]) -> dict[str, Any]:
    """For chats, whose text the two split into tokens differently."""
    text = json.dumps(description)
    return dict(json.loads(re.sub(r'"(prompt_tokens|total_tokens)": \d+', r'"\1": 0', text)))


Families = dict[str, tuple[str, frozenset[frozenset[str]], frozenset[str]]]


def families(scrape: str) -> Families:
    """Name -> (type, label names of its series, bucket edges)."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", scrape, re.MULTILINE))
    labels: dict[str, set[frozenset[str]]] = {name: set() for name in kinds}
    edges: dict[str, set[str]] = {name: set() for name in kinds}
    for name, inside in re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+$", scrape, re.MULTILINE):
        family = name if name in kinds else re.sub(r"_(bucket|sum|count)$", "", name)
        assert family in kinds, f"{name} has no TYPE line"
        found = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', inside))
        if "le" in found:
            edges[family].add(found.pop("le"))
        labels[family].add(frozenset(found))
    return {name: (kind, frozenset(labels[name]), frozenset(edges[name])) for name, kind in kinds.items()}


def differences(real: Families, simulated: Families) -> list[str]:
    """Every unwanted difference, in words."""
    found = [
        f"{name} is missing in the simulation" for name in sorted(real.keys() - simulated.keys() - ONLY_REAL.keys())
    ]
    found += [f"{name} is not vLLM's" for name in sorted(simulated.keys() - real.keys() - ONLY_SIMULATED.keys())]
    for name in sorted(real.keys() & simulated.keys()):
        for what, theirs, ours in zip(("type", "labels", "buckets"), real[name], simulated[name], strict=True):
            if theirs != ours:
                found.append(f"{name}: {what} {theirs} in vLLM, {ours} in the simulation")
    return found


@dataclass(frozen=True)
class Run:
    """All replies of a server to the same requests, and its metrics before and afterwards."""

    replies: dict[str, Reply]
    before: str
    scrape: str


def run_all(url: str) -> Run:
    """Send everything."""
    before = send(url, "/metrics").body
    replies = {name: send(url, *request) for name, request in {**ANSWERS, **CHATS, **ERRORS}.items()}
    replies["no such path"] = send(url, "/nope")
    replies["no such method"] = send(url, COMPLETIONS, method="GET")
    replies["models"] = send(url, "/v1/models")
    replies["version"] = send(url, "/version")
    # Metrics of the last step may be written after its answer.
    time.sleep(0.5)
    return Run(replies, before, send(url, "/metrics").body)


@pytest.fixture(scope="session")
def runs(real: Any, simulated: Any) -> tuple[Run, Run]:
    """The two runs."""
    return run_all(real.url), run_all(simulated.url)


@pytest.mark.parametrize("name", [*ANSWERS, "models", "version", "no such path", "no such method"])
def test_answers_are_the_same(name: str, runs: tuple[Run, Run]) -> None:
    theirs, ours = (described(run.replies[name]) for run in runs)
    assert ours == theirs


@pytest.mark.parametrize("name", CHATS)
def test_chats_are_the_same(name: str, runs: tuple[Run, Run]) -> None:
    theirs, ours = (without_prompt_counts(described(run.replies[name])) for run in runs)
    assert ours == theirs


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_the_same(name: str, runs: tuple[Run, Run]) -> None:
    theirs, ours = (run.replies[name] for run in runs)
    assert theirs.status >= 400
    assert ours == theirs


def test_metrics_are_the_same(runs: tuple[Run, Run]) -> None:
    theirs, ours = (families(run.scrape) for run in runs)
    assert len(theirs) > 80
    assert differences(theirs, ours) == []


def test_counts_are_the_same(runs: tuple[Run, Run]) -> None:
    pattern = (
        r"^(vllm:(?:request_success_total|generation_tokens_total|request_params_max_tokens_(?:sum|count)"
        r"|request_generation_tokens_(?:sum|count|bucket)|time_to_first_token_seconds_count"
        r"|inter_token_latency_seconds_count|e2e_request_latency_seconds_count|request_params_n_sum)|http_requests_total)"
        r"(\{.*\}) (\S+)$"
    )

    def counted(scrape: str) -> dict[str, float]:
        return {name + labels: float(value) for name, labels, value in re.findall(pattern, scrape, re.MULTILINE)}

    def grown(run: Run) -> dict[str, float]:
        """By these requests: the real one has served others before.

        A series of `http_requests_total` exists from its first request on; one that has not grown is of those others.
        """
        before = counted(run.before)
        growth = {name: value - before.get(name, 0.0) for name, value in counted(run.scrape).items()}
        return {name: value for name, value in growth.items() if value or not name.startswith("http_requests_total")}

    theirs, ours = map(grown, runs)
    assert len(theirs) > 20
    assert any(theirs.values())
    assert ours == theirs


def test_control_the_diff_notices_what_is_wrong(runs: tuple[Run, Run]) -> None:
    scrape = runs[1].scrape
    theirs = families(runs[0].scrape)
    changes = {
        "missing": scrape.replace("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        "type": scrape.replace("# TYPE vllm:num_preemptions_total counter", "# TYPE vllm:num_preemptions_total gauge"),
        "labels": scrape.replace('finished_reason="', 'reason="'),
        "buckets": scrape.replace('le="0.025"', 'le="0.026"'),
    }
    for what, changed in changes.items():
        assert changed != scrape
        assert differences(theirs, families(changed)) != [], what


def test_stop_strings_end_both(real: Any, simulated: Any) -> None:
    for server in (real, simulated):
        said = json.loads(send(server.url, COMPLETIONS, {**FIXED, "max_tokens": 12}).body)["choices"][0]["text"]
        stop = said[len(said) // 2 :][:2]
        body = {**FIXED, "max_tokens": 12, "stop": [stop]}
        reply = json.loads(send(server.url, COMPLETIONS, body).body)["choices"][0]
        assert (reply["finish_reason"], reply["stop_reason"]) == ("stop", stop)
        assert reply["text"] == said[: said.index(stop)]
        streamed = events(send(server.url, COMPLETIONS, {**body, "stream": True}).body)
        assert "".join(event["choices"][0]["text"] for event in streamed[:-1]) == reply["text"]
        assert streamed[-2]["choices"][0]["finish_reason"] == "stop"


def test_a_full_queue_refuses_both(real: Any, simulated: Any) -> None:
    refused = []
    for server in (Real(real), Simulated(simulated)):
        replies = together(server, {**FIXED, "max_tokens": 400}, 12)
        # A request may come in when another is done; one below the limit is never refused.
        statuses = [reply.status for reply in replies]
        assert set(statuses) == {200, 503}
        assert statuses.count(200) >= 8
        refused.append(next(reply for reply in replies if reply.status == 503))
    assert refused[0] == refused[1]


def test_z_draining_finishes_what_runs_and_refuses_the_rest(real: Any, simulated: Any) -> None:
    """Last: both end."""
    outcomes = [drained(Real(real)), drained(Simulated(simulated))]
    assert outcomes[0] == outcomes[1]
    assert outcomes[1]["late"].status == 500
    assert outcomes[1]["exit code"] == 0


@dataclass(frozen=True)
class Simulated:
    """The simulated engine, whose pace is a setting."""

    server: Any

    def slow(self) -> None:
        """Take that many times as long for a token as the model would."""
        self._slowdown(SLOWDOWN)

    def hold(self) -> None:
        """Slow is enough: an answer then takes longer than a test."""
        self._slowdown(SLOWDOWN)

    def let_go(self) -> None:
        """Take as long as the model would."""
        self._slowdown(1)

    def _slowdown(self, factor: int) -> None:
        assert send(self.server.url, "/admin/faults", json.dumps({"slowdown": factor})).status == 200


@dataclass(frozen=True)
class Real:
    """vLLM, which computes in processes of its own: they can be stopped while its server goes on."""

    server: Any

    def slow(self) -> None:
        """It has its own pace."""

    def hold(self) -> None:
        """Compute nothing."""
        self.server.process.signal_engine(signal.SIGSTOP)

    def let_go(self) -> None:
        """Go on."""
        self.server.process.signal_engine(signal.SIGCONT)


def together(engine: Real | Simulated, body: dict[str, Any], count: int) -> list[Reply]:
    """Replies to as many requests at once.

    None ends before the first refusal, however slowly a busy machine sends them.
    """
    with ThreadPoolExecutor(count) as pool:
        engine.hold()
        try:
            futures = [pool.submit(send, engine.server.url, COMPLETIONS, body) for _ in range(count)]
            wait(futures, timeout=SECONDS / 2, return_when=FIRST_COMPLETED)
        finally:
            engine.let_go()
        return [future.result() for future in futures]


def drained(engine: Real | Simulated) -> dict[str, Any]:
    """Stop a server that is streaming; what the stream, a later request and the process came to.

    The stream does not end before the server has refused, for until then it is held.
    """
    server = engine.server
    with ThreadPoolExecutor(1) as pool:
        try:
            long = _held_stream(engine, pool)
            server.process.send_signal(signal.SIGTERM)
            late = _first_refusal(server.url)
            health = send(server.url, "/health").status
        finally:
            engine.let_go()
        reply = long.result()
    # Counted by the server: a busy one may put several tokens into one event.
    whole = events(reply.body)[-2]["usage"]["completion_tokens"] == MOST
    code = server.process.wait(timeout=SECONDS)
    return {"late": late, "health": health, "status": reply.status, "whole": whole, "exit code": code}


def _held_stream(engine: Real | Simulated, pool: ThreadPoolExecutor) -> Future[Reply]:
    """A long stream that the server says is running, held; another where it was over before it could be."""
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    engine.slow()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        long = pool.submit(send, engine.server.url, COMPLETIONS, {**FIXED, "max_tokens": MOST, **usage})
        while not long.done():
            if _runs_one(engine.server.url):
                engine.hold()
                if _runs_one(engine.server.url):
                    return long
                engine.let_go()
            time.sleep(0.02)
    raise AssertionError(f"no stream was seen running within {SECONDS:g} s")


def _runs_one(url: str) -> bool:
    """Whether the server says that it runs one request."""
    return re.search(r"^vllm:num_requests_running\{.*\} 1\.0$", send(url, "/metrics").body, re.M) is not None


def _first_refusal(url: str) -> Reply:
    """The answer to a new request as soon as it is not 200."""
    end = time.monotonic() + REFUSAL_SECONDS
    while time.monotonic() < end:
        # The prompt is text: vLLM refuses it where it would tokenise it. A prompt of token ids gets past that, to an
        # engine that takes nothing more, and is never answered; the simulation refuses both.
        with suppress(TimeoutError):
            reply = send(url, COMPLETIONS, {**FIXED, "prompt": "hello", "max_tokens": 1}, timeout=1)
            if reply.status != 200:
                return reply
        time.sleep(0.05)
    raise AssertionError(f"new requests are still served {REFUSAL_SECONDS:g} s after SIGTERM")

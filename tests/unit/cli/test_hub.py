"""Models of the hub, asked over HTTP of a server that speaks its endpoints."""

from __future__ import annotations

import hashlib
import http.server
import json
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from plimsoll_cli.errors import CommandError
from plimsoll_cli.sizing.hub import fetch_facts, load_model
from plimsoll_recommender import RecommenderError

COMMIT = "0123456789abcdef0123456789abcdef01234567"

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}


def safetensors(**tensors: tuple[int, ...]) -> bytes:
    """A safetensors file's header, with the weights left out: only headers may be asked for."""
    entries, offset = {}, 0
    for name, shape in tensors.items():
        size = 2
        for length in shape:
            size *= length
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header


@dataclass
class Hub:
    """What the server holds, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    status: int = 200
    code: str = ""
    token: str = ""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    def refusal(self, given: str | None) -> int | None:
        if self.status != 200:
            return self.status
        return None if not self.token or given == f"Bearer {self.token}" else 401


def handler_of(hub: Hub) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            if "org/model" not in self.path:
                # Ports are used again: a Prometheus may still scrape the one an engine had here before.
                self.send(404, b"{}", {}, body)
                return
            given, asked = self.headers.get("authorization"), self.headers.get("range")
            hub.asked.append((self.command, self.path, asked))
            hub.tokens.append(given or "")
            refused = hub.refusal(given)
            if refused is not None:
                self.send(refused, b'{"error": "no"}', {"X-Error-Code": hub.code}, body)
            elif self.path.startswith("/api/models/org/model"):
                if "/revision/" in self.path and not self.path.endswith((COMMIT, "/v1")):
                    self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
                    return
                siblings = [{"rfilename": name} for name in hub.files]
                listing = {"id": "org/model", "sha": COMMIT, "siblings": siblings}
                self.send(200, json.dumps(listing).encode(), {"Content-Type": "application/json"}, body)
            else:
                name = self.path.partition(f"/resolve/{COMMIT}/")[2]
                content = hub.files.get(name)
                if content is None:
                    self.send(404, b"{}", {"X-Error-Code": "EntryNotFound"}, body)
                    return
                headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
                if asked:
                    begin, _, end = asked.removeprefix("bytes=").partition("-")
                    self.send(206, content[int(begin) : int(end) + 1], headers, body)
                else:
                    self.send(200, content, headers, body)

        def send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

    return Handler


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    state = Hub({"config.json": json.dumps(CONFIG).encode()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler_of(state))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    yield state
    server.shutdown()
    server.server_close()
    thread.join(timeout=10)


def test_sharded_checkpoint_gives_every_tensor_by_range_requests(hub: Hub) -> None:
    hub.files["a.safetensors"] = safetensors(**{"model.embed_tokens.weight": (256, 64)})
    hub.files["b.safetensors"] = safetensors(**{"model.layers.0.mlp.up_proj.weight": (128, 64)})
    placed = {"model.embed_tokens.weight": "a.safetensors", "model.layers.0.mlp.up_proj.weight": "b.safetensors"}
    hub.files["model.safetensors.index.json"] = json.dumps({"metadata": {}, "weight_map": placed}).encode()
    facts = fetch_facts("hf://org/model")
    assert facts.checkpoint is not None
    assert [tensor.name for tensor in facts.checkpoint.tensors] == sorted(placed)
    assert facts.weight_bytes == 2 * (256 * 64 + 128 * 64)
    assert facts.name == "org/model"
    assert facts.source == f"hf://org/model@{COMMIT[:12]}"
    weights = [asked for asked in hub.asked if asked[1].endswith(".safetensors")]
    assert weights
    assert all(asked[2] for asked in weights), "a whole file of weights was asked for"


def test_quantization_beside_the_config_is_read(hub: Hub) -> None:
    hub.files["hf_quant_config.json"] = json.dumps({"quantization": {"quant_algo": "FP8"}}).encode()
    hub.files["model.safetensors"] = safetensors(**{"model.embed_tokens.weight": (256, 64)})
    facts = fetch_facts("org/model", "v1")
    assert facts.quantization is not None
    assert facts.quantization.label == "fp8"


def test_a_checkpoint_without_safetensors_is_sized_from_its_config(hub: Hub) -> None:
    hub.files["pytorch_model.bin"] = b""
    assert load_model("hf://org/model").weight_bytes is None


def test_the_second_copy_of_mistral_is_left_out(hub: Hub) -> None:
    hub.files["consolidated.safetensors"] = safetensors(w=(4,))
    hub.files["model-of-one.safetensors"] = safetensors(w=(8,))
    assert fetch_facts("hf://org/model").weight_bytes == 16


@pytest.mark.parametrize("place", ["variable", "file"])
def test_the_token_is_given_by_reference(
    hub: Hub, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.token = "hf_secret"
    if place == "variable":
        monkeypatch.setenv("MY_TOKEN", "hf_secret\n")
        reference = "MY_TOKEN"
    else:
        (tmp_path / "secret").write_text("hf_secret\n")
        reference = str(tmp_path / "secret")
    assert load_model("hf://org/model", token_env=reference).name == "org/model"
    assert set(hub.tokens) == {"Bearer hf_secret"}
    assert "hf_secret" not in "".join(capfd.readouterr())


def test_a_wrong_token_is_never_printed(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "hf_right"
    monkeypatch.setenv("MY_TOKEN", "hf_wrong")
    with pytest.raises(CommandError) as refused:
        fetch_facts("hf://org/model", token_env="MY_TOKEN")
    assert "hf_wrong" not in str(refused.value)
    assert "HTTP 401 with the token of MY_TOKEN" in str(refused.value)


def test_a_token_that_is_not_there_is_named() -> None:
    with pytest.raises(CommandError, match="environment variable PLIMSOLL_NO_TOKEN is not set"):
        fetch_facts("hf://org/model", token_env="PLIMSOLL_NO_TOKEN")


@pytest.mark.parametrize(
    ("status", "code", "says", "exit_code"),
    [
        (401, "RepoNotFound", "does not exist or is private", 2),
        (404, "RepoNotFound", "does not exist or is private", 2),
        (403, "GatedRepo", "is gated", 2),
        (403, "", "is gated", 2),
        (500, "", "answered HTTP 500", 3),
        (429, "", "answered HTTP 429", 3),
    ],
)
def test_refusals_say_what_to_do_in_one_line(hub: Hub, status: int, code: str, says: str, exit_code: int) -> None:
    hub.status, hub.code = status, code
    with pytest.raises(CommandError, match=says) as refused:
        load_model("hf://org/model")
    assert refused.value.exit_code == exit_code
    assert "\n" not in str(refused.value)


def test_an_unknown_revision_is_named(hub: Hub) -> None:
    with pytest.raises(CommandError, match="has no revision v9"):
        load_model("hf://org/model@v9")


def test_gguf_is_refused_with_the_way_out(hub: Hub) -> None:
    hub.files = {"model-q4.gguf": b"GGUF"}
    with pytest.raises(RecommenderError, match="holds GGUF files"):
        load_model("hf://org/model")


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"hidden_size": NaN}', b"\xff\xfe"])
def test_a_broken_config_is_one_line(hub: Hub, content: bytes) -> None:
    hub.files["config.json"] = content
    with pytest.raises((CommandError, RecommenderError)) as refused:
        load_model("hf://org/model")
    assert "\n" not in str(refused.value)


def test_a_broken_shard_is_one_line(hub: Hub) -> None:
    hub.files["model.safetensors"] = struct.pack("<Q", 9) + b"not json!"
    with pytest.raises(CommandError, match="not a safetensors file"):
        load_model("hf://org/model")


def test_a_hub_out_of_reach_is_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CommandError, match="is out of reach") as refused:
        load_model("hf://org/model")
    assert refused.value.exit_code == 3


def test_offline_uses_what_was_downloaded_before(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CommandError, match="HF_HUB_OFFLINE is set"):
        load_model("hf://org/model")
    assert not hub.asked
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    online = fetch_facts("hf://org/model@v1")
    count = len(hub.asked)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    offline = fetch_facts(f"hf://org/model@{COMMIT}")
    assert len(hub.asked) == count
    assert offline.layers == online.layers


@pytest.mark.parametrize("name", ["hf://", "hf://model", "hf://a/b/c", "hf:///model"])
def test_what_is_no_hub_id_is_said(name: str) -> None:
    with pytest.raises(CommandError, match=r"is not a hub id|model is empty|not in the catalogue"):
        load_model(name)


def test_names_that_could_be_on_the_hub_say_how_to_ask_it(hub: Hub) -> None:
    with pytest.raises(CommandError, match="or write hf://org/model to ask the hub"):
        load_model("org/model")
    assert not hub.asked


def test_the_catalogue_is_not_asked_of_the_hub(hub: Hub) -> None:
    assert load_model("hf://Qwen/Qwen3-8B").source == "catalogue"
    assert load_model("Qwen/Qwen3-8B").source == "catalogue"
    assert not hub.asked

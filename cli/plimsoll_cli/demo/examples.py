"""The services that the demo applies: the simulated engine's and the real engine's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from plimsoll_cli.demo.scenario import PHASES, REAL_ENGINE_PHASES, Phase
from plimsoll_cli.errors import CommandError

CHAT_EXAMPLE: Final = Path("examples/chat.yaml")
TINY_CONTEXT: Final = 1000
TINY_SEQUENCES: Final = 2


@dataclass(frozen=True)
class Example:
    """A service and how to load it.

    Args:
        source: where its text is from, as a person would name it.
        text: YAML of the LLMService.
        name: its name.
        ready_within: seconds until its first replica must serve.
        context: most tokens a request may have.
        length_factor: multiplies the published request lengths.
        highest_load_line: requests/s of one replica that this machine can keep up with.
        measured_with: requests in flight with which one replica's rate is measured; None trusts the recommendation.
        phases: of the traffic.
        scale_in_within: seconds after the traffic until it must have scaled in.
    """

    source: str
    text: str
    name: str
    ready_within: float
    context: int
    length_factor: float
    highest_load_line: float
    measured_with: int | None
    phases: tuple[Phase, ...]
    scale_in_within: float = 60.0

    @staticmethod
    def gpus(service: Mapping[str, Any]) -> int:
        """GPUs of one replica, as recommended."""
        config = ((service.get("status") or {}).get("recommendation") or {}).get("config") or {}
        return int(config.get("tensorParallelSize", 1)) * int(config.get("pipelineParallelSize", 1))


def chosen(engine: str) -> Example:
    """The example for an engine.

    Raises:
        CommandError: the example's file, or what the real engine needs, is missing.
    """
    return _tiny_chat() if engine == "vllm" else _chat()


def _chat() -> Example:
    if not CHAT_EXAMPLE.is_file():
        raise CommandError(f"{CHAT_EXAMPLE} is not here: run the demo from the root of a checkout", 3)
    text = CHAT_EXAMPLE.read_text(encoding="utf-8")
    name = yaml.safe_load(text)["metadata"]["name"]
    return Example(str(CHAT_EXAMPLE), text, name, 60.0, 4096, 1.0, 12.0, None, PHASES)


def _tiny_chat() -> Example:
    """The same service with a tiny model made on the spot, and objectives that two CPU cores can meet.

    Two sequences a batch make requests in flight the limit: the tiny model's own load line on a GPU is far beyond what
    this machine can send, so what a replica carries here is measured first.
    """
    from plimsoll_runtime import tiny_model, vllm_environment

    try:
        model = tiny_model.ensure(vllm_environment.ensure())
    except vllm_environment.VllmUnavailableError as error:
        raise CommandError(f"the real engine cannot be had: {error}", 3) from error
    service = yaml.safe_load(_chat().text)
    spec = service["spec"]
    spec["model"] = {"uri": f"file://{model}", "servedName": "chat"}
    # What a replica compiles is kept beside the model, where the next one looks for it.
    kept = {"name": "VLLM_CACHE_ROOT", "value": str(model.parent / "compiled")}
    spec["podTemplate"] = {"spec": {"containers": [{"name": "engine", "env": [kept]}]}}
    spec["engine"] = {"maxModelLen": TINY_CONTEXT, "maxNumSeqs": TINY_SEQUENCES}
    spec["workload"] = {"inputTokens": {"mean": 500}, "outputTokens": {"mean": 200}, "requestsPerSecond": "1"}
    spec["objectives"] = {"ttft": "20s", "tpot": "500ms"}
    spec["scaling"]["maxReplicas"] = 2
    text = yaml.safe_dump(service)
    return Example(
        source="examples/chat.yaml (tiny model)",
        text=text,
        name="chat",
        ready_within=400.0,
        context=TINY_CONTEXT,
        length_factor=1.0,
        highest_load_line=12.0,
        measured_with=TINY_SEQUENCES,
        phases=REAL_ENGINE_PHASES,
        # Two cores work off what queued up while the second replica started, and only then is there a surplus.
        scale_in_within=150.0,
    )

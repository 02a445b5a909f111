"""A reconciler on a cluster in memory, with a recommender that answers at once and always the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from plimsoll_api import names
from plimsoll_api.v1alpha1 import (
    EngineConfigStatus,
    LedgerStatus,
    LLMServiceSpec,
    PredictedStatus,
    Reason,
    RecommendationStatus,
)
from plimsoll_kube.events import EventRecorder
from plimsoll_kube.resources import DEPLOYMENT, LLM_SERVICE, NODE, POD, Manifest
from plimsoll_operator.manifests import ServiceInputs
from plimsoll_operator.reconciler import Outcome, Reconciler
from plimsoll_operator.settings import Settings
from plimsoll_operator.sizer import Sizer
from plimsoll_operator.sizing import SizingInputs

H100 = "NVIDIA-H100-80GB-HBM3"
MODEL = "hf://meta-llama/Llama-3.1-8B-Instruct"


def recommendation(**config: Any) -> RecommendationStatus:
    """A recommendation as the recommender would give it."""
    return RecommendationStatus(
        config=EngineConfigStatus(
            **{
                "accelerator": H100,
                "tensor_parallel_size": 1,
                "pipeline_parallel_size": 1,
                "max_num_seqs": 256,
                "max_num_batched_tokens": 8192,
                "gpu_memory_utilization": "0.92",
                "max_model_len": 16384,
                "kv_cache_dtype": "auto",
                "replicas": 2,
                **config,
            }
        ),
        ledger=LedgerStatus(
            total_gib="79.2",
            weights_gib="15",
            activation_peak_gib="1",
            non_torch_gib="0.3",
            cuda_graphs_gib="1",
            kv_cache_gib="55",
            kv_cache_tokens=450_000,
        ),
        predicted=PredictedStatus(
            ttft="200ms",
            tpot="20ms",
            e2e="6s",
            load_line_requests_per_second="8",
            load_line_concurrency="64",
            output_tokens_per_second="2000",
        ),
        reasons=[Reason(field="gpuMemoryUtilization", value="0.92", because="leaves a reserve")],
        confidence="High",
        input_hash="",
        applied_generation=0,
    )


def within_limits(inputs: SizingInputs) -> RecommendationStatus:
    """The recommendation, with memory settings as low as its limits ask for."""
    limits = inputs.limits
    fraction = limits.gpu_memory_utilization or limits.utilization_ceiling.get(H100, 0.92)
    sequences = limits.max_num_seqs or limits.sequences_ceiling.get(H100, 256)
    return recommendation(gpu_memory_utilization=f"{fraction:g}", max_num_seqs=sequences)


@pytest.fixture
def recommended() -> Callable[..., RecommendationStatus]:
    """`recommended(tensor_parallel_size=2)` is a recommendation with some settings replaced."""
    return recommendation


@pytest.fixture(scope="session")
def inputs() -> Callable[..., ServiceInputs]:
    """`inputs({"paused": True}, tensor_parallel_size=2)`: what children are made from."""

    def make(spec: dict[str, Any] | None = None, **config: Any) -> ServiceInputs:
        return ServiceInputs(
            namespace="ml",
            name="chat",
            uid="uid-1",
            spec=LLMServiceSpec.model_validate({"model": {"uri": MODEL}, **(spec or {})}),
            config=recommendation(**config).config,
            default_image="vllm/vllm-openai:v0.32.0",
        )

    return make


@pytest.fixture
def service() -> Callable[..., Manifest]:
    """`service(scaling={...})` is an LLMService named chat."""

    def make(name: str = "chat", **spec: Any) -> Manifest:
        return LLM_SERVICE.manifest("ml", name, spec={"model": {"uri": MODEL}, **spec})

    return make


@pytest.fixture
def pod() -> Callable[..., Manifest]:
    """`pod("a", ready=True)` is a pod of the service chat."""

    def make(name: str, *, ready: bool = False, status: dict[str, Any] | None = None, **metadata: Any) -> Manifest:
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        return POD.manifest(
            "ml",
            name,
            metadata={"labels": {names.SERVICE_LABEL: "chat"}, **metadata},
            status={"phase": "Running", "conditions": conditions, **(status or {})},
        )

    return make


class Harness:
    """A reconciler with a cluster, a clock that ticks once a reconcile, and counts of what was asked."""

    def __init__(self, kube: Any) -> None:
        self.kube = kube
        self.asked: list[SizingInputs] = []
        self.answer: Callable[[SizingInputs], RecommendationStatus] = within_limits
        self.ticks = 0
        self.reconciler = self.restarted()

    def restarted(self) -> Reconciler:
        """A new process: nothing of the old one's memory is left."""

        def compute(inputs: SizingInputs) -> RecommendationStatus:
            self.asked.append(inputs)
            return self.answer(inputs).model_copy(update={"input_hash": inputs.digest})

        self.reconciler = Reconciler(
            self.kube, Settings(), Sizer(compute), EventRecorder(self.kube, "plimsoll-operator"), self._now
        )
        return self.reconciler

    def _now(self) -> datetime:
        self.ticks += 1
        return datetime(2026, 1, 1, 0, self.ticks % 60, 0, tzinfo=UTC)

    async def settle(self, name: str = "chat", limit: int = 6) -> Outcome:
        """Reconcile until nothing changes any more, as events would have it."""
        for _ in range(limit):
            before = self.kube.snapshot()
            outcome: Outcome = await self.reconciler.reconcile(("ml", name))
            if self.kube.snapshot() == before and outcome.result != "created":
                return outcome
        raise AssertionError(f"still changing after {limit} reconciles: {self.kube.writes[-5:]}")

    def condition(self, kind: str, name: str = "chat") -> tuple[str, str, str]:
        """Status, reason and message of a condition."""
        conditions = self.kube.see(LLM_SERVICE, "ml", name)["status"]["conditions"]
        found = next(entry for entry in conditions if entry["type"] == kind)
        return found["status"], found["reason"], found["message"]


@pytest.fixture
def harness(fake_kube: Any) -> Harness:
    """A cluster with one node of eight H100, and a reconciler."""
    node = NODE.manifest(None, "gpu-1", metadata={"labels": {names.GPU_PRODUCT_LABEL: H100}})
    fake_kube.put(node)
    fake_kube.put_status(NODE.manifest(None, "gpu-1", status={"capacity": {names.GPU_RESOURCE: "8"}}))
    return Harness(fake_kube)


@pytest.fixture
def die(harness: Harness, pod: Callable[..., Manifest]) -> Callable[..., None]:
    """`die("a")`: a pod of the newest revision of the service chat, whose engine asked for too much memory at start."""
    not_free = "ValueError: Free memory on device cuda:0 (68/79 GiB) is less than desired GPU memory utilization (0.92)"

    def ends(name: str, said: str = not_free) -> None:
        template = harness.kube.see(DEPLOYMENT, "ml", "chat-engine")["spec"]["template"]
        ended = {
            "name": names.ENGINE_CONTAINER,
            "restartCount": 2,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 1, "message": said}},
        }
        revision = {names.REVISION_ANNOTATION: template["metadata"]["annotations"][names.REVISION_ANNOTATION]}
        found = pod(name, annotations=revision, status={"containerStatuses": [ended]})
        harness.kube.put(found)
        harness.kube.put_status(found)

    return ends

"""What the recommender is asked, and when it is asked again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from plimsoll_api.v1alpha1 import LLMServiceSpec, Model
from plimsoll_operator.errors import BlockedError, InvalidSpecError
from plimsoll_operator.fleet import Fleet, fleet_of
from plimsoll_operator.model_facts import KnownModel, known_model
from plimsoll_operator.sizer import Sizer
from plimsoll_operator.sizing import compute, hourly_price, input_digest, sizing_inputs, still_in_force
from plimsoll_recommender.facts.model import ModelFacts

H100 = "NVIDIA-H100-80GB-HBM3"
FLEET = Fleet({H100: 8}, {H100: 8})


@pytest.fixture(scope="module")
def llama() -> KnownModel:
    return KnownModel("catalogue:llama", ModelFacts.load("hf://meta-llama/Llama-3.1-8B-Instruct"))


def spec(**fields: Any) -> LLMServiceSpec:
    return LLMServiceSpec.model_validate({"model": {"uri": "hf://meta-llama/Llama-3.1-8B-Instruct"}, **fields})


def test_everything_a_person_says_is_asked(llama: KnownModel) -> None:
    asked = sizing_inputs(
        spec(
            workload={"inputTokens": {"mean": 500}, "requestsPerSecond": "4.5", "burstiness": 2},
            objectives={"ttft": "800ms", "tpot": "60ms", "e2e": "20s", "percentile": 90},
            accelerators=[{"product": H100, "hourlyCost": "3.20", "maxCount": 16}],
            engine={"tensorParallelSize": 2, "gpuMemoryUtilization": "0.8", "kvCacheDtype": "fp8", "maxNumSeqs": 64},
            scaling={"minReplicas": 2, "maxReplicas": 4, "budgetPerHour": 40},
        ),
        llama,
        FLEET,
    )
    assert (asked.workload.input_tokens, asked.workload.requests_per_second, asked.workload.burstiness) == (500, 4.5, 2)
    assert (asked.objectives.ttft, asked.objectives.tpot, asked.objectives.e2e) == (0.8, 0.06, 20.0)
    limits = asked.limits
    assert limits.pinned() == {
        "tensor_parallel_size": 2,
        "max_num_seqs": 64,
        "gpu_memory_utilization": 0.8,
        "kv_cache_dtype": "fp8",
    }
    assert (limits.min_replicas, limits.max_replicas, limits.budget_per_hour) == (2, 4, 40.0)
    assert (limits.hourly_cost, limits.max_gpus, limits.gpus_per_node) == ({H100: 3.2}, {H100: 16}, {H100: 8})


def test_the_image_says_the_engines_version(llama: KnownModel) -> None:
    asked = sizing_inputs(spec(engine={"image": "vllm/vllm-openai:v0.19.1"}), llama, FLEET)
    assert asked.limits.engine_version == "0.19.1"
    assert sizing_inputs(spec(engine={"image": "mine/vllm:latest"}), llama, FLEET).limits.engine_version is None


def test_a_recommendation_comes_back_as_a_status(llama: KnownModel) -> None:
    status = compute(sizing_inputs(spec(), llama, FLEET))
    assert status.config.accelerator == H100
    assert status.config.replicas >= 1
    assert float(status.predicted.load_line_requests_per_second) > 0
    assert status.reasons
    assert status.input_hash == input_digest(spec(), llama)


def test_a_model_that_does_not_fit_is_refused_with_numbers(llama: KnownModel) -> None:
    large = KnownModel("catalogue:70b", ModelFacts.load("hf://meta-llama/Llama-3.1-70B-Instruct"))
    asked = sizing_inputs(spec(engine={"tensorParallelSize": 1, "pipelineParallelSize": 1}), large, FLEET)
    with pytest.raises(InvalidSpecError, match=r"\d") as refused:
        compute(asked)
    assert refused.value.reason == "Infeasible"


def test_nodes_are_no_ground_to_size_again(llama: KnownModel, recommended: Any) -> None:
    in_force = recommended().model_copy(update={"input_hash": input_digest(spec(), llama)})
    assert still_in_force(in_force, spec(), llama, FLEET)
    assert still_in_force(in_force, spec(), llama, Fleet())
    assert still_in_force(in_force, spec(), llama, Fleet({H100: 4, "NVIDIA-L4": 8}))
    assert not still_in_force(in_force, spec(), llama, Fleet({"NVIDIA-L4": 8}))
    assert not still_in_force(None, spec(), llama, FLEET)


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"workload": {"requestsPerSecond": 9}}, True),
        ({"objectives": {"ttft": "1s"}}, True),
        ({"engine": {"maxModelLen": 4096}}, True),
        ({"scaling": {"maxReplicas": 3}}, True),
        ({"engine": {"extraArgs": ["--seed=1"]}}, False),
        ({"replicas": 3}, False),
        ({"paused": True}, False),
        ({"rollout": {"drainTimeout": "5s"}}, False),
        ({"podTemplate": {"spec": {"priorityClassName": "x"}}}, False),
    ],
)
def test_what_is_a_ground_to_size_again(llama: KnownModel, change: dict[str, Any], again: bool) -> None:
    assert (input_digest(spec(**change), llama) != input_digest(spec(), llama)) is again


def test_unknown_accelerators(llama: KnownModel) -> None:
    with pytest.raises(InvalidSpecError) as refused:
        sizing_inputs(spec(accelerators=[{"product": "NVIDIA-X9000"}]), llama, FLEET)
    assert refused.value.reason == "UnknownAccelerator"
    with pytest.raises(BlockedError) as waiting:
        sizing_inputs(spec(), llama, Fleet({"NVIDIA-X9000": 8}))
    assert waiting.value.reason == "NoAccelerator"
    mixed = sizing_inputs(spec(), llama, Fleet({"NVIDIA-X9000": 8, H100: 8}))
    assert [item.product for item in mixed.accelerators] == [H100]


def test_prices(llama: KnownModel) -> None:
    assert hourly_price(spec(accelerators=[{"product": H100, "hourlyCost": 2}]), H100) == 2.0
    assert (hourly_price(spec(), H100) or 0) > 0
    assert hourly_price(spec(), "NVIDIA-X9000") is None


def test_the_fleet_is_read_from_labels_and_capacity() -> None:
    def node(product: str | None, gpus: str) -> dict[str, Any]:
        labels = {"nvidia.com/gpu.product": product} if product else {}
        return {"metadata": {"labels": labels}, "status": {"capacity": {"nvidia.com/gpu": gpus}}}

    fleet = fleet_of([node(H100, "8"), node(H100, "4"), node("NVIDIA-L4", "1"), node(None, "8"), node("X", "0")])
    assert fleet == Fleet({H100: 8, "NVIDIA-L4": 1}, {H100: 12, "NVIDIA-L4": 1})


async def test_a_refusal_is_remembered_and_a_failure_is_not(llama: KnownModel) -> None:
    asked = sizing_inputs(spec(), llama, FLEET)
    errors: list[Exception] = [RuntimeError("passing"), InvalidSpecError("Infeasible", "no")]

    def fail(_: Any) -> Any:
        raise errors.pop(0)

    sizer = Sizer(fail)
    with pytest.raises(RuntimeError):
        await sizer.size(asked)
    for _ in range(2):
        with pytest.raises(InvalidSpecError):
            await sizer.size(asked)
    sizer.close()


async def test_equal_questions_at_once_are_one(llama: KnownModel, recommended: Any) -> None:
    calls = []
    sizer = Sizer(lambda inputs: calls.append(inputs) or recommended())  # type: ignore[func-returns-value]
    await asyncio.gather(*(sizer.size(sizing_inputs(spec(), llama, FLEET)) for _ in range(5)))
    assert len(calls) == 1
    sizer.close()


@pytest.mark.parametrize(
    ("model", "identity"),
    [
        ({"uri": "hf://Qwen/Qwen3-8B"}, "catalogue:Qwen/Qwen3-8B"),
        ({"uri": "pvc://c/p", "baseModel": "Qwen/Qwen3-8B"}, "catalogue:Qwen/Qwen3-8B"),
    ],
)
async def test_catalogue_models(fake_kube: Any, model: dict[str, Any], identity: str) -> None:
    assert (await known_model(fake_kube, "ml", Model(**model))).identity == identity


async def test_a_folder_of_this_machine(fake_kube: Any, tmp_path: Any) -> None:
    config = (
        '{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":128,"intermediate_size":256,'
        '"num_hidden_layers":4,"num_attention_heads":4,"num_key_value_heads":2,"vocab_size":512,'
        '"max_position_embeddings":1024,"torch_dtype":"bfloat16","tie_word_embeddings":false}'
    )
    (tmp_path / "config.json").write_text(config)
    found = await known_model(fake_kube, "ml", Model(uri=f"file://{tmp_path}"))
    assert found.identity.startswith("folder:")
    with pytest.raises(InvalidSpecError, match=r"model\.baseModel"):
        await known_model(fake_kube, "ml", Model(uri=f"file://{tmp_path}/none"))
    with pytest.raises(InvalidSpecError, match="not in the catalogue"):
        await known_model(fake_kube, "ml", Model(uri="hf://nobody/nothing"))

"""Memory settings step down once for each configuration whose start ran out of GPU memory, and within bounds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_api import names
from plimsoll_api.v1alpha1 import MEMORY_STEPS_KEPT, Engine, EngineConfigStatus, MemoryStep
from plimsoll_kube.resources import DEPLOYMENT, LLM_SERVICE, POD
from plimsoll_operator.errors import InvalidSpecError
from plimsoll_operator.gpu_memory import Shortage, excerpt, shortage
from plimsoll_operator.memory_ceilings import Subject, ceilings, remembered, step_for, with_step
from plimsoll_operator.memory_steps import (
    LEAST_FRACTION,
    LEAST_SEQUENCES,
    MOST_STEPS,
    Case,
    Finding,
    has_served,
    outlook,
)
from plimsoll_operator.pods import Failure, PodView, pod_view

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
OUT_OF_MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
NOT_FREE = (
    "ValueError: Free memory on device cuda:0 (68.10/79.18 GiB) on startup is less than desired GPU memory "
    "utilization (0.95, 75.22 GiB)."
)
TOO_LITTLE = "ValueError: No available memory for the cache blocks."
H100 = Subject("catalogue:llama", "H100", "vllm:1")
CONFIG = EngineConfigStatus(
    accelerator="H100",
    tensor_parallel_size=1,
    pipeline_parallel_size=1,
    max_num_seqs=256,
    max_num_batched_tokens=8192,
    gpu_memory_utilization="0.95",
    max_model_len=16384,
    kv_cache_dtype="auto",
    replicas=1,
)


def dead(revision: str = "r1", said: str = OUT_OF_MEMORY, **traits: Any) -> PodView:
    """A pod whose engine ended."""
    failure = Failure("CrashLoopBackOff", said, 1, 1)
    return PodView("a", ready=False, terminating=False, revision=revision, failure=failure, **traits)


def case(*pods: PodView, engine: dict[str, Any] | None = None, **changes: Any) -> Case:
    """One replica of revision r1 died at start."""
    plain = Case(H100, Engine.model_validate(engine or {}), CONFIG, "r1", False, pods or (dead(),))
    return replace(plain, **changes)


def step(subject: Subject = H100, revision: str = "r0", **fields: Any) -> MemoryStep:
    return MemoryStep(
        model=subject.model,
        accelerator=subject.accelerator,
        image=subject.image,
        revision=revision,
        **{"steps": 1, "at": "2026-01-01T00:00:00Z", **fields},
    )


@pytest.mark.parametrize(
    ("said", "asks"),
    [
        (OUT_OF_MEMORY, Shortage.LOWER),
        (NOT_FREE, Shortage.LOWER),
        ("RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests.", Shortage.LOWER),
        ("RuntimeError: CUDA error: out of memory", Shortage.LOWER),
        (TOO_LITTLE, Shortage.RAISE),
        ("To serve at least one request with the model's max seq len (32768), 4 GiB are needed", Shortage.RAISE),
        ("unrecognized arguments: --foo", None),
        ("", None),
    ],
)
def test_what_the_last_words_ask_for(said: str, asks: Shortage | None) -> None:
    assert shortage(f"INFO loading\n{said}\nmore") is asks


def test_the_words_that_say_so_are_quoted() -> None:
    noise = "frame\n" * 100
    assert excerpt(f"{noise}{NOT_FREE}\n{noise}", 60).startswith("Free memory on device cuda:0 (68.10/79.18 GiB)")
    assert excerpt("x" * 100 + "end", 3) == "end"


def test_the_fraction_steps_down_first() -> None:
    found = outlook(case(), NOW)
    assert (found.finding, found.pod) == (Finding.DUE, "a")
    first = found.proposals[0]
    assert (first.step.gpu_memory_utilization, first.step.max_num_seqs) == ("0.91", None)
    assert (first.step.steps, first.step.revision, first.step.at) == (1, "r1", "2026-01-01T12:00:00Z")
    assert first.change == "gpuMemoryUtilization from 0.95 to 0.91, step 1 of 8"


@pytest.mark.parametrize(
    ("engine", "fraction", "sequences"),
    [
        ({"gpuMemoryUtilization": "0.95"}, "0.95", 128),
        ({"extraArgs": ["--kv_cache_memory_bytes=1000"]}, "0.95", 128),
        ({}, "0.75", 128),
    ],
    ids=["pinned", "ignored", "at its bound"],
)
def test_the_sequences_step_down_where_the_fraction_may_not(
    engine: dict[str, Any], fraction: str, sequences: int
) -> None:
    config = CONFIG.model_copy(update={"gpu_memory_utilization": fraction})
    [only] = outlook(case(engine=engine, config=config), NOW).proposals
    assert (only.step.gpu_memory_utilization, only.step.max_num_seqs) == (None, sequences)


def test_nothing_is_left_to_lower() -> None:
    pinned = outlook(case(engine={"gpuMemoryUtilization": "0.95", "maxNumSeqs": 64}), NOW)
    assert (pinned.finding, pinned.proposals) == (Finding.EXHAUSTED, ())
    assert pinned.limits == ("engine.gpuMemoryUtilization is pinned to 0.95", "engine.maxNumSeqs is pinned to 64")
    least = CONFIG.model_copy(update={"gpu_memory_utilization": "0.75", "max_num_seqs": 8})
    assert outlook(case(config=least), NOW).limits == (
        "gpuMemoryUtilization 0.75 is at its bound of 0.75",
        "maxNumSeqs 8 is at its bound of 8",
    )
    often = outlook(case(remembered=(step(steps=MOST_STEPS),)), NOW)
    assert (often.finding, often.limits) == (Finding.EXHAUSTED, ("all 8 steps were taken",))


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"pods": (dead(said=TOO_LITTLE),)}, Finding.NOTHING),
        ({"pods": (dead(said="no such file"),)}, Finding.NOTHING),
        ({"pods": (dead("r0"),)}, Finding.NOTHING),
        ({"pods": (dead(""),), "revision": ""}, Finding.NOTHING),
        ({"pods": (replace(dead(), terminating=True),)}, Finding.NOTHING),
        ({"served": True}, Finding.SERVED),
        ({"remembered": (step(revision="r1"),)}, Finding.RECORDED),
    ],
    ids=["too little", "another failure", "an older revision", "no revision", "leaves", "served", "taken already"],
)
def test_no_step_is_taken(changes: dict[str, Any], finding: Finding) -> None:
    assert outlook(case(**changes), NOW).finding is finding


@pytest.mark.parametrize(
    ("served", "pods", "expected"),
    [
        ("r1", (), True),
        ("r0", (dead("r1"), dead("r0", served=True)), False),
        (None, (dead("r1"), dead("r1", served=True)), True),
        (None, (), False),
    ],
    ids=["recorded", "another one did", "a pod shows it", "never"],
)
def test_whether_a_revision_served(served: str | None, pods: tuple[PodView, ...], expected: bool) -> None:
    assert has_served("r1", served, pods) is expected


@pytest.mark.parametrize(
    ("changed", "served"),
    [("2026-01-01T00:00:05Z", False), ("2026-01-01T00:02:00Z", True), (None, False)],
    ids=["at the first look", "minutes later", "not said"],
)
def test_a_pod_shows_that_it_once_was_ready(pod: Any, changed: str | None, served: bool) -> None:
    condition = {"type": "Ready", "status": "False", **({"lastTransitionTime": changed} if changed else {})}
    view = pod_view(pod("a", status={"startTime": "2026-01-01T00:00:00Z", "conditions": [condition]}))
    assert (view.ready, view.served) == (False, served)


def test_another_model_gpu_or_image_starts_without_steps() -> None:
    steps = (step(gpu_memory_utilization="0.87"), step(replace(H100, accelerator="L4"), max_num_seqs=8))
    ours = ceilings(steps, H100.model, H100.image, Engine())
    assert (ours.gpu_memory_utilization, ours.max_num_seqs) == ({"H100": "0.87"}, {"L4": 8})
    assert not ceilings(steps, "another", H100.image, Engine())
    assert not ceilings(steps, H100.model, "vllm:2", Engine())
    assert step_for(replace(H100, accelerator="A100"), steps) is None


def test_what_a_person_pins_has_no_ceiling() -> None:
    steps = (step(gpu_memory_utilization="0.87", max_num_seqs=64),)
    pinned = Engine.model_validate({"gpuMemoryUtilization": "0.95", "maxNumSeqs": 256})
    assert not ceilings(steps, H100.model, H100.image, pinned)


def test_the_oldest_subjects_are_forgotten() -> None:
    steps: tuple[MemoryStep, ...] = ()
    for number in range(MEMORY_STEPS_KEPT + 2):
        steps = with_step(steps, step(replace(H100, image=f"vllm:{number}")))
    assert [one.image for one in steps] == [f"vllm:{number}" for number in range(MEMORY_STEPS_KEPT + 1, 1, -1)]
    again = with_step(steps, step(replace(H100, image="vllm:5"), steps=2))
    assert (again[0].image, again[0].steps, len(again)) == ("vllm:5", 2, MEMORY_STEPS_KEPT)


def test_entries_that_are_not_understood_are_left_out() -> None:
    known = step(gpu_memory_utilization="0.87")
    status = {"memorySteps": [{"model": 7}, known.model_dump(by_alias=True, exclude_none=True)]}
    assert remembered(status) == (known,)
    assert remembered({}) == ()


fractions = st.integers(1, 100).map(lambda percent: f"{Decimal(percent) / 100}")
engines = st.fixed_dictionaries({}, optional={"gpuMemoryUtilization": fractions, "maxNumSeqs": st.integers(1, 1024)})
cases = st.builds(
    lambda engine, fraction, sequences, pods, steps, served: case(
        *pods,
        engine=engine,
        config=CONFIG.model_copy(update={"gpu_memory_utilization": fraction, "max_num_seqs": sequences}),
        remembered=steps,
        served=served,
    ),
    engines,
    fractions,
    st.integers(1, 1024),
    st.lists(
        st.builds(
            dead,
            st.sampled_from(["r0", "r1", ""]),
            st.sampled_from([OUT_OF_MEMORY, NOT_FREE, TOO_LITTLE, ""]),
            served=st.booleans(),
        ),
        max_size=3,
    ),
    st.lists(
        st.builds(
            step,
            st.sampled_from([H100, replace(H100, image="vllm:2"), replace(H100, accelerator="L4")]),
            st.sampled_from(["r0", "r1"]),
            steps=st.integers(1, MOST_STEPS),
            gpu_memory_utilization=st.none() | fractions,
        ),
        max_size=3,
        unique_by=lambda one: (one.accelerator, one.image),
    ).map(tuple),
    st.booleans(),
)


@given(cases)
def test_a_step_lowers_one_free_field_within_its_bounds(given_case: Case) -> None:
    found = outlook(given_case, NOW)
    assert found == outlook(given_case, NOW)
    before = step_for(given_case.subject, given_case.remembered)
    for proposal in found.proposals:
        new, engine, config = proposal.step, given_case.engine, given_case.config
        assert Subject(new.model, new.accelerator, new.image) == given_case.subject
        assert new.steps == (before.steps if before else 0) + 1 <= MOST_STEPS
        was = (before.gpu_memory_utilization, before.max_num_seqs) if before else (None, None)
        if new.max_num_seqs == was[1]:
            assert new.gpu_memory_utilization is not None
            assert engine.gpu_memory_utilization is None
            assert LEAST_FRACTION <= Decimal(new.gpu_memory_utilization) < Decimal(config.gpu_memory_utilization)
        else:
            assert new.gpu_memory_utilization == was[0]
            assert new.max_num_seqs is not None
            assert engine.max_num_seqs is None
            assert LEAST_SEQUENCES <= new.max_num_seqs < config.max_num_seqs


@given(cases)
def test_never_twice_for_one_revision_and_never_for_one_that_served(given_case: Case) -> None:
    found = outlook(given_case, NOW)
    if given_case.served or found.finding is not Finding.DUE:
        assert found.proposals == ()
        return
    taken = with_step(given_case.remembered, found.proposals[0].step)
    assert outlook(replace(given_case, remembered=taken), NOW).finding is Finding.RECORDED


@given(engines, fractions, st.integers(1, 1024))
def test_every_start_that_fails_ends_after_so_many_steps(engine: dict[str, Any], fraction: str, sequences: int) -> None:
    """As sizing follows the ceilings and each try is a revision of its own."""
    pinned, tries = Engine.model_validate(engine), 0
    steps: tuple[MemoryStep, ...] = ()
    while True:
        limits = ceilings(steps, H100.model, H100.image, pinned)
        settings = {
            "gpu_memory_utilization": limits.gpu_memory_utilization.get("H100", fraction),
            "max_num_seqs": limits.max_num_seqs.get("H100", sequences),
        }
        revision, config = f"try-{tries}", CONFIG.model_copy(update=settings)
        failing = case(dead(revision), engine=engine, revision=revision, config=config, remembered=steps)
        found = outlook(failing, NOW)
        if found.finding is not Finding.DUE:
            break
        steps, tries = with_step(steps, found.proposals[0].step), tries + 1
    assert found.finding is Finding.EXHAUSTED
    assert tries <= MOST_STEPS


def arguments(harness: Any) -> set[str]:
    template = harness.kube.see(DEPLOYMENT, "ml", "chat-engine")["spec"]["template"]
    return set(template["spec"]["containers"][0]["args"])


def status(harness: Any) -> dict[str, Any]:
    found: dict[str, Any] = harness.kube.see(LLM_SERVICE, "ml", "chat")["status"]
    return found


async def test_the_operator_steps_down_once_and_says_so(harness: Any, service: Any, die: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    assert "memorySteps" not in status(harness)
    die("a")
    outcome = await harness.reconciler.reconcile(("ml", "chat"))
    assert outcome.requeue_after == 0.0
    assert harness.condition("Progressing")[1] == "OutOfGpuMemory"
    assert "stepping down gpuMemoryUtilization from 0.92 to 0.88, step 1 of 8" in harness.condition("Progressing")[2]
    assert "--gpu-memory-utilization=0.92" in arguments(harness)  # nothing moves before the step is remembered
    harness.restarted()
    await harness.settle()
    assert "--gpu-memory-utilization=0.88" in arguments(harness)
    [remembered_step] = status(harness)["memorySteps"]
    assert (remembered_step["steps"], remembered_step["gpuMemoryUtilization"]) == (1, "0.88")
    [reason] = status(harness)["recommendation"]["reasons"]
    assert reason["because"].startswith("stepped down once after CUDA out of memory on NVIDIA-H100-80GB-HBM3 with")
    assert harness.condition("Progressing")[1] != "OutOfGpuMemory"  # what still fails is of the older revision
    told = [flat for key, flat in harness.kube.objects.items() if key[0] == "Event"]
    assert sum("MemorySteppedDown" in flat.values() for flat in told) == 1
    written = len(harness.kube.writes)
    for _ in range(3):
        await harness.restarted().reconcile(("ml", "chat"))
    assert len(harness.kube.writes) == written


async def test_a_next_failure_takes_a_next_step(harness: Any, service: Any, die: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    for name in "ab":
        die(name)
        await harness.settle()
    assert "--gpu-memory-utilization=0.84" in arguments(harness)
    assert [entry["steps"] for entry in status(harness)["memorySteps"]] == [2]


async def test_a_change_there_and_back_finds_the_steps(harness: Any, service: Any, die: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    die("a")
    await harness.settle()
    harness.kube.put(service(engine={"image": "vllm/vllm-openai:v0.33.0"}))
    await harness.settle()
    assert "--gpu-memory-utilization=0.92" in arguments(harness)
    harness.kube.put(service(engine={"image": None}))
    await harness.settle()
    assert "--gpu-memory-utilization=0.88" in arguments(harness)


async def test_a_configuration_that_served_is_not_stepped_down(harness: Any, service: Any, pod: Any, die: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    template = harness.kube.see(DEPLOYMENT, "ml", "chat-engine")["spec"]["template"]["metadata"]
    well = pod("a", ready=True, annotations=template["annotations"])
    harness.kube.put(well)
    harness.kube.put_status(well)
    await harness.settle()
    assert status(harness)["servedRevision"] == template["annotations"][names.REVISION_ANNOTATION]
    harness.kube.remove(POD, "ml", "a")
    die("b")
    harness.restarted()
    await harness.settle()
    assert "--gpu-memory-utilization=0.92" in arguments(harness)
    assert "memorySteps" not in status(harness)
    assert "it has served with these settings" in harness.condition("Progressing")[2]


async def test_a_step_that_the_spec_undoes_is_not_taken_again(harness: Any, service: Any, die: Any) -> None:
    fixed = [{"name": "engine", "args": ["model", "--gpu-memory-utilization=0.99"]}]
    harness.kube.put(service(podTemplate={"spec": {"containers": fixed}}))
    await harness.settle()
    die("a")
    await harness.settle()
    assert [entry["steps"] for entry in status(harness)["memorySteps"]] == [1]
    assert "step 1 of 8 was taken for it and the spec keeps its settings" in harness.condition("Progressing")[2]


async def test_what_is_pinned_later_is_not_said_to_be_stepped_down(harness: Any, service: Any, die: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    die("a")
    await harness.settle()
    harness.kube.put(service(engine={"gpuMemoryUtilization": "0.88"}))
    await harness.settle()
    assert [reason["because"] for reason in status(harness)["recommendation"]["reasons"]] == ["leaves a reserve"]


async def test_what_cannot_be_sized_is_not_stepped_down_to(harness: Any, service: Any, die: Any) -> None:
    harness.kube.put(service(engine={"maxNumSeqs": 64}))
    await harness.settle()
    answer = harness.answer

    def refuse(inputs: Any) -> Any:
        if inputs.limits.utilization_ceiling:
            raise InvalidSpecError("Infeasible", "15 GiB of weights do not fit")
        return answer(inputs)

    harness.answer = refuse
    die("a")
    await harness.settle()
    assert "memorySteps" not in status(harness)
    assert harness.condition("Accepted")[0] == "True"
    assert harness.condition("Progressing")[2].endswith(
        "; nothing is stepped down any more (engine.maxNumSeqs is pinned to 64; gpuMemoryUtilization from 0.92 to "
        "0.88, step 1 of 8 is refused: 15 GiB of weights do not fit): lower engine.gpuMemoryUtilization (0.92) or "
        "engine.maxNumSeqs (64), or raise engine.tensorParallelSize (1)"
    )


@pytest.mark.parametrize(
    ("engine", "said", "words"),
    [
        (
            {"gpuMemoryUtilization": "0.92", "maxNumSeqs": 64},
            NOT_FREE,
            "nothing is stepped down any more (engine.gpuMemoryUtilization is pinned to 0.92; "
            "engine.maxNumSeqs is pinned to 64)",
        ),
        ({}, TOO_LITTLE, "less memory would not mend it: raise engine.gpuMemoryUtilization (0.92)"),
    ],
    ids=["pinned", "too little"],
)
async def test_the_condition_says_what_to_change(
    harness: Any, service: Any, die: Any, engine: dict[str, Any], said: str, words: str
) -> None:
    harness.kube.put(service(engine=engine))
    await harness.settle()
    before = arguments(harness)
    die("a", said)
    await harness.settle()
    reason, message = harness.condition("Progressing")[1:]
    assert reason == "OutOfGpuMemory"
    assert words in message
    assert "\n" not in message
    assert arguments(harness) == before


async def test_a_paused_service_is_not_stepped_down(harness: Any, service: Any, die: Any) -> None:
    harness.kube.put(service())
    await harness.settle()
    harness.kube.put(service(paused=True))
    die("a")
    await harness.settle()
    assert "memorySteps" not in status(harness)

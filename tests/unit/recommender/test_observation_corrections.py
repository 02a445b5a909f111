"""The store of corrections: shrinkage, its invariants, and its JSON form."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll_recommender import Corrections, EngineConfig, ModelFacts, RecommenderError, accelerator, observe
from plimsoll_recommender.observation.corrections import IDENTITY, KEPT_PER_KEY, Comparison, Record
from plimsoll_recommender.observation.quantities import Key, Load, Quantity

H100 = "NVIDIA-H100-80GB-HBM3"
KEY = Key("m", H100, "0.19.0")
CONFIG = EngineConfig(engine_version="0.19.0")
LOAD = Load.of(16, 1000)

quantities = st.sampled_from(list(Quantity))
logs = st.floats(-1.0, 1.0)
noises = st.floats(0.005, 0.5)


def records(quantity: Quantity = Quantity.DECODE) -> st.SearchStrategy[Record]:
    return st.builds(Record, st.just(KEY), st.just(quantity), logs, noises, st.just(LOAD))


def mean_of(found: list[Record], quantity: Quantity = Quantity.DECODE) -> float:
    """The correction's logarithm at the load that everything is observed at."""
    known = Corrections(tuple(found)).correction("m", H100, CONFIG, LOAD)
    return math.log(getattr(known, quantity.value).value)


def test_nothing_observed_is_the_identity() -> None:
    assert Corrections().correction("m", H100, CONFIG) is IDENTITY


@settings(deadline=None)
@given(st.lists(records(), max_size=6), records())
def test_repeating_an_observation_moves_towards_it_and_never_past_it(before: list[Record], seen: Record) -> None:
    if seen.quantity is Quantity.DECODE:
        means = [mean_of([*before, *[seen] * times]) for times in range(5)]
        distances = [abs(seen.value - mean) for mean in means]
        assert all(later <= earlier + 1e-8 for earlier, later in itertools.pairwise(distances))
        assert all((seen.value - mean) * (seen.value - means[0]) >= -1e-8 for mean in means)


@settings(deadline=None)
@given(st.lists(records(), min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_observations_does_not_matter(found: list[Record], random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert mean_of(shuffled) == pytest.approx(mean_of(found), abs=1e-7)


@settings(deadline=None)
@given(st.lists(records(), min_size=1, max_size=8))
def test_a_correction_lies_between_none_and_the_observations(found: list[Record]) -> None:
    values = [item.value for item in found]
    assert min(0.0, *values) - 1e-8 <= mean_of(found) <= max(0.0, *values) + 1e-8


def test_one_wrong_observation_among_many_pulls_little() -> None:
    right = [Record(KEY, Quantity.DECODE, 0.10, 0.03, LOAD)] * 8
    wrong = Record(KEY, Quantity.DECODE, 1.4, 0.03, LOAD)
    assert mean_of([*right, wrong]) == pytest.approx(mean_of(right), abs=0.02)


def test_control_a_mean_would_have_been_pulled() -> None:
    values = [0.10] * 8 + [1.4]
    assert abs(sum(values) / len(values) - 0.10) > 0.1


def test_more_noise_shrinks_more() -> None:
    steps = [mean_of([Record(KEY, Quantity.DECODE, 0.2, noise, LOAD)]) for noise in (0.01, 0.1, 0.5)]
    assert 0.19 < steps[0] <= 0.2
    assert steps == sorted(steps, reverse=True)
    assert steps[-1] < 0.05


def at(config: EngineConfig = CONFIG, model: str = "m", gpu: str = H100, load: Load | None = LOAD) -> float:
    known = Corrections((Record(KEY, Quantity.DECODE, 0.2, 0.03, LOAD),))
    return math.log(known.correction(model, gpu, config, load).decode.value)


def test_evidence_is_forgotten_with_releases_and_parallelism() -> None:
    same, next_release, later = at(), at(replace(CONFIG, engine_version="0.20.0")), at(EngineConfig())
    assert same > next_release > later > 0
    assert same > at(replace(CONFIG, tensor_parallel_size=2)) > at(replace(CONFIG, tensor_parallel_size=8)) > 0
    assert same > at(replace(CONFIG, expert_parallel=True)) > 0


def test_evidence_fades_with_the_distance_of_the_load() -> None:
    assert at() > at(load=Load.of(32, 1000)) > at(load=Load.of(256, 1000)) > at(load=Load.of(256, 16_000)) > 0
    assert 0 < at(load=None) < 0.1


def test_a_start_with_a_small_batch_says_less_of_a_large_one() -> None:
    known = Corrections((Record(KEY, Quantity.OVERHEAD, 0.2, 0.02, Load.of_overhead(1.0)),))
    found = [known.correction("m", H100, CONFIG, overhead_gib=gib).overhead.value for gib in (1.0, 2.0, 4.0, 8.0)]
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(math.exp(0.2), rel=0.01)
    assert found[-1] < 1.1


def test_certainty_beyond_measure_is_not_credited() -> None:
    other = Key("n", H100, "0.19.0")
    sure = [Record(key, Quantity.GPU_TOTAL, -0.01, 1e-300) for key in (KEY, other)]
    assert mean_of(sure, Quantity.GPU_TOTAL) == pytest.approx(-0.01, abs=1e-4)


def test_evidence_does_not_cross_models_or_gpus() -> None:
    assert at(model="other") == 0
    assert at(gpu="NVIDIA-L4") == 0


def test_the_memory_of_a_gpu_holds_for_every_model() -> None:
    known = Corrections((Record(KEY, Quantity.GPU_TOTAL, -0.01, 0.0003),))
    assert math.log(known.correction("other", H100, CONFIG).gpu_total.value) == pytest.approx(-0.01, abs=1e-4)


def test_the_interval_narrows_with_observations() -> None:
    widths = []
    for count in (1, 4, 16):
        known = Corrections((Record(KEY, Quantity.DECODE, 0.1, 0.1, LOAD),) * count)
        found = known.correction("m", H100, CONFIG, LOAD).decode
        assert found.low < found.value < found.high
        assert found.observations == count
        widths.append(found.high / found.low)
    assert widths == sorted(widths, reverse=True)


def test_only_the_newest_observations_of_an_engine_are_kept() -> None:
    facts, gpu = ModelFacts.load("Qwen/Qwen3-8B"), accelerator("H100")
    seen = observe({"weights_gib": 15.3}, facts=facts, gpu=gpu, config=CONFIG)
    known = Corrections()
    for _ in range(KEPT_PER_KEY + 5):
        known = known.with_observation(seen)
    assert len(known.records) == KEPT_PER_KEY


keys = st.builds(
    Key,
    st.text(min_size=1, max_size=8),
    st.sampled_from([H100, "NVIDIA-L4", "unknown"]),
    st.sampled_from(["0.19.0", "0.33.1"]),
    st.sampled_from([1, 2, 8]),
    st.sampled_from([1, 2]),
    st.booleans(),
)
positive = st.floats(1e-6, 1e6)
stores = st.builds(
    Corrections,
    st.lists(
        st.builds(Record, keys, quantities, logs, noises, st.none() | st.builds(Load, logs, logs)), max_size=5
    ).map(tuple),
    st.lists(st.builds(Comparison, keys, st.text(max_size=8), positive, positive, positive), max_size=5).map(tuple),
)


@settings(deadline=None)
@given(stores)
def test_the_json_form_keeps_everything(store: Corrections) -> None:
    assert Corrections.loads(store.dumps()) == store


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{", "not JSON"),
        ("[]", "format"),
        ('{"format": 2}', "format 2"),
        ('{"format": 1, "records": 3}', "records must be a list"),
        ('{"format": 1, "records": [7]}', r"records\[0\] must be an object"),
        ('{"format": 1, "records": [{"key": {}}]}', r"records\[0\].key must have"),
        (
            '{"format": 1, "records": [{"key": {"model": "m", "accelerator": "g", "engine_version": "0.19.0"}, '
            '"quantity": "speed", "value": 0, "noise": 1}]}',
            "quantity 'speed' is not known",
        ),
        (
            '{"format": 1, "records": [{"key": {"model": "m", "accelerator": "g", "engine_version": "0.19.0"}, '
            '"quantity": "decode", "value": 0, "noise": -1}]}',
            "noise must be above zero",
        ),
        (
            '{"format": 1, "records": [{"key": {"model": "m", "accelerator": "g", "engine_version": "new"}, '
            '"quantity": "decode", "value": 0, "noise": 1}]}',
            "is not a release",
        ),
    ],
)
def test_a_broken_file_is_refused_in_one_line(text: str, names: str) -> None:
    with pytest.raises(RecommenderError, match=names) as caught:
        Corrections.loads(text)
    assert "\n" not in str(caught.value)

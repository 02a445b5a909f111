"""The store of corrections: what was observed, and what it says about one engine."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

from plimsoll_recommender.engine_config import EngineConfig, version_of
from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.observation.posterior import estimate
from plimsoll_recommender.observation.quantities import PLAUSIBLE, PRIORS, Key, Quantity, correlation

if TYPE_CHECKING:
    from plimsoll_recommender.observation.observed import Observation

FORMAT: Final = 1
"""Version of the JSON form."""

KEPT_PER_KEY: Final = 48
"""Observations of one quantity kept for one engine: the oldest go first. Their mean is then known to a seventh."""

Z90: Final = 1.6449
"""Standard deviations either side of the mean that hold nine of ten."""


@dataclass(frozen=True)
class Record:
    """One observation of one quantity.

    Args:
        key: the engine it is of.
        quantity: what was observed.
        value: ln(measured / predicted without corrections).
        noise: standard deviation of the observation.
    """

    key: Key
    quantity: Quantity
    value: float
    noise: float


@dataclass(frozen=True)
class Comparison:
    """One prediction held against its measurement.

    Args:
        key: the engine.
        what: what is compared, with its unit, such as `KV cache, GiB`.
        measured: what the engine reported.
        predicted: what was predicted without corrections.
        corrected: what is predicted with the corrections, this observation included.
    """

    key: Key
    what: str
    measured: float
    predicted: float
    corrected: float

    @property
    def error_before(self) -> float:
        """Error of the uncorrected prediction, per cent of the measurement."""
        return (self.predicted / self.measured - 1) * 100

    @property
    def error_after(self) -> float:
        """Error of the corrected prediction, per cent of the measurement."""
        return (self.corrected / self.measured - 1) * 100


@dataclass(frozen=True)
class Factor:
    """A factor on a prediction, with its 90 % interval and how many observations of the same engine it rests on."""

    value: float = 1.0
    low: float = 1.0
    high: float = 1.0
    observations: int = 0


NEUTRAL: Final = Factor()


@dataclass(frozen=True)
class Correction:
    """What observations say about one engine, as factors on its prediction.

    Args:
        gpu_total: memory that the driver reports, over the catalogue's.
        weights: weights per GPU.
        overhead: activation peak and non-torch memory together.
        graphs: CUDA graphs.
        decode: time of a step without prompts.
        prefill: time that prompt tokens add to a step.
    """

    gpu_total: Factor = NEUTRAL
    weights: Factor = NEUTRAL
    overhead: Factor = NEUTRAL
    graphs: Factor = NEUTRAL
    decode: Factor = NEUTRAL
    prefill: Factor = NEUTRAL

    @property
    def of_memory(self) -> bool:
        """Whether any factor of the memory ledger differs from one."""
        return any(item.value != 1.0 for item in (self.gpu_total, self.weights, self.overhead, self.graphs))

    @property
    def of_time(self) -> bool:
        """Whether any factor of step times differs from one."""
        return any(item.value != 1.0 for item in (self.decode, self.prefill))


IDENTITY: Final = Correction()

T = TypeVar("T", Record, Comparison)


@dataclass(frozen=True)
class Corrections:
    """Observations of engines, and the corrections that follow. Immutable: `with_observation` returns a new one.

    Args:
        records: what was observed, oldest first.
        comparisons: predictions held against their measurements, oldest first.
    """

    records: tuple[Record, ...] = ()
    comparisons: tuple[Comparison, ...] = ()

    def with_observation(self, observation: Observation) -> Corrections:
        """These corrections and one more observation.

        Evidence beyond what is plausible is not learned from (the observation's `contradictions` say so).
        """
        from plimsoll_recommender.observation.comparison import compared

        learned = [
            Record(observation.key, item.quantity, item.value, item.noise)
            for item in observation.evidence
            if abs(item.value) <= math.log(PLAUSIBLE[item.quantity])
        ]
        updated = replace(self, records=_newest((*self.records, *learned)))
        rows = compared(observation, updated)
        return replace(updated, comparisons=(*self.comparisons, *rows)[-KEPT_PER_KEY * 8 :])

    def correction(self, model: str, accelerator: str, config: EngineConfig) -> Correction:
        """What holds for one engine; the identity when nothing related was observed.

        Args:
            model: name of the model (`ModelFacts.name`).
            accelerator: product of the GPU.
            config: engine settings: release and parallelism.
        """
        if not self.records:
            return IDENTITY
        key = key_of(model, accelerator, config)
        known = self._known.get(key)
        if known is None:
            known = Correction(**{quantity.value: self._factor(quantity, key) for quantity in Quantity})
            self._known[key] = known
        return known

    @cached_property
    def _known(self) -> dict[Key, Correction]:
        """Corrections already computed: a search asks for the same engine many times."""
        return {}

    def _factor(self, quantity: Quantity, key: Key) -> Factor:
        observed = [(item.key, item.value, item.noise) for item in self.records if item.quantity is quantity]
        if not any(correlation(quantity, item[0], key) > 0 for item in observed):
            return NEUTRAL
        found = estimate(observed, key, PRIORS[quantity].spread, lambda one, other: correlation(quantity, one, other))
        interval = Z90 * found.deviation
        return Factor(
            math.exp(found.mean),
            math.exp(found.mean - interval),
            math.exp(found.mean + interval),
            sum(item[0] == key for item in observed),
        )

    def report(self) -> tuple[Comparison, ...]:
        """Every prediction held against its measurement, the oldest first."""
        return self.comparisons

    def dumps(self) -> str:
        """The JSON form that `loads` reads."""
        document = {
            "format": FORMAT,
            "records": [asdict(item) for item in self.records],
            "comparisons": [asdict(item) for item in self.comparisons],
        }
        return json.dumps(document, indent=2, sort_keys=True) + "\n"

    @classmethod
    def loads(cls, text: str) -> Corrections:
        """Corrections from their JSON form.

        Raises:
            RecommenderError: text that is not one, naming the field.
        """
        try:
            document = json.loads(text)
        except ValueError as error:
            raise RecommenderError(
                f"corrections are not JSON ({error}): give a file that was written by them"
            ) from None
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            found = document.get("format") if isinstance(document, dict) else type(document).__name__
            raise RecommenderError(f"corrections have format {found!r}, {FORMAT} is understood: observe again")
        return cls(
            tuple(_read(Record, row, index, "records") for index, row in enumerate(_rows(document, "records"))),
            tuple(
                _read(Comparison, row, index, "comparisons") for index, row in enumerate(_rows(document, "comparisons"))
            ),
        )


def key_of(model: str, accelerator: str, config: EngineConfig) -> Key:
    """The key of an engine."""
    return Key(
        model,
        accelerator,
        release_of(config.engine_version),
        config.tensor_parallel_size,
        config.pipeline_parallel_size,
    )


def release_of(version: str) -> str:
    """A release as three numbers, such as `0.19.0`.

    Raises:
        RecommenderError: when it does not start with two numbers.
    """
    return ".".join(str(number) for number in version_of(version))


def _newest(records: Iterable[Record]) -> tuple[Record, ...]:
    """The newest records of each key and quantity, in order."""
    seen: Counter[tuple[Key, Quantity]] = Counter()
    kept = []
    for record in reversed(tuple(records)):
        seen[record.key, record.quantity] += 1
        if seen[record.key, record.quantity] <= KEPT_PER_KEY:
            kept.append(record)
    return tuple(reversed(kept))


def _rows(document: Mapping[str, Any], name: str) -> list[Any]:
    rows = document.get(name, [])
    if not isinstance(rows, list):
        raise RecommenderError(f"corrections: {name} must be a list, got {type(rows).__name__}")
    return rows


def _read(kind: type[T], row: Any, index: int, name: str) -> T:
    """One row of the JSON form as a dataclass."""
    place = f"corrections: {name}[{index}]"
    if not isinstance(row, dict):
        raise RecommenderError(f"{place} must be an object, got {type(row).__name__}")
    values: dict[str, Any] = {}
    for field in fields(kind):
        value = row.get(field.name)
        if field.name == "key":
            values["key"] = _key(value, place)
        elif field.name == "quantity":
            if value not in {item.value for item in Quantity}:
                raise RecommenderError(f"{place}.quantity {value!r} is not known: use one of {', '.join(Quantity)}")
            values["quantity"] = Quantity(value)
        elif field.name == "what":
            values["what"] = str(value)
        else:
            values[field.name] = _number(value, f"{place}.{field.name}", positive=field.name != "value")
    return kind(**values)


def _key(value: Any, place: str) -> Key:
    if not isinstance(value, dict) or not {"model", "accelerator", "engine_version"} <= value.keys():
        raise RecommenderError(f"{place}.key must have model, accelerator and engine_version")
    sizes = {}
    for name in ("tensor_parallel_size", "pipeline_parallel_size"):
        size = value.get(name, 1)
        if type(size) is not int or size < 1:
            raise RecommenderError(f"{place}.key.{name} must be a whole number of at least 1, got {size!r}")
        sizes[name] = size
    version_of(str(value["engine_version"]))
    return Key(str(value["model"]), str(value["accelerator"]), str(value["engine_version"]), **sizes)


def _number(value: Any, place: str, *, positive: bool) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecommenderError(f"{place} must be a finite number, got {value!r}")
    if positive and value <= 0:
        raise RecommenderError(f"{place} must be above zero, got {value:g}")
    return float(value)

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
from plimsoll_recommender.observation.posterior import Z90, Posterior, posterior
from plimsoll_recommender.observation.quantities import PLAUSIBLE, Key, Load, Quantity, Site, correlation, prior_of

if TYPE_CHECKING:
    from plimsoll_recommender.observation.observed import Observation

FORMAT: Final = 1
"""Version of the JSON form."""

KEPT_PER_KEY: Final = 48
"""Observations of one quantity kept for one engine: the oldest go first. Their mean is then known to a seventh."""


@dataclass(frozen=True)
class Record:
    """One observation of one quantity.

    Args:
        key: the engine it is of.
        quantity: what was observed.
        value: ln(measured / predicted without corrections).
        noise: standard deviation of the observation.
        load: what it was observed at; None where it does not matter.
    """

    key: Key
    quantity: Quantity
    value: float
    noise: float
    load: Load | None = None


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


@dataclass(frozen=True)
class _Known:
    """What is known of one quantity: its posterior, and how many observations there are of each engine."""

    posterior: Posterior[Site]
    observations: Counter[Key]


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
            Record(observation.key, item.quantity, item.value, item.noise, item.load)
            for item in observation.evidence
            if abs(item.value) <= math.log(PLAUSIBLE[item.quantity])
        ]
        updated = replace(self, records=_newest((*self.records, *learned)))
        rows = compared(observation, updated)
        return replace(updated, comparisons=(*self.comparisons, *rows)[-KEPT_PER_KEY * 8 :])

    def correction(
        self,
        model: str,
        accelerator: str,
        config: EngineConfig,
        load: Load | None = None,
        overhead_gib: float | None = None,
    ) -> Correction:
        """What holds for one engine; the identity when nothing related was observed.

        Args:
            model: name of the model (`ModelFacts.name`).
            accelerator: product of the GPU.
            config: engine settings: release and parallelism.
            load: the load of one replica; None for what holds at any.
            overhead_gib: activation peak and non-torch memory as predicted, GiB per GPU; None for what holds at any.
        """
        if not self.records:
            return IDENTITY
        key = key_of(model, accelerator, config)
        start_up = None if overhead_gib is None else Load.of_overhead(overhead_gib)
        at = {Quantity.DECODE: load, Quantity.PREFILL: load, Quantity.OVERHEAD: start_up}
        return Correction(
            **{quantity.value: self._factor(quantity, Site(key, at.get(quantity))) for quantity in Quantity}
        )

    def knows(self, model: str, accelerator: str, config: EngineConfig) -> bool:
        """Whether anything observed bears on an engine."""
        key = key_of(model, accelerator, config)
        return any(
            correlation(record.quantity, Site(record.key, record.load), Site(key, record.load)) > 0
            for record in self.records
        )

    @cached_property
    def _factors(self) -> dict[tuple[Quantity, Site], Factor]:
        """Factors already computed: a search asks for the same engine many times."""
        return {}

    @cached_property
    def _posteriors(self) -> dict[tuple[Quantity, str, str], _Known | None]:
        """Posteriors already computed, by what no evidence crosses: quantity, GPU and (mostly) model."""
        return {}

    def _factor(self, quantity: Quantity, site: Site) -> Factor:
        place = quantity, site
        if place not in self._factors:
            self._factors[place] = self._computed(*place)
        return self._factors[place]

    def _computed(self, quantity: Quantity, site: Site) -> Factor:
        key = site.key
        group = quantity, key.accelerator, "" if prior_of(quantity, key.accelerator).across_models else key.model
        if group not in self._posteriors:
            self._posteriors[group] = self._learned(*group)
        known = self._posteriors[group]
        if known is None:
            return NEUTRAL
        found = known.posterior.at(site)
        interval = Z90 * found.deviation
        return Factor(
            math.exp(found.mean),
            math.exp(found.mean - interval),
            math.exp(found.mean + interval),
            known.observations[key],
        )

    def _learned(self, quantity: Quantity, accelerator: str, model: str) -> _Known | None:
        """What the records of a GPU and a model (any when empty) teach; None when there are none."""
        related = [
            record
            for record in self.records
            if record.quantity is quantity and record.key.accelerator == accelerator and model in ("", record.key.model)
        ]
        if not related:
            return None
        observed = [(Site(item.key, item.load), item.value, item.noise) for item in related]
        spread = prior_of(quantity, accelerator).spread
        found = posterior(observed, spread, lambda one, other: correlation(quantity, one, other))
        return _Known(found, Counter(item.key for item in related))

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
        config.expert_parallel,
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
        elif field.name == "load":
            values["load"] = None if value is None else _load(value, place)
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
    expert = value.get("expert_parallel", False)
    if not isinstance(expert, bool):
        raise RecommenderError(f"{place}.key.expert_parallel must be true or false, got {expert!r}")
    release = release_of(str(value["engine_version"]))
    return Key(str(value["model"]), str(value["accelerator"]), release, **sizes, expert_parallel=expert)


def _load(value: Any, place: str) -> Load:
    if not isinstance(value, dict):
        raise RecommenderError(f"{place}.load must be an object or null, got {type(value).__name__}")
    names = ("size", "input_tokens")
    return Load(*(_number(value.get(name), f"{place}.load.{name}", positive=False) for name in names))


def _number(value: Any, place: str, *, positive: bool) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecommenderError(f"{place} must be a finite number, got {value!r}")
    if positive and value <= 0:
        raise RecommenderError(f"{place} must be above zero, got {value:g}")
    return float(value)

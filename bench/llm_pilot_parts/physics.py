"""Physics of LLM-Pilot's runs: a closed loop of users before TGIS, whose batch is bounded by memory.

Each user has one request in flight. The engine runs as many as memory has slots for; the others wait for one to end,
so time to first token rises with users while time between tokens stays. A step is the longer of the host's work, layer
by layer and not overlapped (the engine ran eagerly), and the GPU's reads and products; every sequence adds work of the
host. Prompts are computed in steps of their own, between others. The form is law; constants that no data sheet states
are learned from measured LLMs (`plimsoll_recommender.transfer.constants`), with the values expected of them below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from bench.llm_pilot_parts.shapes import BYTES, PRODUCTS, SHAPES, gpu_of, gpus_of
from numpy.typing import NDArray

from plimsoll_recommender.transfer.constants import Constant

GIB: Final = 1024**3
GPUS: Final = tuple(PRODUCTS)
KERNELS: Final = ("flash", "plain", "encoder-decoder")
_SLOTS: Final = 10.0
"""Slots around which memory's exponent turns, and sequences around which padding's does."""

CONSTANTS: Final = (
    # Host: a layer of a transformer launches a dozen kernels of some 10 to 50 us in eager PyTorch.
    Constant("host seconds per layer, flash", 0.35e-3, 1.0),
    Constant("host seconds per layer, plain", 0.5e-3, 0.7),
    Constant("host seconds per layer, encoder-decoder", 0.5e-3, 0.7),
    *(Constant(f"host slowness, {gpu}", 1.0, 0.3) for gpu in GPUS),
    Constant("host share for splitting", 0.3, 0.5),
    Constant("host seconds per sequence, flash", 0.2e-3, 1.0),
    Constant("host seconds per sequence, padded", 0.2e-3, 1.0),
    # GPU: kernels reach some 70 % of peak bandwidth, and of products less the smaller they are.
    Constant("bandwidth reached", 0.7, 0.3),
    Constant("context read, flash", 1.0, 0.5),
    Constant("context read, padded", 5.0, 1.0),
    Constant("context growth with the batch, padded", 0.3, 0.7),
    Constant("products reached, steps", 0.4, 0.5),
    Constant("products reached, prompts", 0.4, 0.5),
    *(Constant(f"products reached, {gpu}", 1.0, 0.3) for gpu in GPUS),
    Constant("prompt padding", 3.0, 0.7),
    Constant("seconds per exchange", 30e-6, 0.7),
    Constant("exchanged bytes", 1.0, 0.7),
    # Batch: requests ask for up to a thousand tokens; padded ones are kept as long as the longest may become.
    Constant("memory used", 0.9, 0.04),
    Constant("tokens per slot, flash", 1000.0, 0.7),
    Constant("tokens per slot, padded", 5000.0, 0.5),
    Constant("slots' growth with memory", 1.0, 0.15),
    # Load: medians of first tokens over prompt tokens exceed the ratio of means, as prompts are of uneven length.
    Constant("skew of prompts", 1.48, 0.15),
    Constant("seconds per prompt", 5e-3, 1.0),
    Constant("interruptions, flash", 1.0, 0.7),
    Constant("interruptions, padded", 1.0, 0.7),
    Constant("interruptions in the median, flash", 0.2, 1.0),
    Constant("interruptions in the median, padded", 0.2, 1.0),
    Constant("steps until admitted", 4.0, 0.7),
    Constant("sequences until admission slows", 5.0, 0.7),
)
"""What is expected of each constant before any measurement: orders of magnitude, with the spread they deserve."""


@dataclass(frozen=True)
class Run:
    """A run as it is known beforehand."""

    llm: str
    profile: str
    users: int


@dataclass(frozen=True)
class Expected:
    """What physics expects of runs, each shape (runs,).

    Args:
        itl: natural logarithm of the median time between tokens, milliseconds.
        nttft: natural logarithm of the median time to first token over prompt tokens, milliseconds.
        rate: natural logarithm of requests answered per second.
        slots: sequences that memory has room for.
        prompts: prompts computed per step.
    """

    itl: NDArray[Any]
    nttft: NDArray[Any]
    rate: NDArray[Any]
    slots: NDArray[Any]
    prompts: NDArray[Any]


class Closed:
    """Runs, ready for the law to be asked with one set of constants after another.

    Args:
        runs: what runs where.
        prompt, output: mean tokens of a run's requests, each shape (runs,).
    """

    def __init__(self, runs: Sequence[Run], prompt: NDArray[Any], output: NDArray[Any]) -> None:
        shapes = [SHAPES[run.llm] for run in runs]
        profiles = [gpus_of(run.profile) for run in runs]
        gpus = [gpu_of(name) for _, name in profiles]
        self.prompt, self.output = prompt, output
        self.users = np.array([run.users for run in runs], dtype=float)
        self.count = np.array([count for count, _ in profiles], dtype=float)
        self.split = self.count > 1
        self.gpu = np.array([GPUS.index(name) for _, name in profiles])
        self.kernels = np.array([KERNELS.index(shape.kernels) for shape in shapes])
        self.padded = np.array([shape.padded for shape in shapes])
        self.encoder = np.array([shape.encoder > 0 for shape in shapes])
        self.layers = np.array([shape.sublayers for shape in shapes])
        self.prompt_layers = np.array([float(shape.encoder or shape.layers) for shape in shapes])
        self.hidden = np.array([float(shape.hidden) for shape in shapes])
        self.step_bytes = np.array([shape.decoder_bytes for shape in shapes])
        self.prompt_bytes = np.array([shape.prompt_bytes for shape in shapes])
        self.weights = np.array([shape.weight_bytes for shape in shapes])
        copies = np.maximum(1.0, self.count / np.array([shape.kv_heads for shape in shapes]))
        self.kv = np.array([shape.kv_bytes for shape in shapes]) * copies
        self.bandwidth = self.count * np.array([gpu.memory_bandwidth for gpu in gpus])
        self.flops = self.count * np.array([gpu.flops_16bit for gpu in gpus])
        self.link = np.array([gpu.link_bandwidth for gpu in gpus])
        self.memory = self.count * GIB * np.array([gpu.memory_gib for gpu in gpus])

    def expect(self, of: Mapping[str, float]) -> Expected:
        """What the law expects with these constants."""
        slots = self._slots(of)
        # As many as there are slots for, turning from one bound to the other over an octave: lengths are uneven.
        running = self.users / (1 + (self.users / slots) ** 4) ** 0.25
        slowness = np.choose(self.gpu, [of[f"host slowness, {gpu}"] for gpu in GPUS])
        a_layer = slowness * np.choose(self.kernels, [of[f"host seconds per layer, {name}"] for name in KERNELS])
        a_layer = a_layer * (1 + of["host share for splitting"] * self.split)
        step = self._step(of, running, a_layer, slowness)
        prompts = running / self.output
        together = np.maximum(1.0, prompts)
        prefill = self._prefill(of, together, a_layer)
        stopped = self._by_padding(of, "interruptions") * np.minimum(1.0, prompts) * prefill
        mean = step + stopped
        admitted = of["steps until admitted"] * (running - 1) / (running + of["sequences until admission slows"])
        own = prefill + admitted * mean
        queue = self.output * mean * (self.users / running - 1)
        first = of["skew of prompts"] * (own + queue) / self.prompt
        median = step + self._by_padding(of, "interruptions in the median") * stopped
        return Expected(
            itl=np.log(1e3 * median),
            nttft=np.log(1e3 * first),
            rate=np.log(running / (self.output * mean + own)),
            slots=slots,
            prompts=prompts,
        )

    def _slots(self, of: Mapping[str, float]) -> NDArray[Any]:
        free = np.maximum(1.0, (self.memory * of["memory used"] - self.weights) / self.kv)
        scaled = free / self._by_padding(of, "tokens per slot") / _SLOTS
        slots: NDArray[Any] = np.maximum(1.0, _SLOTS * scaled ** of["slots' growth with memory"])
        return slots

    def _step(
        self, of: Mapping[str, float], running: NDArray[Any], a_layer: NDArray[Any], slowness: NDArray[Any]
    ) -> NDArray[Any]:
        """Seconds of a step that computes no prompt."""
        # The longest of a batch grows with the batch, and padded sequences are all as long as that.
        longest = (running / _SLOTS) ** of["context growth with the batch, padded"]
        context = (self.prompt + 0.5 * self.output) * self._by_padding(of, "context read")
        context = context * np.where(self.padded, longest, 1.0)
        read = (self.step_bytes + running * context * self.kv) / (self.bandwidth * of["bandwidth reached"])
        products = self.step_bytes * running / (self.flops * of["products reached, steps"])
        exchanged = of["seconds per exchange"] + of["exchanged bytes"] * running * self.hidden * BYTES / self.link
        host = self.layers * a_layer
        step: NDArray[Any] = (host**4 + (read + products) ** 4) ** 0.25
        step = step + self.split * self.layers * 2 * exchanged
        return step + running * slowness * self._by_padding(of, "host seconds per sequence")

    def _prefill(self, of: Mapping[str, float], prompts: NDArray[Any], a_layer: NDArray[Any]) -> NDArray[Any]:
        """Seconds to the first tokens of prompts computed together."""
        reached = of["products reached, prompts"] * np.choose(
            self.gpu, [of[f"products reached, {gpu}"] for gpu in GPUS]
        )
        tokens = prompts * self.prompt * np.where(self.padded, of["prompt padding"], 1.0)
        products = self.prompt_bytes * tokens / (self.flops * reached)
        exchanged = of["exchanged bytes"] * tokens * self.hidden * BYTES / self.link
        # An encoder makes no token: the decoder's first step follows.
        read = self.step_bytes / (self.bandwidth * of["bandwidth reached"])
        after = np.where(self.encoder, self.layers * a_layer + read, 0.0)
        seconds: NDArray[Any] = of["seconds per prompt"] + self.prompt_layers * a_layer + products + after
        return seconds + self.split * self.prompt_layers * 2 * exchanged

    def _by_padding(self, of: Mapping[str, float], name: str) -> NDArray[Any]:
        return np.where(self.padded, of[f"{name}, padded"], of[f"{name}, flash"])

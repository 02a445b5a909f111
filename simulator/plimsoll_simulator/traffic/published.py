"""Shapes of published traces, typed in as statistics: the traffic of a real service without its data.

Source of every number here: the Azure LLM inference dataset 2023 (one hour of two Azure services, 2023-11-16),
github.com/Azure/AzurePublicDataset, licence CC-BY-4.0, published with P. Patel et al., Splitwise: Efficient Generative
LLM Inference Using Phase Splitting (ISCA 2024). The counts per minute and the quantiles were computed from the two CSV
files; the last, incomplete minute is left out.

What the statistics keep and lose, against the traces themselves:

| | code | conversation |
|---|---|---|
| requests, mean rate | 8,819, 2.57/s | 19,366, 5.53/s |
| CV of the gaps | 13.2 | 1.09 |
| CV of the gaps once the rate per minute is divided out | 7.2 | 1.03 |
| busiest minute over the mean | 4.2 | 1.5 |
| mean tokens in/out: trace, table | 2048/27.9, 2077/29.0 | 1155/211, 1151/214 |
"""

from __future__ import annotations

from typing import Final

from plimsoll_simulator.traffic.lengths import Quantiles
from plimsoll_simulator.traffic.model import TrafficModel
from plimsoll_simulator.traffic.profiles import steps

_SECONDS_PER_COUNT: Final = 60.0

_LEVELS: Final = (
    0.0, 0.01, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 1.0
)  # fmt: skip

_CODE_PER_MINUTE: Final = (
    63, 0, 0, 531, 187, 130, 15, 42, 38, 476, 421, 63, 0, 0, 632, 299, 0, 20, 396, 315, 116, 78, 306, 447, 252, 34, 128,
    111, 406, 234, 118, 169, 130, 306, 158, 0, 339, 55, 285, 191, 0, 28, 205, 245, 99, 0, 0, 32, 0, 0, 0, 97, 212, 22,
    32, 113, 47,
)  # fmt: skip
_CODE_CV: Final = 7.2
_CODE_INPUT: Final = Quantiles(
    _LEVELS,
    (3, 17, 75, 147, 386, 578, 770, 1075, 1469, 1909, 2433, 2744, 3192, 5188, 7303, 7435, 7436, 7436, 7436, 7437, 7437),
)
_CODE_OUTPUT: Final = Quantiles(
    _LEVELS, (6, 6, 6, 7, 8, 9, 9, 11, 13, 16, 20, 24, 29, 55, 90, 128, 171, 251, 359, 825, 1899)
)

_CONV_PER_MINUTE: Final = (
    191, 265, 329, 353, 307, 273, 268, 261, 322, 298, 301, 302, 345, 326, 283, 279, 280, 308, 343, 351, 351, 343, 408,
    396, 386, 398, 432, 480, 476, 453, 448, 507, 438, 413, 423, 418, 465, 311, 329, 316, 333, 355, 319, 360, 334, 375,
    330, 249, 221, 249, 265, 280, 256, 254, 242, 260, 246, 225,
)  # fmt: skip
_CONV_CV: Final = 1.03
_CONV_INPUT_TOKENS: Final = (
    2, 29, 181, 207, 387, 396, 403, 703, 1020, 1071, 1130, 1189, 1315, 2734, 4083, 4090, 4098, 4142, 4831, 6179, 14050
)  # fmt: skip
_CONV_INPUT: Final = Quantiles(_LEVELS, _CONV_INPUT_TOKENS)
_CONV_OUTPUT: Final = Quantiles(
    _LEVELS, (7, 16, 41, 54, 77, 85, 91, 103, 129, 177, 384, 395, 400, 424, 451, 509, 540, 601, 643, 954, 1000)
)


def _minutes(counts: tuple[int, ...]) -> list[tuple[float, float]]:
    return [(count / _SECONDS_PER_COUNT, _SECONDS_PER_COUNT) for count in counts]


SHAPES: Final[dict[str, TrafficModel]] = {
    "azure2023-code": TrafficModel(steps(_minutes(_CODE_PER_MINUTE)), _CODE_CV, _CODE_INPUT, _CODE_OUTPUT),
    "azure2023-conv": TrafficModel(steps(_minutes(_CONV_PER_MINUTE)), _CONV_CV, _CONV_INPUT, _CONV_OUTPUT),
}
"""Traffic models by name, at the traces' own rate and time (57 and 58 minutes)."""


def shape(name: str, *, mean_rate: float | None = None, duration: float | None = None) -> TrafficModel:
    """A published shape, squeezed or stretched to another mean rate (requests/s) or duration (s).

    A shorter duration plays the whole hour faster; its bursts keep their size in requests.

    Raises:
        ValueError: there is no such shape.
    """
    if name not in SHAPES:
        raise ValueError(f"there is no shape {name!r}; there are {', '.join(sorted(SHAPES))}")
    model = SHAPES[name]
    profile = model.profile
    if duration is not None:
        profile = profile.stretched_to(duration)
    if mean_rate is not None:
        profile = profile.with_mean_rate(mean_rate)
    return TrafficModel(profile, model.cv, model.input_tokens, model.output_tokens)

"""Which option to take when it is not sure which ones carry the load: the best trade of success and cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plimsoll_recommender.errors import RecommenderError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Chosen:
    """An option.

    Args:
        index: which.
        success: probability that it carries the load (0 to 1).
        value: expected value (0 to 1).
    """

    index: int
    success: float
    value: float


def choose(costs: NDArray[Any], carries: NDArray[Any]) -> Chosen:
    """The option of greatest expected value; the cheapest among equals.

    An option is worth the least cost that would have done over its own in a scenario where it carries the load: 1 where
    nothing cheaper does, a half at twice the least. Where it does not carry the load it is worth nothing. That is
    bounded, so that no unlikely bargain weighs more than a likely success.

    Args:
        costs: cost of each option, any one currency, shape (options,), above zero.
        carries: whether each option carries the load, shape (scenarios, options), scenarios equally likely.

    Raises:
        RecommenderError: no options or scenarios, costs that are not above zero, or shapes that do not match.
    """
    import numpy as np

    costs, carries = np.asarray(costs, dtype=float), np.asarray(carries, dtype=bool)
    if not costs.size or not carries.size or carries.shape[1:] != costs.shape or not (costs > 0).all():
        raise RecommenderError(
            f"costs of shape {costs.shape} and scenarios of shape {carries.shape}: give every option a cost above "
            "zero and a column of scenarios"
        )
    least = np.where(carries, costs, np.inf).min(axis=1)
    thrift = np.where(carries, np.where(np.isfinite(least), least, 0.0)[:, None] / costs, 0.0)
    values = thrift.mean(axis=0)
    index = int(np.lexsort((costs, -np.round(values, 12)))[0])
    return Chosen(index, float(carries[:, index].mean()), float(values[index]))

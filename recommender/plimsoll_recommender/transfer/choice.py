"""Which option to take when it is not sure which ones carry the load: the best trade of success and cost."""

from __future__ import annotations

from collections.abc import Callable
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
        value: expected value (at most 1).
    """

    index: int
    success: float
    value: float


Worth = Callable[["NDArray[Any]"], "NDArray[Any]"]
"""What options that carry the load are worth, by their cost over the least that would have done (1 or more)."""


def thrift(ratio: NDArray[Any]) -> NDArray[Any]:
    """The least sufficient cost over the option's own: 1 where nothing cheaper does, a half at twice the least.

    Bounded, so that no unlikely bargain weighs more than a likely success.
    """
    worth: NDArray[Any] = 1.0 / ratio
    return worth


def less_overspend(price: float = 1.0) -> Worth:
    """One less the overspend at a price: 1 where nothing cheaper does, below 0 where the overspend is over 1 / price.

    For whoever is judged by mean overspend: there, wasting too much is worse than failing.

    Args:
        price: worth that each least cost wasted takes away (above 0).
    """

    def worth(ratio: NDArray[Any]) -> NDArray[Any]:
        left: NDArray[Any] = 1.0 - price * (ratio - 1.0)
        return left

    return worth


def price_of_overspend(success: float, overspend: float) -> float:
    """The price of overspend for whoever is judged by F = 2 S T / (S + T), success S, thrift T = 1 - mean overspend.

    One more success that overspends by o moves S by ds and the mean overspend O of the successes by (o - O) ds / S, and
    F by 2 (T^2 + S O - S o) ds / (S + T)^2: worth 1 at o = 0, less S / (T^2 + S O) for each unit of o. It is 1 where
    S = T.

    Args:
        success: share of recommendations that carry the load (0 to 1).
        overspend: their mean overspend; 1 where F is nothing whatever the success, and where there is no success.
    """
    thrift = 1.0 - overspend
    if not success > 0.0 or not thrift > 0.0:
        return 1.0
    return success / (thrift**2 + success * overspend)


def choose(costs: NDArray[Any], carries: NDArray[Any], worth: Worth = thrift) -> Chosen:
    """The option of greatest expected value; the cheapest among equals.

    An option has its worth in the scenarios where it carries the load, and none where it does not.

    Args:
        costs: cost of each option, any one currency, shape (options,), above zero.
        carries: whether each option carries the load, shape (scenarios, options), scenarios equally likely.
        worth: what options that carry the load are worth.

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
    ratios = np.where(carries, costs / np.where(np.isfinite(least), least, 1.0)[:, None], 1.0)
    values = np.where(carries, worth(ratios), 0.0).mean(axis=0)
    index = int(np.lexsort((costs, -np.round(values, 12)))[0])
    return Chosen(index, float(carries[:, index].mean()), float(values[index]))

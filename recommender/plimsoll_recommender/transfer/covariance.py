"""How alike two measurements' errors are: covariances of an additive Gaussian process over rows of measurements.

A term is a product of factors, each between 0 and 1 on its diagonal except `Linear`; the covariance is the sum of terms
times their variances (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, section 4.2.4: sums and
products of covariances are covariances).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from plimsoll_recommender.errors import RecommenderError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Rows:
    """Rows of measurements, or of what is to be predicted.

    Args:
        groups: what each row was measured on (a model); whole groups are unseen.
        numbers: features by name, each shape (rows,).
        labels: categories by name, one per row.

    Raises:
        RecommenderError: a feature or label with another number of rows.
    """

    groups: tuple[str, ...]
    numbers: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, values in (*self.numbers.items(), *self.labels.items()):
            if len(values) != len(self.groups):
                raise RecommenderError(f"{name} has {len(values)} rows, the groups have {len(self.groups)}")

    def __len__(self) -> int:
        return len(self.groups)

    def where(self, keep: NDArray[Any]) -> Rows:
        """The rows at these indices."""
        return Rows(
            tuple(self.groups[index] for index in keep),
            {name: values[keep] for name, values in self.numbers.items()},
            {name: tuple(values[index] for index in keep) for name, values in self.labels.items()},
        )


@dataclass(frozen=True)
class Smooth:
    """Likeness that falls with the distance of a feature: exp(-(x - y)^2 / (2 length^2)).

    Args:
        feature: name of the number.
        length: distance over which values stay alike, in the feature's unit (above zero).
    """

    feature: str
    length: float

    def between(self, left: Rows, right: Rows) -> NDArray[Any]:
        """Likeness of every row of one to every row of the other, shape (left, right)."""
        import numpy as np

        apart = left.numbers[self.feature][:, None] - right.numbers[self.feature][None, :]
        likeness: NDArray[Any] = np.exp(-0.5 * (apart / self.length) ** 2)
        return likeness


@dataclass(frozen=True)
class Linear:
    """Straight lines through zero in features, each with a slope of its own: the sum of x y over them.

    Over the slopes of a law by its constants, it is what not knowing the constants makes of the error; over a feature
    that is 1 for some rows and 0 for others, it confines a term to those rows.
    """

    features: tuple[str, ...]

    def between(self, left: Rows, right: Rows) -> NDArray[Any]:
        """Products of every row of one with every row of the other, shape (left, right)."""
        import numpy as np

        rows, columns = (np.stack([side.numbers[name] for name in self.features]) for side in (left, right))
        product: NDArray[Any] = rows.T @ columns
        return product


@dataclass(frozen=True)
class Same:
    """Likeness by category: 1 for the same one, `otherwise` (0 to below 1) for different ones."""

    label: str
    otherwise: float = 0.0

    def between(self, left: Rows, right: Rows) -> NDArray[Any]:
        """Likeness of every row of one to every row of the other, shape (left, right)."""
        return _same(left.labels[self.label], right.labels[self.label], self.otherwise)


@dataclass(frozen=True)
class Within:
    """What rows of one group share and no other group has: 1 inside a group, 0 between groups.

    It is why an unseen group is less certain than another row of a seen one, however many rows were measured.
    """

    def between(self, left: Rows, right: Rows) -> NDArray[Any]:
        """Likeness of every row of one to every row of the other, shape (left, right)."""
        return _same(left.groups, right.groups, 0.0)


Factor = Smooth | Linear | Same | Within


@dataclass(frozen=True)
class Term:
    """A part of the error.

    Args:
        name: what it stands for.
        factors: multiplied; none is an error common to all rows.
        variance: expected variance (a square of what is predicted), where fitting starts and to which it is drawn.
    """

    name: str
    factors: tuple[Factor, ...] = ()
    variance: float = 0.05

    def between(self, left: Rows, right: Rows) -> NDArray[Any]:
        """Likeness of every row of one to every row of the other, shape (left, right); variance not included."""
        import numpy as np

        likeness: NDArray[Any] = np.ones((len(left), len(right)))
        for factor in self.factors:
            likeness = likeness * factor.between(left, right)
        return likeness


def _same(left: tuple[str, ...], right: tuple[str, ...], otherwise: float) -> NDArray[Any]:
    import numpy as np

    # Compared as whole numbers: comparing strings pair by pair takes most of a fit.
    numbers = {label: number for number, label in enumerate(dict.fromkeys((*left, *right)))}
    rows = np.array([numbers[label] for label in left], dtype=int)
    columns = np.array([numbers[label] for label in right], dtype=int)
    likeness: NDArray[Any] = np.where(rows[:, None] == columns[None, :], 1.0, otherwise)
    return likeness

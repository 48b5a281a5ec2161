"""Change points of a series: where its distribution changes, by E-divisive.

A series x₁…xₙ is split where the energy distance of its two parts,

    E = 2·mean|xᵢ − yⱼ| − mean|xᵢ − xₖ| − mean|yⱼ − yₗ|,

times n₁·n₂/(n₁ + n₂) is largest; the split counts if none of 499 random orders of the values has
such a large maximum (p ≤ 0.002); then both parts are searched again. No distribution is assumed.

References
----------
D. S. Matteson, N. A. James (2014), A nonparametric approach for multiple change point analysis of
multivariate data, J. Am. Stat. Assoc. 109:505.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

MIN_SIZE: Final = 5  # values between two change points
ORDERS: Final = 499  # random ones, with which a split is compared


def change_points(values: Sequence[float]) -> list[int]:
    """Return the indices at which a new level begins, ascending.

    Examples
    --------
    >>> change_points([1.0, 1.1, 0.9] * 5 + [2.0, 2.1, 1.9] * 5)
    [15]
    """
    x = np.asarray(values, float)
    return _search(np.abs(x[:, None] - x), 0, np.random.default_rng(0))


def _search(distances: NDArray[np.float64], first: int, rng: np.random.Generator) -> list[int]:
    """Return the change points of a part of the series that starts at ``first``."""
    n = len(distances)
    if n < 2 * MIN_SIZE:
        return []
    place, largest = _best_split(distances)
    for _ in range(ORDERS):
        order = rng.permutation(n)
        if _best_split(distances[np.ix_(order, order)])[1] >= largest * (1 - 1e-9):
            return []
    before = _search(distances[:place, :place], first, rng)
    after = _search(distances[place:, place:], first + place, rng)
    return [*before, first + place, *after]


def _best_split(distances: NDArray[np.float64]) -> tuple[int, float]:
    """Return where the second part begins, and the statistic."""
    N = len(distances)
    sums = distances.cumsum(axis=0).cumsum(axis=1)  # of the rows and columns up to each index
    n = np.arange(MIN_SIZE, N - MIN_SIZE + 1)
    m = N - n
    left, across, whole = sums[n - 1, n - 1], sums[n - 1, N - 1], sums[-1, -1]
    within = left / (n * (n - 1)) + (whole - 2 * across + left) / (m * (m - 1))
    statistic = n * m / N * (2 * (across - left) / (n * m) - within)
    best = int(statistic.argmax())
    return int(n[best]), float(statistic[best])

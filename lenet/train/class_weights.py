"""Class weights: factors of the loss, for training sets in which some classes are rare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lenet.config.sections import MAX_CLASS_WEIGHT
from lenet.data.labels import first_names
from lenet.errors import ConfigError
from lenet.system.text import clipped, nearest

KEY = "train.class_weights"


def class_weights(
    given: str | Sequence[float] | Mapping[str, float],
    counts: NDArray[np.int64],
    class_names: Sequence[str],
) -> NDArray[np.float64] | None:
    """Return the factor of the loss of each class, or None if all are 1.

    Examples
    --------
    >>> class_weights("balanced", np.array([90, 10, 0]), ["a", "b", "c"]).round(3)
    array([0.556, 5.   , 0.   ])
    >>> class_weights({"b": 3}, np.array([90, 10]), ["a", "b"])
    array([1., 3.])
    """
    if given == "none":
        return None
    if given == "balanced":
        classes = np.count_nonzero(counts)
        inverse = counts.sum() / (classes * np.maximum(counts, 1))
        balanced: NDArray[np.float64] = np.where(counts > 0, inverse, 0.0)
        if balanced.max() > MAX_CLASS_WEIGHT:
            balanced = np.minimum(balanced, MAX_CLASS_WEIGHT)
            balanced *= counts.sum() / (balanced @ counts)
        return balanced
    if isinstance(given, Mapping):
        _check_names(given, class_names)
        weights = np.array([given.get(name, 1.0) for name in class_names])
    else:
        weights = np.array(given, np.float64)
    if len(weights) != len(counts):
        raise ConfigError(
            f"has {len(weights)} numbers, but there are {len(counts)} classes",
            remedy=f"give one for each of {first_names(class_names)}",
            key=KEY,
        )
    if not weights @ counts:
        raise ConfigError("is 0 for all training images", remedy="give a number above 0", key=KEY)
    return weights


def _check_names(given: Mapping[str, float], class_names: Sequence[str]) -> None:
    for name in given:
        if name not in class_names:
            near = nearest(name, class_names)
            raise ConfigError(
                f"there is no class {clipped(name)}",
                remedy=f"did you mean {near}?"
                if near
                else f"the classes are {first_names(class_names)}",
                key=KEY,
            )

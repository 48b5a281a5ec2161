"""Scores of a classifier: numbers computed from a confusion matrix and a mean loss.

Rows of the confusion matrix are true classes, columns are predicted classes. A new score is one
entry of :data:`SCORES`, from which ``train.best_metric`` takes its choices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from lenet.arrays import Array


def accuracy(confusion: Array) -> float:
    """Return the share of the items whose class was predicted."""
    return int(confusion.trace()) / int(confusion.sum())


def balanced_accuracy(confusion: Array) -> float:
    """Return the mean recall of the classes that occur.

    A classifier that always names the same one of K classes has 1/K, however frequent that is.

    Examples
    --------
    >>> balanced_accuracy(np.array([[90, 0], [10, 0]]))
    0.5
    """
    occurring = confusion.sum(axis=1)
    seen = occurring > 0
    return float(np.mean(confusion.diagonal()[seen] / occurring[seen]))


def macro_f1(confusion: Array) -> float:
    """Return the mean of F1 = 2·hits/(occurrences + predictions) of the classes that occur.

    Examples
    --------
    >>> macro_f1(np.array([[1, 1], [0, 2]]))  # 2/3 and 4/5
    0.7333333333333334
    """
    occurring = confusion.sum(axis=1)
    seen = occurring > 0
    f1 = 2 * confusion.diagonal()[seen] / (occurring + confusion.sum(axis=0))[seen]
    return float(np.mean(f1))


@dataclass(frozen=True)
class Score:
    """A score, as a function of the confusion matrix and the mean loss."""

    value: Callable[[Array, float], float]
    sign: int = 1
    """1 if higher is better, -1 if lower is."""

    def rank(self, value: float, loss: float) -> tuple[float, float]:
        """Return what is larger for a better result: a tie is decided by the lower loss."""
        return self.sign * value, -loss


SCORES: Final[Mapping[str, Score]] = {
    "accuracy": Score(lambda confusion, _: accuracy(confusion)),
    "balanced_accuracy": Score(lambda confusion, _: balanced_accuracy(confusion)),
    "macro_f1": Score(lambda confusion, _: macro_f1(confusion)),
    "loss": Score(lambda _, loss: loss, sign=-1),
}

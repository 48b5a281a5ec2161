"""Classification metrics: the confusion matrix, and the scores computed from it.

Rows of the confusion matrix are true classes, columns are predicted classes. A score that is 0/0
(the precision of a class that was never predicted, the recall of one that never occurs) is
undefined: None in Python, null in JSON, ``-`` in the table; a 0 would count as a failure.

For calibration, the predictions are divided into bins of equal width by the probability of the
predicted class, their confidence. A reliability diagram shows the accuracy of each bin over its
mean confidence; the expected calibration error is the mean distance of the two, over all
predictions.

References
----------
C. Guo, G. Pleiss, Y. Sun, K. Weinberger (2017), On Calibration of Modern Neural Networks
(https://arxiv.org/abs/1706.04599), section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.data.labels import first_names
from lenet.errors import DataError
from lenet.nn.scores import balanced_accuracy
from lenet.system.text import table

SCHEMA_VERSION = 1
MAX_MATRIX = 20  # classes of a confusion matrix that is printed; of more, the worst pairs are
MAX_PAIRS = 20
BINS = 15  # of the confidence, as in the paper


def confusion_matrix(
    labels: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]], classes: int
) -> NDArray[np.int64]:
    """Count the items of each true class (row) by their predicted class (column).

    Examples
    --------
    >>> confusion_matrix(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]), classes=3)
    array([[1, 1, 0],
           [0, 1, 0],
           [0, 1, 0]])
    """
    for what, numbers in (("label", labels), ("prediction", predicted)):
        wrong = np.flatnonzero((numbers < 0) | (numbers >= classes))
        if wrong.size:
            raise DataError(
                f"{what} {numbers[wrong[0]]} is not one of {classes} classes",
                remedy="use data with the classes of the network",
                key=f"index {wrong[0]}",
            )
    cells = labels.astype(np.int64) * classes + predicted.astype(np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def reliability_bins(
    confidence: NDArray[np.floating[Any]], correct: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return (3, BINS): the predictions of each bin, the sum of their confidence, the correct ones.

    Bin b has the confidences above b/BINS, up to (b + 1)/BINS. The bins of several sets add up.

    Examples
    --------
    >>> reliability_bins(np.array([0.99, 0.97, 0.5]), np.array([True, False, True]))[:, [7, 14]]
    array([[1.  , 2.  ],
           [0.5 , 1.96],
           [1.  , 1.  ]])
    """
    edges = np.linspace(0, 1, BINS + 1)
    place = np.searchsorted(edges[1:-1], confidence)  # nan, of weights that overflow, comes last
    weights = (None, confidence, correct)
    return np.array([np.bincount(place, weight, BINS) for weight in weights], np.float64)


def calibration_error(bins: NDArray[np.float64]) -> float:
    """Return the expected calibration error, from 0 to 1, of :func:`reliability_bins`.

    With n_b predictions in bin b, Σ_b n_b/N · |accuracy_b − confidence_b|.

    Examples
    --------
    One of two is correct, at a mean confidence of 0.98:

    >>> bins = reliability_bins(np.array([0.99, 0.97]), np.array([True, False]))
    >>> round(calibration_error(bins), 2)
    0.48
    """
    count, confidence, correct = bins
    return float(np.abs(correct - confidence).sum() / count.sum())


@dataclass(frozen=True)
class ClassScores:
    """The scores of one class, in [0, 1]; None where they are 0/0."""

    label: int
    precision: float | None
    """Share of the items predicted as this class that belong to it."""
    recall: float | None
    """Share of the items of this class that were predicted as it."""
    f1: float | None
    """Harmonic mean of the two: 2·hits / (occurrences + predictions)."""
    support: int
    """Number of items of this class."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    r"""The result of an evaluation.

    Examples
    --------
    >>> cats_and_dogs = Evaluation(loss=0.5, count=10, confusion=np.array([[4, 1], [2, 3]]))
    >>> cats_and_dogs.accuracy
    0.7
    >>> print(cats_and_dogs.to_table(["cat", "dog"]))
    accuracy 70.00 %   error 30.00 % (3 of 10)   loss 0.5000
    balanced accuracy 70.00 %, the mean recall of the classes
    <BLANKLINE>
    class   precision    recall        f1   support
    0 cat     66.67 %   80.00 %   72.73 %         5
    1 dog     75.00 %   60.00 %   66.67 %         5
    <BLANKLINE>
    true \ predicted
              0    1
    0 cat     4    1
    1 dog     2    3
    """

    loss: float
    count: int
    confusion: NDArray[np.int64]
    reliability: NDArray[np.float64] | None = None

    @property
    def accuracy(self) -> float:
        """Share of the items whose class was predicted."""
        return int(self.confusion.trace()) / self.count

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that occur."""
        return balanced_accuracy(self.confusion)

    @property
    def never_predicted(self) -> list[int]:
        """The classes that occur, but were never predicted."""
        occurrences, predictions = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        found: list[int] = np.flatnonzero((occurrences > 0) & (predictions == 0)).tolist()
        return found

    @property
    def without_items(self) -> list[int]:
        """The classes that do not occur."""
        found: list[int] = np.flatnonzero(self.confusion.sum(axis=1) == 0).tolist()
        return found

    def worst_pairs(self) -> list[tuple[int, int, int]]:
        """Return the most frequent mistakes: true class, predicted class, number of items.

        Examples
        --------
        >>> Evaluation(0.5, 10, np.array([[4, 1], [2, 3]])).worst_pairs()
        [(1, 0, 2), (0, 1, 1)]
        """
        wrong = self.confusion - np.diag(self.confusion.diagonal())
        order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_PAIRS]
        pairs = zip(*(part.tolist() for part in np.unravel_index(order, wrong.shape)), strict=True)
        return [(t, p, int(wrong[t, p])) for t, p in pairs if wrong[t, p]]

    @property
    def error(self) -> float:
        """Share of the items whose class was not predicted."""
        return self.mistakes / self.count

    @property
    def mistakes(self) -> int:
        """Number of the items whose class was not predicted."""
        return self.count - int(self.confusion.trace())

    @property
    def calibration_error(self) -> float | None:
        """Expected calibration error, from 0 to 1; None if the probabilities are not known."""
        return None if self.reliability is None else calibration_error(self.reliability)

    @property
    def per_class(self) -> tuple[ClassScores, ...]:
        """The scores of each class, in order."""
        hits = self.confusion.diagonal().tolist()
        predictions = self.confusion.sum(axis=0).tolist()
        occurrences = self.confusion.sum(axis=1).tolist()
        return tuple(
            ClassScores(label, _ratio(h, p), _ratio(h, o), _ratio(2 * h, o + p), o)
            for label, (h, p, o) in enumerate(zip(hits, predictions, occurrences, strict=True))
        )

    def to_dict(self, class_names: Sequence[str] | None = None) -> dict[str, Any]:
        """Return plain numbers, lists and dictionaries, ready for JSON."""
        names = class_names or _numbers(len(self.confusion))
        return {
            "schema_version": SCHEMA_VERSION,
            "count": self.count,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "error": self.error,
            "calibration_error": self.calibration_error,
            "per_class": [
                {"label": scores.label, "name": name, **asdict(scores)}
                for name, scores in zip(names, self.per_class, strict=True)
            ],
            "never_predicted": [names[k] for k in self.never_predicted],
            "without_images": [names[k] for k in self.without_items],
            "confusion": self.confusion.tolist(),
        }

    def to_table(self, class_names: Sequence[str] | None = None) -> str:
        """Return a summary, a table of the scores by class, and the confusion matrix.

        Ten classes with names of up to 18 characters fit into 80 columns. For more than
        :data:`MAX_MATRIX` classes, the most frequent mistakes replace the matrix.
        """
        names = class_names or _numbers(len(self.confusion))
        labels = _row_labels(names)
        summary = [
            f"accuracy {_percent(self.accuracy)}   error {_percent(self.error)} "
            f"({self.mistakes} of {self.count})   loss {self.loss:.4f}",
            f"balanced accuracy {_percent(self.balanced_accuracy)}, the mean recall of the classes",
        ]
        if self.calibration_error is not None:
            summary.append(f"expected calibration error {_percent(self.calibration_error)}")
        for what, classes in (
            ("never predicted", self.never_predicted),
            ("no images", self.without_items),
        ):
            if classes:
                summary.append(f"{what}: {first_names([names[k] for k in classes])}")

        scores: list[Sequence[object]] = [("class", "precision", "recall", "f1", "support")]
        for label, s in zip(labels, self.per_class, strict=True):
            shares = (_percent(s.precision), _percent(s.recall), _percent(s.f1))
            scores.append((label, *shares, s.support))

        few = len(labels) <= MAX_MATRIX
        return "\n".join(
            [
                *summary,
                "",
                table(scores, "<>", gap=" ", min_widths=(0, 9)),
                "",
                self._matrix(labels) if few else self._pairs(names),
            ]
        )

    def _matrix(self, labels: Sequence[str]) -> str:
        """Return the confusion matrix; a zero is a dot, so that the mistakes stand out."""
        matrix: list[Sequence[object]] = [("", *range(len(self.confusion)))]
        for label, row in zip(labels, self.confusion.tolist(), strict=True):
            matrix.append((label, *(count or "." for count in row)))
        width = max(len(str(self.confusion.max())), 3) + 1
        heading = "true \\ predicted"
        return "\n".join([heading, table(matrix, "<>", gap=" ", min_widths=(0, width))])

    def _pairs(self, names: Sequence[str]) -> str:
        """Return the most frequent mistakes, with their share of the true class."""
        support = self.confusion.sum(axis=1).tolist()
        rows: list[Sequence[object]] = [
            (names[t], names[p], count, _percent(count / support[t]))
            for t, p, count in self.worst_pairs()
        ]
        if not rows:
            return "no mistakes"
        heading = ("true", "predicted", "images", "of class")
        return "\n".join(["most frequent mistakes", table([heading, *rows], "<<>")])


def _numbers(classes: int) -> list[str]:
    return [str(k) for k in range(classes)]


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _row_labels(names: Sequence[str]) -> list[str]:
    """Put a class's number before its name, unless the name is the number."""
    return [name if name == str(i) else f"{i} {name}" for i, name in enumerate(names)]

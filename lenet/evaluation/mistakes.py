"""Images that a network assigned to another class than their label's.

Either the network is wrong (the mistakes on the test images, the highest loss first), or the label
may be (images of any split for which the network is confident of another class).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lenet.checkpoint.checkpoint import Checkpoint
from lenet.checkpoint.restore import restore_network
from lenet.config.schema import Config
from lenet.data.dataset import Split
from lenet.data.formats.stored import Origin
from lenet.evaluation.images import load_images
from lenet.evaluation.loop import evaluate_probabilities, predict
from lenet.evaluation.metrics import Evaluation
from lenet.system.files import replacing

MAX_MISTAKES = 24
TYPICAL = 4  # images of a class that were predicted with most certainty, and with least
MIN_PROBABILITY = 0.95
"""Of the predicted class, for a label to be suspect."""


@dataclass(frozen=True, eq=False)
class Mistake:
    """An image that the network assigned to a wrong class."""

    index: int
    """Its number in the split."""
    image: NDArray[np.uint8]
    """As in the data set."""
    label: int
    """Its class."""
    predicted: int
    """The class that the network assigned."""
    probability: float
    """Of the class ``predicted``."""
    origin: Origin | None = None
    """The file that it came from, and the row in it."""


@dataclass(frozen=True, eq=False)
class EvaluationWithMistakes:
    """The evaluation on all test images, and all mistakes, the highest loss first."""

    evaluation: Evaluation
    mistakes: Sequence[Mistake]
    right: Sequence[Mistake] = ()
    """Of each class, some images that were predicted right: the most and the least certain."""

    @property
    def worst(self) -> Sequence[Mistake]:
        """Up to :data:`MAX_MISTAKES` mistakes with the highest loss."""
        return self.mistakes[:MAX_MISTAKES]


def evaluate_with_mistakes(
    checkpoint: Checkpoint, data_dir: str | None = None, config: Config | None = None
) -> EvaluationWithMistakes:
    """Evaluate a checkpoint on the test images of its data set, or of that of ``config``."""
    test = load_images(checkpoint, "test", config, data_dir, warn=lambda _: None)
    p = predict_split(checkpoint, test)
    p_of_label = np.take_along_axis(p, test.labels[:, None].astype(np.int64), axis=1)[:, 0]
    wrong = np.flatnonzero(p.argmax(axis=1) != test.labels)
    worst = wrong[np.argsort(p_of_label[wrong], kind="stable")]
    found = evaluate_probabilities(p, test.labels)
    return EvaluationWithMistakes(
        found, _mistakes(test, p, worst), _mistakes(test, p, _typical(test.labels, p, p_of_label))
    )


def _typical(
    labels: NDArray[np.integer], p: NDArray[np.float64], p_of_label: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return, class by class, the images predicted right with the most and the least certainty."""
    right = np.flatnonzero(p.argmax(axis=1) == labels)
    right = right[np.lexsort((-p_of_label[right], labels[right]))]
    ends = np.searchsorted(labels[right], np.arange(p.shape[1] + 1))
    kept = [
        part if len(part) <= 2 * TYPICAL else np.concatenate([part[:TYPICAL], part[-TYPICAL:]])
        for part in (right[a:b] for a, b in pairwise(ends.tolist()))
    ]
    return np.concatenate(kept)


def suspect_labels(checkpoint: Checkpoint, split: Split) -> list[Mistake]:
    """Return the images whose label may be wrong, the most confident prediction first.

    ``split`` has images and labels that fit the network, as those of
    :func:`lenet.evaluation.images.for_network` do.
    """
    p = predict_split(checkpoint, split)
    highest = p.max(axis=1)
    suspects = np.flatnonzero((p.argmax(axis=1) != split.labels) & (highest >= MIN_PROBABILITY))
    return _mistakes(split, p, suspects[np.argsort(-highest[suspects], kind="stable")])


def predict_split(checkpoint: Checkpoint, split: Split) -> NDArray[np.float64]:
    """Return the probabilities (count, classes) of all images of a split."""
    return predict(restore_network(checkpoint), checkpoint.preprocessing, split.images)


def _mistakes(split: Split, p: NDArray[np.float64], rows: NDArray[np.int64]) -> list[Mistake]:
    predicted, highest = p.argmax(axis=1), p.max(axis=1)
    return [
        Mistake(
            *(int(i), split.images[i], int(split.labels[i]), int(predicted[i]), float(highest[i])),
            split.origin(int(i)),
        )
        for i in rows
    ]


def write_mistakes(file: Path, mistakes: Sequence[Mistake], class_names: Sequence[str]) -> None:
    """Write all mistakes to a CSV file, which ``--labels`` takes when it is corrected."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("path", "label", "predicted", "probability"))
    for m in mistakes:
        names = class_names[m.label], class_names[m.predicted]
        rows.writerow((m.origin, *names, f"{m.probability:.4f}"))
    with replacing(file) as out:
        out.write(text.getvalue().encode("utf-8"))

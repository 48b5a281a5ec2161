"""The misclassified test images, those with the highest loss first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenet.data.datasets import Split
from lenet.data.loader import SLICE, Loader
from lenet.train.checkpoint import Checkpoint
from lenet.train.evaluation import evaluate_probabilities, probabilities
from lenet.train.metrics import Evaluation
from lenet.train.restore import load_images, restore_network

MAX_MISTAKES = 24


@dataclass(frozen=True, eq=False)
class Mistake:
    """An image that the network assigned to a wrong class."""

    index: int
    """Its number among the test images."""
    image: NDArray[np.uint8]
    """As in the data set."""
    label: int
    """Its class."""
    predicted: int
    """The class that the network assigned."""
    probability: float
    """Of the class ``predicted``."""


@dataclass(frozen=True, eq=False)
class EvaluationWithMistakes:
    """The evaluation on all test images, and all mistakes, the highest loss first."""

    evaluation: Evaluation
    mistakes: Sequence[Mistake]

    @property
    def worst(self) -> Sequence[Mistake]:
        """Up to :data:`MAX_MISTAKES` mistakes with the highest loss."""
        return self.mistakes[:MAX_MISTAKES]


def predict_split(checkpoint: Checkpoint, split: Split) -> NDArray[np.float64]:
    """Return the probabilities (count, classes) of all images of a split."""
    network = restore_network(checkpoint)
    loader = Loader(
        split.images,
        split.labels,
        batch_size=SLICE,
        preprocessing=checkpoint.preprocessing,
        dtype=network.dtype,
    )
    return probabilities(network, loader)


def evaluate_with_mistakes(
    checkpoint: Checkpoint, data_dir: str | None = None
) -> EvaluationWithMistakes:
    """Evaluate a checkpoint on the test images of its data set.

    Parameters
    ----------
    checkpoint
        The network, and the data set that it was trained on.
    data_dir
        Searched first for the files.

    Returns
    -------
    The evaluation and the mistakes, the highest loss first.

    Raises
    ------
    LenetError
        The test images cannot be read, or do not fit the network.
    """
    test = load_images(checkpoint, "test", directory=data_dir)
    p = predict_split(checkpoint, test)
    labels, predicted = test.labels, p.argmax(axis=1)
    p_of_label = np.take_along_axis(p, labels[:, None].astype(np.int64), axis=1)[:, 0]
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(p_of_label[wrong], kind="stable")]
    mistakes = [
        Mistake(int(i), test.images[i], int(labels[i]), int(predicted[i]), float(p[i].max()))
        for i in worst
    ]
    return EvaluationWithMistakes(evaluate_probabilities(p, labels), mistakes)

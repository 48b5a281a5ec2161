"""Evaluation of a network: its loss and confusion matrix over a set of images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lenet.arrays import small_buffer
from lenet.data.loader import Loader
from lenet.nn.losses import softmax
from lenet.nn.network import Network
from lenet.parallel.communicator import Communicator
from lenet.train.calibration import BINS, reliability_bins
from lenet.train.metrics import Evaluation, confusion_matrix


@small_buffer()
@np.errstate(over="ignore", invalid="ignore")  # weights may be arbitrary; the result may be nan
def evaluate(network: Network, loader: Loader, communicator: Communicator) -> Evaluation:
    """Return loss, confusion matrix and calibration of ``network`` over all images of ``loader``.

    Each worker evaluates its part of each batch; all workers get the complete result.
    """
    (classes,) = network.output_shape
    loss = network.default_loss()
    entropy, confusion = 0.0, np.zeros((classes, classes), np.int64)
    reliability = np.zeros((3, BINS))
    with network.evaluating():
        for batch in loader.epoch():
            if batch.labels.size:
                z = network.forward(batch.x)
                entropy += loss.forward(z, batch.labels, 1)
                predicted = network.scores(z).argmax(axis=0)
                confusion += confusion_matrix(batch.labels, predicted, classes)
                confidence = loss.probabilities(z).max(axis=0)
                reliability += reliability_bins(confidence, predicted == batch.labels)
    cells = confusion.size
    figures = np.concatenate([confusion.ravel(), reliability.ravel(), [entropy]])
    figures = communicator.sum_figures(figures)
    confusion = figures[:cells].reshape(classes, classes).astype(np.int64)
    count = int(confusion.sum())
    reliability = figures[cells:-1].reshape(3, BINS)
    return Evaluation(float(figures[-1]) / count, count, confusion, reliability)


@small_buffer()
@np.errstate(over="ignore", invalid="ignore")  # weights may be arbitrary; the result may be nan
def probabilities(network: Network, loader: Loader, epoch: int = 0) -> NDArray[np.float64]:
    """Return the probabilities (count, classes) of all images of ``loader``."""
    with network.evaluating():
        outputs = (network.forward(batch.x).astype(np.float64) for batch in loader.epoch(epoch))
        return np.concatenate([softmax(network.scores(z)).T for z in outputs])


def evaluate_probabilities(
    probabilities: NDArray[np.float64], labels: NDArray[np.uint8]
) -> Evaluation:
    """Return the evaluation of probabilities (count, classes) for known labels."""
    count, classes = probabilities.shape
    of_label = probabilities[np.arange(count), labels]
    loss = -float(np.log(np.maximum(of_label, np.finfo(of_label.dtype).tiny)).mean())
    predicted = probabilities.argmax(axis=1)
    reliability = reliability_bins(probabilities.max(axis=1), predicted == labels)
    return Evaluation(loss, count, confusion_matrix(labels, predicted, classes), reliability)

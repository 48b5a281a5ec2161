"""The loop from images to probabilities, in evaluation mode, and the evaluation on top of it.

Everything that uses a trained network goes through :func:`scores`, :func:`probabilities`,
:func:`predict` or :func:`evaluate`. Weights may be arbitrary, so a result may be nan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lenet.arrays import Array, small_buffer
from lenet.data.loader import SLICE, Loader
from lenet.data.preprocessing import Preprocessing
from lenet.evaluation.metrics import BINS, Evaluation, confusion_matrix, reliability_bins
from lenet.nn.losses import softmax
from lenet.nn.network import Network
from lenet.parallel.communicator import Communicator, SingleProcess


def batches(
    images: NDArray[np.uint8],
    preprocessing: Preprocessing,
    dtype: DTypeLike = np.float32,
    size: int = SLICE,
) -> Iterator[Array]:
    """Yield images (N,H,W) or (N,C,H,W) as inputs (C,H,W,n) of a network, ``size`` at once."""
    for start in range(0, len(images), size):
        yield preprocessing.prepare(images[start : start + size], dtype)


Batches: TypeAlias = Iterable[tuple[Array, NDArray[Any] | None]]
"""Inputs (C,H,W,n) with their labels (n,), if these are known."""


def _outputs(network: Network, pairs: Batches) -> Iterator[tuple[Array, Any]]:
    """Yield the outputs (classes, n) for each input, with its labels."""
    with network.evaluating():
        for x, labels in pairs:
            yield network.forward(x), labels


def scores(network: Network, inputs: Iterable[Array]) -> NDArray[np.float64]:
    """Return the scores (count, classes) for inputs (C,H,W,n), the highest for the predicted class.

    For a network whose outputs are distances, they are negated.
    """
    return _stacked(network, inputs, lambda z: z)


def probabilities(network: Network, inputs: Iterable[Array]) -> NDArray[np.float64]:
    """Return the probabilities (count, classes) for inputs (C,H,W,n)."""
    return _stacked(network, inputs, softmax)


@small_buffer()
@np.errstate(over="ignore", invalid="ignore")
def _stacked(
    network: Network, inputs: Iterable[Array], function: Callable[[Array], Array]
) -> NDArray[np.float64]:
    found = [
        function(network.scores(z).astype(np.float64)).T
        for z, _ in _outputs(network, ((x, None) for x in inputs))
    ]
    return np.concatenate([np.empty((0, *network.output_shape)), *found])


def predict(
    network: Network, preprocessing: Preprocessing, images: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Return the probabilities (N, classes) of images (N,H,W) or (N,C,H,W)."""
    return probabilities(network, batches(images, preprocessing, network.dtype))


@small_buffer()
@np.errstate(over="ignore", invalid="ignore")
def evaluate(
    network: Network, loader: Loader, communicator: Communicator | None = None
) -> Evaluation:
    """Return loss, confusion matrix and calibration of ``network`` over all images of ``loader``.

    Each worker evaluates its part of each batch; all workers get the complete result.
    """
    (classes,) = network.output_shape
    loss = network.default_loss()
    total, confusion = 0.0, np.zeros((classes, classes), np.int64)
    reliability = np.zeros((3, BINS))
    # A worker may have no part in the last batch.
    parts = ((batch.x, batch.labels) for batch in loader.epoch() if batch.labels.size)
    for z, labels in _outputs(network, parts):
        total += loss.forward(z, labels, 1)
        predicted = network.scores(z).argmax(axis=0)
        confusion += confusion_matrix(labels, predicted, classes)
        confidence = loss.probabilities(z).max(axis=0)
        reliability += reliability_bins(confidence, predicted == labels)
    sums = np.concatenate([confusion.ravel(), reliability.ravel(), [total]])
    sums = (communicator or SingleProcess()).sum_figures(sums)
    cells = confusion.size
    confusion = sums[:cells].reshape(classes, classes).astype(np.int64)
    count = int(confusion.sum())
    return Evaluation(float(sums[-1]) / count, count, confusion, sums[cells:-1].reshape(3, BINS))


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

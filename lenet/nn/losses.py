"""Losses with their gradients.

Softmax and cross-entropy are one function.

For scores z (classes × N) and labels y, as in docs/derivation.md, 5:

    probs = exp(z − max z) / Σ exp(z − max z)       the maximum is subtracted: exp cannot overflow
    E     = −(1/N) · Σ ln probs[y]
    ∇z    = (probs − Y) / N                         Y one-hot; with 1/N here, and nowhere else

For distances y (classes × N), the outputs of an RBF layer, :class:`MAPLoss`.

With class weights w, the loss of each image and its gradient are multiplied by that of its label:

    E  = (1/N) · Σ w[y] · (…)        ∇z = w[y] · (…) / N
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import DTypeLike

from lenet.arrays import Array
from lenet.errors import DataError, OrderError


class Loss(ABC):
    """The loss of a batch, given the outputs of the last layer and the labels.

    Attributes
    ----------
    classes
        The number of outputs of an image.
    class_weights
        w (classes,), or None for 1.
    correct
        After ``forward``, the number of images whose label has the highest score: the first of
        equal ones, as in evaluation.
    """

    def __init__(self, classes: int, class_weights: Array | None) -> None:
        self.classes, self.class_weights = classes, class_weights
        self.correct = 0
        self.dz: Array = np.empty((classes, 0))

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        """Size the buffers for batches of N images."""
        self.dz = np.empty((self.classes, N), dtype)
        self.probs = np.empty_like(self.dz)
        self.row, self.chosen = (np.empty(N, dtype) for _ in range(2))  # row: the images' losses
        self.images, self.labels = np.arange(N), np.empty(N, np.intp)
        if self.class_weights is not None:
            self.image_weights = np.empty(N, self.class_weights.dtype)

    def forward(self, z: Array, labels: Array, batch: int | None = None) -> float:
        """Return the sum of the losses of the images divided by ``batch``, those of the batch.

        ``batch`` is N unless z (classes, N) is only a worker's part of the batch: then the parts'
        losses and gradients add up to those of the whole.

        Raises
        ------
        DataError
            The labels are not N integers from 0 to classes − 1.
        """
        N = z.shape[1]
        if self.dz.shape[1] != N or self.dz.dtype != z.dtype:
            self.allocate(N, z.dtype)
        self.batch = batch or N
        labels = np.asarray(labels)
        check_labels(labels, N, self.classes)
        np.copyto(self.labels, labels, casting="unsafe")
        self.set_losses(z)
        if self.class_weights is not None:
            np.take(self.class_weights, self.labels, out=self.image_weights, mode="clip")
            self.row *= self.image_weights
        return float(self.row.sum(dtype=np.float64)) / self.batch

    def backward(self) -> Array:
        """Return ∂E/∂z of the last forward pass.

        Raises
        ------
        OrderError
            There has been no forward pass.
        """
        if not self.dz.shape[1]:
            raise OrderError(
                "backward was called before forward",
                remedy="call forward with scores and labels first",
                key="loss",
            )
        self.set_gradient()
        self.dz /= self.batch
        if self.class_weights is not None:
            self.dz *= self.image_weights
        return self.dz

    @abstractmethod
    def set_losses(self, z: Array) -> None:
        """Set ``row`` to the losses of the images for outputs z (classes, N), and ``correct``."""

    @abstractmethod
    def set_gradient(self) -> None:
        """Set ``dz`` to the gradient of the sum of the losses."""

    @abstractmethod
    def scores(self, z: Array) -> Array:
        """Return the outputs z (classes, N) so that the largest is predicted."""

    def probabilities(self, z: Array) -> Array:
        """Return the probabilities of the classes (classes, N) for outputs z."""
        return softmax(self.scores(z))


class SoftmaxCrossEntropy(Loss):
    """The mean cross-entropy of a batch and its gradient with respect to the scores.

    Parameters
    ----------
    classes
        The number of scores of an image.
    label_smoothing
        ε of C. Szegedy et al. (2016): the target is 1 − ε for the label plus ε/classes for all.
    class_weights
        w (classes,), of the labels.
    """

    def __init__(
        self, classes: int, label_smoothing: float = 0.0, class_weights: Array | None = None
    ) -> None:
        super().__init__(classes, class_weights)
        self.smoothing = label_smoothing

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        super().allocate(N, dtype)
        self.uniform = np.empty(N, dtype)
        self.targets = np.empty(N, np.intp)

    def set_losses(self, z: Array) -> None:
        N = z.shape[1]
        np.multiply(self.labels, N, out=self.targets)
        self.targets += self.images  # the index of each label's score in the flat (classes × N)
        np.max(z, axis=0, out=self.row)
        np.subtract(z, self.row, out=self.dz)  # z − max z, until backward
        np.exp(self.dz, out=self.probs)
        np.sum(self.probs, axis=0, out=self.row)
        self.probs /= self.row
        np.take(self.dz, self.targets, out=self.chosen, mode="clip")  # "raise" would make a copy
        self.correct = N - np.count_nonzero(self.chosen)  # the maxima are the zeros of dz
        if self.dz.size - np.count_nonzero(self.dz) > N:  # a tie: the first is predicted
            self.correct = int(np.count_nonzero(np.argmax(z, axis=0) == self.labels))
        if self.smoothing:
            np.mean(self.dz, axis=0, out=self.uniform)
            self.uniform -= self.chosen
            self.uniform *= self.smoothing
            self.chosen += self.uniform
        np.log(self.row, out=self.row)
        self.row -= self.chosen

    def set_gradient(self) -> None:
        # ∇z = (probs − Y)/N, here without 1/N
        np.subtract(self.probs, self.smoothing / self.classes, out=self.dz)
        self.dz.reshape(-1)[self.targets] -= 1 - self.smoothing

    def scores(self, z: Array) -> Array:
        return z


class MAPLoss(Loss):
    """The loss of the first LeNet-5, for an RBF layer: its outputs y are distances.

    With labels d, and a constant j > 0,

        E  = (1/N) · Σ [ y_d + ln(e^−j + Σ_i e^−y_i) ]
        ∇y = (D − e^−y / (e^−j + Σ_i e^−y_i)) / N            D one-hot

    The first term pulls the output towards its label's vector; the second ("maximum a posteriori")
    pushes it away from those of the other classes, until their distance is well beyond j.
    Y. LeCun et al. (1998), eq. 9; the paper gives no number for j.

    Parameters
    ----------
    classes
        The number of outputs of an image.
    j
        The distance beyond which a wrong class is pushed away no further.
    class_weights
        w (classes,), of the labels.
    """

    def __init__(self, classes: int, j: float = 1.0, class_weights: Array | None = None) -> None:
        super().__init__(classes, class_weights)
        self.j = j

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        super().allocate(N, dtype)
        self.nearest = np.empty(N, dtype)
        self.predicted = np.empty(N, np.intp)

    def set_losses(self, z: Array) -> None:
        np.argmin(z, axis=0, out=self.predicted)
        self.correct = int(np.count_nonzero(self.predicted == self.labels))
        # ln(e^−j + Σ e^−y) = −m + ln(e^(m−j) + Σ e^(m−y)) with m = min(j, min y): no overflow.
        np.min(z, axis=0, out=self.nearest)
        np.minimum(self.nearest, self.j, out=self.nearest)
        np.subtract(self.nearest, z, out=self.probs)
        np.exp(self.probs, out=self.probs)
        np.sum(self.probs, axis=0, out=self.row)
        self.row += np.exp(self.nearest - self.j)
        self.probs /= self.row  # e^−y / (e^−j + Σ e^−y)
        np.copyto(self.chosen, z[self.labels, self.images])
        np.log(self.row, out=self.row)
        self.row -= self.nearest
        self.row += self.chosen

    def set_gradient(self) -> None:
        np.negative(self.probs, out=self.dz)
        self.dz[self.labels, self.images] += 1

    def scores(self, z: Array) -> Array:
        return -z


def check_labels(labels: Array, N: int, classes: int) -> None:
    """Refuse labels that are not N integers from 0 to classes − 1.

    Raises
    ------
    DataError
        The message names the first label that is out of range.
    """
    if labels.shape != (N,) or labels.dtype.kind not in "iu":
        raise DataError(
            f"must be {N} integers, one per image, are {labels.dtype} of shape {labels.shape}",
            remedy="give an integer array (N,) for scores (classes, N)",
            key="labels",
        )
    signed = labels.dtype.kind == "i"
    if labels.max(initial=0) >= classes or (signed and labels.min(initial=0) < 0):
        index = int(np.argmax((labels < 0) | (labels >= classes)))
        raise DataError(
            f"is {labels[index]}, not a class from 0 to {classes - 1}",
            remedy="number the classes from 0, or give the network an output for every class",
            key=f"label {index}",
        )


def softmax(z: Array) -> Array:
    """Return the probabilities of scores z (classes, N), one column per image.

    Examples
    --------
    >>> softmax(np.array([[1000.0, 0.0], [1000.0, 0.0]]))
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    e: Array = np.exp(z - z.max(axis=0))
    e /= e.sum(axis=0)
    return e

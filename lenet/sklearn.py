"""A classifier of images with scikit-learn's interface; needs the extra ``sklearn``.

It passes scikit-learn's ``check_estimator`` and works in pipelines, cross-validation and searches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet.model import Model
from lenet.models.specification import Entry
from lenet.system.extras import require

base = require("sklearn.base", extra="sklearn")
utils = require("sklearn.utils", extra="sklearn")
multiclass = require("sklearn.utils.multiclass", extra="sklearn")
validation = require("sklearn.utils.validation", extra="sklearn")

MIN_SIDE_OF_LENET5 = 12
MIN_SIDE_OF_CONVOLUTIONS = 6
DISTORTIONS = {"augment.shift": 0.7, "augment.rotation": 10.0, "augment.scale": 0.1}
"""Of training images with at least the second size."""
MIN_EPOCHS, MIN_STEPS = 30, 400
"""Of a training whose number of epochs is not given."""


class LeNetClassifier(base.ClassifierMixin, base.BaseEstimator):  # type: ignore[misc, name-defined]
    """A convolutional network as a classifier of images.

    Parameters
    ----------
    layers
        Entries of a specification as under ``model.layers`` in a configuration, of which the last
        one has as many units as there are classes. By default LeNet-5 for images of at least 12×12
        pixels, two smaller convolutions for at least 6×6, and one hidden layer for anything else.
    image_shape
        (H,W) or (H,W,C) of the rows of an X of shape (N, D). By default a square of one channel;
        where D is not a square, the features are one row of pixels.
    epochs
        Passes over the images; by default 30, or more if that is fewer than 400 steps.
    batch_size, lr
        Images per step (at most a tenth of them), highest learning rate.
    settings
        Further keys of a configuration with their values. Images of at least 6×6 pixels are
        distorted a little; ``{"augment.rotation": 0, "augment.scale": 0}`` only shifts them.
    random_state
        Seed of the initial weights and of all other random numbers of the training.

    Attributes
    ----------
    classes_
        The labels, sorted.
    n_features_in_
        H·W·C of the images.
    model_
        The trained :class:`lenet.Model`, to save, plot or export.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> LeNetClassifier(random_state=0).fit(X[:1000], y[:1000]).score(X[1000:], y[1000:]) > 0.93
    True
    """

    def __init__(
        self,
        layers: Sequence[Entry] | None = None,
        *,
        image_shape: tuple[int, ...] | None = None,
        epochs: int | None = None,
        batch_size: int = 32,
        lr: float = 0.03,
        settings: Mapping[str, object] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.layers = layers
        self.image_shape = image_shape
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.settings = settings
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> LeNetClassifier:
        """Train on images X, (N, D), (N,H,W) or (N,H,W,C), with labels y (N,) of any type.

        The smallest and the largest number of X become the darkest and the lightest pixel.

        Raises
        ------
        ValueError
            X and y do not fit each other, or y has only one class.
        """
        rows, shape = _rows(X)
        rows, y = validation.validate_data(self, rows, y, dtype="numeric")
        multiclass.check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("y has 1 class; a classifier needs at least two classes")
        self._shape = shape or self._shape_of_rows(rows.shape[1])
        low, high = (0, 255) if rows.dtype == np.uint8 else (rows.min(), rows.max())
        self._low, self._high = float(low), float(max(high, np.nextafter(low, np.inf)))
        images = self._images(rows)
        C, H, W = images.shape[1:]
        layers, margin = _layers(min(H, W), len(self.classes_))
        seed = utils.check_random_state(self.random_state).randint(2**31 - 1)
        # Standardised: mean 0 and variance 1 of the training images, on their median border.
        scale = 1 / max(float(images.std()), 1.0)
        border = np.concatenate([images[:, :, [0, -1]], images[..., [0, -1]].swapaxes(2, 3)], -1)
        self.model_ = Model.from_layers(
            self.layers or layers,
            (C, H + 2 * margin, W + 2 * margin),
            scale=scale,
            shift=-float(images.mean()) * scale,
            background=int(np.median(border)),
            seed=seed,
        )
        batch = max(1, min(self.batch_size, len(images) // 10))
        epochs = self.epochs or max(MIN_EPOCHS, math.ceil(MIN_STEPS / (len(images) / batch)))
        self.model_.fit(
            images,
            labels,
            epochs=epochs,
            batch_size=batch,
            lr=self.lr,
            validation_split=0,
            seed=seed,
            settings={**(DISTORTIONS if margin else {}), **(self.settings or {})},
        )
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probabilities (N, classes), in the order of ``classes_``."""
        validation.check_is_fitted(self, "model_")
        rows = validation.validate_data(self, _rows(X)[0], reset=False, dtype="numeric")
        return self.model_.predict(self._images(rows)).astype(np.float64)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable label (N,) of each image."""
        validation.check_is_fitted(self, "model_")
        labels: NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels

    def _shape_of_rows(self, D: int) -> tuple[int, ...]:
        """Return (H,W) or (H,W,C) of images that are rows of D numbers."""
        if self.image_shape is not None:
            if math.prod(self.image_shape) != D:
                raise ValueError(f"image_shape is {self.image_shape}, but X has {D} features")
            return tuple(self.image_shape)
        side = math.isqrt(D)
        return (side, side) if side * side == D else (1, D)

    def _images(self, rows: NDArray[Any]) -> NDArray[np.uint8]:
        """Return rows (N, D) as images (N,C,H,W)."""
        H, W, C = (*self._shape, 1)[:3]
        levels = (rows - self._low) * (255 / (self._high - self._low))
        images = np.rint(levels.clip(0, 255)).astype(np.uint8).reshape(len(rows), H, W, C)
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _rows(X: Any) -> tuple[Any, tuple[int, ...] | None]:  # noqa: ANN401
    """Return images (N,H,W) or (N,H,W,C) as rows (N, D), and their shape; others as they are."""
    shape = np.shape(X) if isinstance(X, np.ndarray | list | tuple) else ()
    if len(shape) in (3, 4):
        return np.asarray(X).reshape(shape[0], math.prod(shape[1:])), shape[1:]
    return X, None


def _layers(side: int, classes: int) -> tuple[list[Entry], int]:
    """Return a network for images whose shorter side has so many pixels, and its margin."""
    last: Entry = {"type": "linear", "units": classes}
    if side >= MIN_SIDE_OF_LENET5:
        hidden = [_linear(120), _linear(84)]
        return [_convolution(6, 5), POOLING, _convolution(16, 5), POOLING, *hidden, last], 2
    if side >= MIN_SIDE_OF_CONVOLUTIONS:
        convolutions = [_convolution(24, 3), _convolution(48, 3), POOLING]
        return [*convolutions, _linear(96), {"type": "dropout", "rate": 0.4}, last], 1
    return [_linear(64), last], 0


POOLING: Entry = {"type": "max_pooling"}


def _convolution(filters: int, kernel: int) -> Entry:
    return {"type": "convolution", "filters": filters, "kernel": kernel, "activation": "relu"}


def _linear(units: int) -> Entry:
    return {"type": "linear", "units": units, "activation": "relu"}

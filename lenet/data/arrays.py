"""Images and labels that a program gives as arrays, checked as those of files are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.data.labels import Labels, as_labels, check_labels
from lenet.data.levels import pictures
from lenet.data.preprocessing import Preprocessing
from lenet.errors import DataError


def image_array(
    images: object, input_shape: tuple[int, int, int], count: int | None = None
) -> NDArray[np.uint8]:
    """Return images as uint8 (N,H,W) or (N,C,H,W), C-contiguous.

    Parameters
    ----------
    images
        (N,C,H,W), or any layout of :func:`lenet.data.levels.pictures`, such as (N,H,W). Integers
        are pixel values from 0 (background) to 255; floats are from 0 to 1, which becomes 255.
    input_shape
        (C,H,W) of the network. Images of its channels, or of exactly its size, need no other rule.
    count
        The number of images, if it is known; then (N,H,W) needs no other rule.

    Raises
    ------
    DataError
        They are of another type or layout.

    Examples
    --------
    >>> image_array(np.full((2, 28, 28), 0.5), (1, 32, 32)).max()
    np.uint8(128)
    >>> image_array(np.full((2, 28, 28), 128.0), (1, 32, 32))
    Traceback (most recent call last):
    lenet.errors.DataError: images: floats must be from 0 to 1, are from 128 to 128; divide them by
    their maximum, or give integers from 0 (background) to 255
    """
    array = _levels(_array(images, "images"))
    C, H, W = input_shape
    fits = array.ndim == 4 and array.shape[1] == C
    if array.ndim == 3 and C == 1:
        fits = len(array) == count or array.shape[1:] == (H, W)
    if not fits or not array.size:
        try:
            array, _ = pictures(array)
        except DataError as error:
            error.key = "images"
            raise
        if array.ndim == 4:
            array = array.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(array)


def _levels(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return pixel values as uint8: integers from 0 to 255, or floats from 0 to 1, times 255."""
    kind, most = array.dtype.kind, 255 if array.dtype.kind in "iu" else 1
    if array.dtype == np.uint8 or not array.size:
        return array.astype(np.uint8, copy=False)
    if kind not in "iufb":
        raise DataError(
            f"must be numbers, are {array.dtype}",
            remedy="give integers from 0 (background) to 255, or floats from 0 to 1",
            key="images",
        )
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= most):  # also nan
        what = "integers" if most == 255 else "floats"
        raise DataError(
            f"{what} must be from 0 to {most}, are from {low:g} to {high:g}",
            remedy="divide them by their maximum, or give integers from 0 (background) to 255"
            if most == 1
            else "give pixel values from 0 (background) to 255",
            key="images",
        )
    scaled = array if most == 255 else np.rint(array * np.float64(255))
    return scaled.astype(np.uint8)


def labelled_images(
    images: object, labels: object, preprocessing: Preprocessing, classes: int
) -> tuple[NDArray[np.uint8], Labels]:
    """Return images and their class indices, which fit each other and a network.

    Parameters
    ----------
    images
        As for :func:`image_array`.
    labels
        Integers (N,), or whatever else :func:`lenet.data.labels.as_labels` takes.
    preprocessing
        Of the network.
    classes
        Its number of classes.

    Raises
    ------
    DataError
        They are of another type or shape, or do not fit.
    """
    file, found = Path("labels"), _array(labels, "labels")
    count = len(found) if found.ndim else None
    array = image_array(images, preprocessing.input_shape, count)
    preprocessing.check(array)
    indices = as_labels(found, file)
    check_labels(indices, file, len(array), classes)
    return array, indices


def _array(values: object, key: str) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError:  # rows of different lengths
        raise DataError(
            "is not a rectangular array: its rows have different shapes",
            remedy="give one array",
            key=key,
        ) from None

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
        uint8 (N,C,H,W), or any layout of :func:`lenet.data.levels.pictures`, such as (N,H,W).
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
    >>> image_array(np.zeros((2, 28, 28)), (1, 32, 32))
    Traceback (most recent call last):
    lenet.errors.DataError: images: must be uint8, are float64; give pixel values from 0
    (background) to 255
    """
    array = _array(images, "images")
    if array.dtype != np.uint8:
        raise DataError(
            f"must be uint8, are {array.dtype}",
            remedy="give pixel values from 0 (background) to 255",
            key="images",
        )
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
            "is no array, its parts have different shapes",
            remedy="give one array",
            key=key,
        ) from None

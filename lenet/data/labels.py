"""Labels in common forms (integers, one-hot rows), converted to class indices (N,)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lenet.errors import DataError

Labels: TypeAlias = NDArray[Any]
"""Class indices (N,), uint8 or uint16."""

MAX_CLASSES = 65_536
QMNIST_COLUMNS = 8  # https://github.com/facebookresearch/qmnist: the first is the class


def as_labels(array: NDArray[Any], file: Path, key: str | None = None) -> Labels:
    """Return class indices (N,), uint8 where they fit and uint16 otherwise.

    Examples
    --------
    >>> as_labels(np.array([[0, 0, 1], [1, 0, 0]]), Path("labels"))
    array([2, 0], dtype=uint8)
    """
    labels = _one_axis(array, file, key)
    whole = np.isfinite(labels) & (np.rint(labels) == labels)
    if not whole.all():
        wrong = int(np.argmin(whole))
        raise DataError(
            f"label {wrong} is {labels[wrong]}, labels are integers",
            remedy="give class indices from 0",
            file=file,
            key=key,
        )
    low, high = labels.min(), labels.max()
    if low < 0 or high >= MAX_CLASSES:
        wrong = int(np.argmax((labels < 0) | (labels >= MAX_CLASSES)))
        raise DataError(
            f"label {wrong} is {labels[wrong]}, labels are from 0 to {MAX_CLASSES - 1}",
            remedy="number the classes from 0",
            file=file,
            key=key,
        )
    return np.asarray(labels, np.uint8 if high < 256 else np.uint16)


def _one_axis(array: NDArray[Any], file: Path, key: str | None) -> NDArray[Any]:
    if array.size and array.dtype.kind in "buif":
        if array.ndim and array.size == len(array):
            return array.reshape(-1)
        if array.ndim == 2 and ((array == 0) | (array == 1)).all():
            if (np.count_nonzero(array, axis=1) == 1).all():
                return np.asarray(array.argmax(axis=1))
        elif array.ndim == 2 and array.shape[1] == QMNIST_COLUMNS and array.dtype.kind in "ui":
            return array[:, 0]
    images = array.ndim >= 3
    raise DataError(
        f"contains {array.dtype} of shape {array.shape}, labels are integers (N,), or one-hot "
        "(N,classes)",
        remedy="exchange images and labels"
        if images
        else "store one class index for each image: lenet.data.formats.idx.write_idx(path, labels)",
        file=file,
        key=key,
    )


def check_labels(
    labels: Labels,
    file: Path,
    count: int,
    classes: int | None,
    key: str | None = None,
    *,
    set_by: str | None = None,
) -> None:
    """Reject labels that do not match the images or the classes."""
    if len(labels) != count:
        raise DataError(
            f"contains {len(labels):,} labels for {count:,} images",
            remedy="name files that belong together",
            file=file,
            key=key,
        )
    if classes is None or labels.max() < classes:
        return
    index, needed = int(np.argmax(labels >= classes)), int(labels.max()) + 1
    stated = f", {set_by} is {classes}" if set_by == "model.classes" else ""
    problem = f"label {index} is {labels[index]}, the {classes} classes are 0 to {classes - 1}"
    remedy = "correct it"
    if labels.min() == 1 and labels.max() == classes:
        problem = (
            "labels count from 0, and these seem to begin at 1: they are 1 to "
            f"{classes}{stated or f', there are {classes} classes'}"
        )
        remedy = "subtract 1 from them"
    if set_by == "model.classes":
        remedy += f", or set model.classes to {needed}"
    elif set_by is not None:
        remedy += f", or give {needed} names in {set_by}"
    raise DataError(problem, remedy=remedy, file=file, key=key)


def numbers(count: int) -> tuple[str, ...]:
    """Return the names of classes without other names: their numbers.

    Examples
    --------
    >>> numbers(3)
    ('0', '1', '2')
    """
    return tuple(map(str, range(count)))


def missing_classes(labels: Labels, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the classes that no image has.

    Examples
    --------
    >>> missing_classes(np.array([0, 2, 2]), ("a", "b", "c"))
    ('b',)
    """
    counts = np.bincount(labels, minlength=len(names))
    return tuple(name for name, count in zip(names, counts, strict=True) if not count)


def remark_on_missing(labels: Labels, names: tuple[str, ...], what: str) -> str | None:
    """Return the line that reports classes without ``what``, or None if there are none.

    Examples
    --------
    >>> remark_on_missing(np.array([0, 2, 2]), ("a", "b", "c"), "images")
    'no images of class b'
    """
    missing = missing_classes(labels, names)
    if not missing:
        return None
    remark = f"no {what} of class{'es' * (len(missing) > 1)} {first_names(missing)}"
    if missing == ("0",) and names == numbers(len(names)):
        remark += (
            ": the labels seem to begin at 1; subtract 1 from them, or leave them so, with an "
            f"unused class (model.classes {len(names)})"
        )
    return remark


def first_names(names: Sequence[str]) -> str:
    """Return up to twelve class names, separated by commas, and whether there are more.

    Examples
    --------
    >>> first_names(("a", "b")), first_names("abcdefghijklm")
    ('a, b', 'a, b, c, d, e, f, g, h, i, j, k, l …')
    """
    return f"{', '.join(names[:12])}{' …' * (len(names) > 12)}"

"""Image arrays of any number type and layout, converted to uint8, channels first."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lenet.errors import DataError

Levels: TypeAlias = tuple[float, float]
"""The two numbers that are stored as 0 and 255."""

BYTES: Levels = (0.0, 255.0)
MAX_CHANNELS = 4
PIXELS_OF_MNIST = 28 * 28
BLOCK = 4096  # images converted at once: the float64 copies of a block are small


def channels_first(array: NDArray[Any], file: Path, key: str | None = None) -> NDArray[Any]:
    """Return images as (N,H,W), or (N,C,H,W) if they have 2 to 4 channels.

    Examples
    --------
    >>> channels_first(np.zeros((5, 28, 28, 1)), Path("images")).shape
    (5, 28, 28)
    >>> channels_first(np.zeros((5, 32, 30, 3)), Path("images")).shape
    (5, 3, 32, 30)
    >>> channels_first(np.zeros((5, 784)), Path("images")).shape
    (5, 28, 28)
    """
    N = len(array) if array.ndim else 0
    if array.ndim == 2 and array.shape[1] > 1 and math.isqrt(array.shape[1]) ** 2 == array.shape[1]:
        side = math.isqrt(array.shape[1])
        return array.reshape(N, side, side)
    if array.ndim == 3:
        return array
    if array.ndim == 4:
        first, last = (array.shape[axis] <= MAX_CHANNELS for axis in (1, 3))
        if first != last:
            images = array if first else np.moveaxis(array, 3, 1)
            return images[:, 0] if images.shape[1] == 1 else images
    shape = "×".join(map(str, array.shape)) or "a single number"
    if array.ndim == 1:
        remedy = "exchange images and labels"
    elif array.ndim == 2:
        remedy = "give the rows their height and width: array.reshape(N, H, W)"
    else:
        remedy = f"give images (N,H,W), or (N,H,W,C) or (N,C,H,W) of up to {MAX_CHANNELS} channels"
    raise DataError(
        f"contains {array.dtype} of shape {shape}, images are (N,H,W), (N,H,W,C) or (N,C,H,W)",
        remedy=remedy,
        file=file,
        key=key,
    )


def pictures(array: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    """Return an array of pictures as (N,H,W) or (N,H,W,C), and whether it is a single one.

    One rule for arrays of any origin. Axes of length 1 at either end are dropped. (H,W) is one
    picture, (H,W,3) and (H,W,4) one in colour, (N,H,W) a stack; (N,H,W,C) and (N,C,H,W) a stack in
    colour. (H·W,) and (N,H·W) are rows of square pictures, which have at least 8×8 pixels: where
    N is 1, H·W is 28², or one axis is more than eight times as long as the other.

    Examples
    --------
    >>> for shape in (28, 28), (28, 28, 1), (1, 28, 28), (1, 784), (28, 28, 3):
    ...     stack, single = pictures(np.zeros(shape))
    ...     print(shape, stack.shape, single)
    (28, 28) (1, 28, 28) True
    (28, 28, 1) (1, 28, 28) True
    (1, 28, 28) (1, 28, 28) True
    (1, 784) (1, 28, 28) True
    (28, 28, 3) (1, 28, 28, 3) True
    >>> [pictures(np.zeros((8, *shape)))[0].shape for shape in ((1, 784), (1, 28, 28), (3, 9, 9))]
    [(8, 28, 28), (8, 28, 28), (8, 9, 9, 3)]
    """
    a = array
    while a.ndim > 2 and a.shape[-1] == 1:
        a = a[..., 0]
    while a.ndim > 2 and a.shape[0] == 1:
        a = a[0]
    if a.ndim == 4 and a.shape[1] == 1:
        a = a[:, 0]
    if a.ndim == 1 and _side(a.size):
        a = a[None]
    if a.ndim == 3 and a.shape[1] == 1 and _are_rows(len(a), a.shape[2]):
        a = a[:, 0]
    if 0 in a.shape:
        raise _no_pictures(array, "save one image, or a stack of them")
    if a.ndim == 2:
        N, length = a.shape
        if _are_rows(N, length):
            side = _side(length)
            return a.reshape(N, side, side), N == 1
        if _are_rows(length, N):
            raise _no_pictures(array, "if every column is an image, transpose it: array.T")
        return a[None], True
    if a.ndim == 3:
        if a.shape[2] in (3, 4):
            return a[None], True
        if a.shape[2] == 2:
            raise _no_pictures(array, "leave out the second channel")
        if min(a.shape[:2]) >= 8 and a.shape[0] == a.shape[1] != a.shape[2]:
            remedy = "if the images are along the last axis, move it: array.transpose(2, 0, 1)"
            raise _no_pictures(array, remedy)
        return a, False
    if a.ndim == 4 and a.shape[3] in (3, 4):
        return a, False
    if a.ndim == 4 and a.shape[1] in (3, 4):
        return np.moveaxis(a, 1, 3), False
    raise _no_pictures(array, "save one image, or a stack of them")


def _side(pixels: int) -> int:
    """Return the side of a square image of so many pixels, 0 if there is none of 8×8 or more."""
    side = math.isqrt(pixels)
    return side if side >= 8 and side**2 == pixels else 0


def _are_rows(N: int, length: int) -> bool:
    if not _side(length) or length == N:
        return False
    return N == 1 or length == PIXELS_OF_MNIST or max(N, length) > 8 * min(N, length)


def _no_pictures(array: NDArray[Any], remedy: str) -> DataError:
    shape = "×".join(map(str, array.shape)) or "a single number"
    return DataError(f"is an array of {shape}, not of H×W, N×H×W or H×W×3", remedy=remedy)


def measured(array: NDArray[Any], file: Path, key: str | None = None) -> Levels:
    """Return the values in an array of images that stand for 0 and 255.

    ======================================  =============================
    numbers                                 stand for 0 and 255
    ======================================  =============================
    bytes; other numbers from 0 to 255      0, 255
    booleans, floats from 0 to 1            0, 1
    floats from −1 to 1                     −1, 1
    integers from 0 on, of up to k bits     0, 2ᵏ − 1
    others                                  the smallest, the largest
    ======================================  =============================

    Examples
    --------
    Twelve bits stored in sixteen:

    >>> measured(np.array([0, 4000], np.uint16), Path("images"))
    (0.0, 4095.0)
    """
    if array.dtype == np.uint8:
        return BYTES
    if array.dtype.kind not in "buif" or not array.size:
        raise DataError(
            f"contains {array.dtype}, images are numbers",
            remedy="store uint8 from 0 to 255: lenet.data.formats.idx.write_idx(path, array)",
            file=file,
            key=key,
        )
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        remedy = "replace the NaN and infinite numbers"
        raise DataError("contains NaN or infinite numbers", remedy=remedy, file=file, key=key)
    if array.dtype.kind == "b" or (array.dtype.kind == "f" and low >= 0 and high <= 1):
        return 0.0, 1.0
    if low >= 0 and high <= 255:
        return BYTES
    if array.dtype.kind == "f" and low >= -1 and high <= 1:
        return -1.0, 1.0
    if low >= 0 and array.dtype.kind in "ui":
        return 0.0, float((1 << int(high).bit_length()) - 1)
    return low, high


def as_bytes(array: NDArray[Any], levels: Levels = BYTES) -> NDArray[np.uint8]:
    """Return an array as uint8, C-contiguous; numbers beyond the ``levels`` are clipped to them.

    Examples
    --------
    >>> as_bytes(np.array([0.0, 0.5, 1.0]), (0.0, 1.0))
    array([  0, 128, 255], dtype=uint8)
    """
    if array.dtype == np.uint8 and levels == BYTES:
        return array if array.flags.c_contiguous else np.ascontiguousarray(array)
    low, high = levels
    out = np.empty(array.shape, np.uint8)
    for start in range(0, len(array), BLOCK):
        block = array[start : start + BLOCK].astype(np.float64)
        block -= low
        block *= 255 / (high - low)
        np.clip(np.rint(block, out=block), 0, 255, out=block)
        out[start : start + BLOCK] = block
    return out

"""Images as pixels: resized by a tent filter, and converted for networks and for display."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.float32]


def resized(pixels: Pixels, H: int, W: int) -> Pixels:
    """Return pixels (h,w,C) as (H,W,C): mean values where it shrinks, interpolated where it grows.

    Examples
    --------
    >>> resized(np.arange(6, dtype=np.float32).reshape(2, 3, 1), 1, 3)[..., 0]
    array([[1.5, 2.5, 3.5]], dtype=float32)
    """
    h, w = pixels.shape[:2]
    A, B = (resampling_matrix(n, m, n / m, m / 2) for n, m in ((H, h), (W, w)))
    A, B = (matrix / matrix.sum(axis=1, keepdims=True) for matrix in (A, B))
    return product(A, pixels, B)


def reduced_to_fit(pixels: Pixels, H: int, W: int) -> Pixels:
    """Return pixels (h,w,C) as the largest (h′,w′,C) of the same proportions in H × W."""
    h, w = pixels.shape[:2]
    scale = min(H / h, W / w)
    return resized(pixels, max(round(scale * h), 1), max(round(scale * w), 1))


def fitted(pixels: Pixels, H: int, W: int) -> NDArray[np.uint8]:
    """Return pixels (h,w,C) from 0 to 1 as the largest image (C,H′,W′) of that shape in H × W.

    Examples
    --------
    >>> fitted(np.ones((40, 80, 3), np.float32), 32, 32).shape
    (3, 16, 32)
    """
    return as_uint8(reduced_to_fit(pixels, H, W)).transpose(2, 0, 1)


def as_uint8(pixels: Pixels) -> NDArray[np.uint8]:
    """Return numbers from 0 to 1 as integers from 0 to 255."""
    levels: NDArray[np.uint8] = np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8)
    return levels


def is_grey(pixels: Pixels) -> bool:
    """Return whether the channels of pixels (H,W,C) are equal."""
    if pixels.strides[2] == 0:
        return True
    blocks = (pixels[top : top + 64] for top in range(0, len(pixels), 64))  # colour soon differs
    return all((block == block[..., :1]).all() for block in blocks)


def for_display(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image of a data set, (H,W) or (C,H,W), as grey (H,W) or RGB (H,W,3).

    Three channels are red, green and blue; of another number, the mean is returned.

    Examples
    --------
    >>> for_display(np.zeros((3, 18, 14), np.uint8)).shape
    (18, 14, 3)
    >>> for_display(np.array([[[0, 10]], [[20, 30]]], np.uint8))
    array([[10, 20]], dtype=uint8)
    """
    if image.ndim == 2:
        return image
    if len(image) == 3:
        return image.transpose(1, 2, 0)
    return as_uint8(image.mean(axis=0, dtype=np.float32) / 255)


def product(A: Pixels, pixels: Pixels, B: Pixels) -> Pixels:
    """Return A · pixels · Bᵀ for every channel of pixels (H,W,C)."""
    rows = np.tensordot(A, pixels, (1, 0))
    return np.ascontiguousarray(np.tensordot(rows, B, (1, 1)).transpose(0, 2, 1))


def resampling_matrix(n: int, m: int, scale: float, centre: float) -> Pixels:
    """Return the matrix (n,m) that resamples m pixels to n.

    Parameters
    ----------
    n, m
        Numbers of pixels after and before.
    scale
        Pixels after for one pixel before.
    centre
        The place among the m pixels that becomes the middle of the n.

    Notes
    -----
    The tent reaches one pixel to either side, measured in the larger pixels.
    """
    at = (np.arange(m) + 0.5 - centre) * scale - (np.arange(n)[:, None] + 0.5 - n / 2)
    radius = max(1.0, scale)
    return (np.maximum(0, 1 - np.abs(at) / radius) * (scale / radius)).astype(np.float32)

"""Array operations for finding a digit, on planes (C,H,W), on one plane or on a mask (H,W)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lenet.data.pixels import Pixels, resampling_matrix

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Planes: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]
Box: TypeAlias = tuple[int, int, int, int]  # top, left, bottom, right

COS, SIN = (f(np.linspace(0, np.pi / 2, 30, endpoint=False))[:, None] for f in (np.cos, np.sin))
NEGLIGIBLE = 1e-5  # smaller weights of a filter are left out


# --- Filters: a matrix along each axis -----------------------------------------------------------


def seen(pixels: Pixels, H: int, W: int, sigma: float) -> Planes:
    """Return pixels (h,w,C) resized to planes (C,H,W) and blurred with a Gaussian.

    Both at once, by a sparse matrix along each axis: of the 1,000 × 256 weights that reduce 1,000
    pixels, most are 0.
    """
    h, w, C = pixels.shape
    rows = _resize_and_blur(H, h, sigma) @ pixels.reshape(h, w * C)
    columns = rows.reshape(H, w, C).transpose(1, 2, 0).reshape(w, C * H)
    both = _resize_and_blur(W, w, sigma) @ columns
    return np.ascontiguousarray(both.reshape(W, C, H).transpose(1, 2, 0))


def smoothed(planes: Planes, where: Mask, sigma: float) -> Planes:
    """Return planes blurred with a wide Gaussian, with only the pixels ``where`` counted.

    A result so smooth is computed on a grid of sigma / 8, and interpolated.
    """
    (A, A_back), (B, B_back) = (_reduce_and_blur(n, sigma) for n in where.shape)
    weight = A @ where.astype(np.float32) @ B.T + np.float32(1e-6)
    means: Planes = A_back @ (A @ (planes * where) @ B.T / weight) @ B_back.T
    return means


@lru_cache(maxsize=32)
def _resize_and_blur(n: int, m: int, sigma: float) -> csr_array:
    """Return the matrix (n,m) that resamples m pixels to n, then blurs them."""
    from scipy.sparse import csr_array

    blur = _gaussian(n, sigma)
    weights: csr_array = csr_array(np.where(blur > NEGLIGIBLE, blur, 0)) @ csr_array(_tents(n, m))
    return weights


@lru_cache(maxsize=32)
def _reduce_and_blur(n: int, sigma: float) -> tuple[Planes, Planes]:
    """Return the matrices (m,n), which blurs n pixels on a grid of m, and (n,m), back to n."""
    m = math.ceil(8 * n / sigma)
    if m >= n:
        return _gaussian(n, sigma), np.eye(n, dtype=np.float32)
    return _gaussian(m, sigma * m / n) @ _tents(m, n), _tents(n, m)


def _tents(n: int, m: int) -> Planes:
    """Return the matrix (n,m) that resamples m pixels to n; its rows sum to 1 also at the edges."""
    weights = resampling_matrix(n, m, n / m, m / 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def _gaussian(n: int, sigma: float) -> Planes:
    at = np.arange(n)
    weights = np.exp(-0.5 * ((at - at[:, None]) / sigma) ** 2).astype(np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def closed(planes: Planes, n: int, outside: float) -> Planes:
    """Return the morphological closing with a square of n×n: dark shapes narrower than n vanish."""
    padded = np.pad(planes, ((0, 0), (n - 1, n - 1), (n - 1, n - 1)), constant_values=outside)
    return _over_windows(np.minimum, _over_windows(np.maximum, padded, n), n)


def _over_windows(extremum: np.ufunc, planes: Planes, n: int) -> Planes:
    """Return the extremum of every window of n×n, from those of windows half as large."""
    side = 1
    while side < n:
        step = min(side, n - side)
        planes = extremum(planes[:, step:], planes[:, :-step])
        planes = extremum(planes[..., step:], planes[..., :-step])
        side += step
    return planes


# --- Masks ---------------------------------------------------------------------------------------


def dilated(mask: Mask, n: int) -> Mask:
    """Return a mask grown n times by its neighbours above, below, left and right.

    Examples
    --------
    >>> dot = np.zeros((5, 5), bool)
    >>> dot[2, 2] = True
    >>> dilated(dot, 2).astype(int)[0]
    array([0, 0, 1, 0, 0])
    """
    for _ in range(n):
        grown = mask.copy()
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        grown[:, 1:] |= mask[:, :-1]
        grown[:, :-1] |= mask[:, 1:]
        mask = grown
    return mask


def eroded(mask: Mask, n: int) -> Mask:
    """Return a mask without the pixels within n of its edge; outside of the picture is no mask."""
    return ~dilated(~np.pad(mask, 1), n)[1:-1, 1:-1]


def bounds(mask: Mask) -> Box:
    """Return the box around the pixels of a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def around(box: Box, margin: int) -> tuple[slice, slice]:
    """Return the rows and columns of a box with a margin."""
    top, left, bottom, right = box
    rows = slice(max(top - margin, 0), bottom + margin)
    return rows, slice(max(left - margin, 0), right + margin)


def without_holes(mask: Mask) -> Mask:
    """Return a mask with its holes filled."""
    from scipy import ndimage

    outside, _ = ndimage.label(~np.pad(mask, 1))
    filled: Mask = (outside != outside[0, 0])[1:-1, 1:-1]
    return filled


def smallest_rectangle(mask: Mask) -> float:
    """Return the area of the smallest rectangle, at any angle, around a mask."""
    rows = np.flatnonzero(mask.any(axis=1))
    first, last = mask[rows].argmax(axis=1), mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    y, x = np.concatenate([rows, rows]), np.concatenate([first, last])  # the convex hull is in them
    sides = [x * cos + y * sin for cos, sin in ((COS, SIN), (-SIN, COS))]
    return float(np.prod([np.ptp(side, axis=1) + 1 for side in sides], axis=0).min())

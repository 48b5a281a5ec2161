"""Array operations for finding a digit, on planes (C,H,W), on one plane or on a mask (H,W).

Ink is the difference from the background of a picture. There are two estimates of it. The global
one is a plane, fitted so that the ink hardly affects it, then the picture without ink, smoothed.
The local one is what remains when narrow shapes are removed: it keeps the edges of shadows.

A digit that was found is redrawn as those of MNIST were: white on black, scaled to fit a box of
20×20 pixels with its proportions kept, the centre of mass in the middle of 28×28 (Y. LeCun et al.,
1998, section III.A). Strokes much thinner or thicker than those of MNIST are thickened or thinned.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lenet.data.pixels import Pixels, as_uint8, resampling_matrix

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
    """Return a mask without the pixels within n of its edge or of the picture's."""
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


MAX_SIDE = 256  # a picture is analysed with at most as many pixels as a square of this side
MIN_CONTRAST = 0.03  # of ink; 1 is black on white
PEAK = 20  # pixels of ink that the smallest digit has at the largest size
FIT_SAMPLE = 4096  # pixels to which the plane is fitted, at the largest size
FIT_DISTANCES = np.geomspace(0.5, 0.03, 12, dtype=np.float32)


class Picture(NamedTuple):
    """A picture at the size at which it is analysed.

    Attributes
    ----------
    planes
        (C,H,W), from 0 to 1, slightly blurred; C is 1 for grey.
    unit
        Lengths for 256×256 pixels are multiplied by it; 1 except for small pictures.
    """

    planes: Planes
    unit: float

    def pixels(self, length: float) -> int:
        """Return a length for 256×256 pixels in whole pixels of this picture."""
        return math.ceil(length * self.unit)


def from_global_background(picture: Picture, region: Mask) -> Planes:
    """Return the difference from a plane, then from the smoothed picture without the ink."""
    amount = _difference(picture, _fitted_plane(picture, region), region)
    inked = amount > 0.2 * peak(picture, amount)
    rest = region & ~dilated(inked, picture.pixels(3))
    if np.count_nonzero(rest) < np.count_nonzero(region) / 8:
        return amount
    background = smoothed(picture.planes, rest, picture.unit * MAX_SIDE / 10)
    return _difference(picture, background, region)


def from_local_background(picture: Picture, region: Mask) -> Planes:
    """Return the difference from the surroundings, of what is narrower than a sixth of the picture.

    The background is the morphological closing for dark lines and the opening for light ones (J.
    Serra, 1982): the edges of shadows are left where they are. Which of the two it is follows from
    the skewness: lines differ in one direction only, shadows in both.

    Parameters and result are those of :func:`from_global_background`.
    """
    grey = picture.planes.mean(axis=0, keepdims=True)
    everywhere = np.ones_like(region)
    outstanding = (grey - smoothed(grey, everywhere, picture.unit * MAX_SIDE / 20))[0, region]
    planes = picture.planes
    n = picture.pixels(MAX_SIDE // 6)
    if float((outstanding**3).sum()) < 0:
        background = closed(np.where(region, planes, np.float32(0)), n, 0)
    else:
        background = -closed(np.where(region, -planes, np.float32(-1)), n, -1)
    background += np.median((planes - background)[:, region], axis=1)[:, None, None]
    return _difference(picture, background, region)


def peak(picture: Picture, amount: Planes) -> float:
    """Return the mean of the 20 largest numbers: the smallest digit has about so many pixels."""
    n = math.ceil(PEAK * picture.unit**2)
    strong = amount[amount > amount.max() / 2]  # a fraction of all, among which the largest are
    numbers = strong if strong.size >= n else amount.ravel()
    return float(np.partition(numbers, -n)[-n:].mean())


def _difference(picture: Picture, background: Planes, region: Mask) -> Planes:
    """Return the difference from the background along the colour axis where it is largest."""
    C = len(background)
    difference = np.where(region, picture.planes - background, np.float32(0)).reshape(C, -1)
    weights = np.einsum("cp,cp->p", difference, difference)
    axis = np.linalg.eigh((difference * weights) @ difference.T)[1][:, -1]
    amount: Planes = axis @ difference
    if weights @ amount < 0:
        axis, amount = -axis, -amount
    amount = (amount / np.float32(math.sqrt(C))).reshape(region.shape)
    if axis.sum() < 0:  # darker than paper: the fraction of the light there that is missing
        light = background.mean(axis=0)
        brightest = max(float((light * region).max()), MIN_CONTRAST)
        amount /= np.maximum(light / np.float32(brightest), np.float32(0.2))
    return amount


def _fitted_plane(picture: Picture, region: Mask) -> Planes:
    """Fit a plane to the background of a region.

    Iteratively reweighted least squares with the weights of S. Geman and D. McClure (1987), which
    vanish for outliers; the distance that makes an outlier shrinks from one iteration to the next.
    """
    C, H, W = picture.planes.shape
    y, x = np.linspace(-1, 1, H, dtype=np.float32), np.linspace(-1, 1, W, dtype=np.float32)
    inside = np.flatnonzero(region)
    inside = inside[:: max(1, round(inside.size / (FIT_SAMPLE * picture.unit**2)))]
    ones = np.ones(inside.size, np.float32)
    rows = [ones, x[inside % W], y[inside // W], *picture.planes.reshape(C, -1)[:, inside]]
    Ab = np.stack(rows)  # (3 + C, points): the plane's three functions, and the colours
    coefficients = np.zeros((C, 3), np.float32)
    coefficients[:, 0] = np.median(Ab[3:], axis=1)
    for distance in FIT_DISTANCES:
        error = Ab[3:] - coefficients @ Ab[:3]
        weighted = Ab[:3] / (1 + np.einsum("cp,cp->p", error, error) / distance**2) ** 2
        products = weighted @ Ab.T
        coefficients = np.linalg.lstsq(products[:, :3], products[:, 3:], rcond=None)[0].T
    constant, across, down = coefficients.T[..., None, None]
    plane: Planes = constant + across * x + down * y[:, None]
    return plane


SIZE, BOX = 28, 20  # pixels of an image of MNIST, and of the box that the ink fills
STROKE_WIDTHS = (1.8, 4.2)  # pixels in the box: strokes between these widths are not changed


def redrawn(amount: Planes, mask: Mask, blur: int) -> tuple[NDArray[np.uint8], float]:
    """Return a digit as an image of MNIST's kind, and the width of its strokes."""
    box = top, left, bottom, right = bounds(mask)
    length: float = max(bottom - top, right - left)
    near = around(box, blur)
    amount, mask = amount[near], mask[near]
    inside = _distance(np.pad(mask, 1))
    width = _stroke_width(inside)
    stroke = width / length
    thinnest, thickest = (limit / BOX for limit in STROKE_WIDTHS)
    wanted = min(max(stroke, thinnest), thickest)
    if wanted == stroke:
        level = smoothed(amount[None], mask, length / 3)[0]
        ink = np.clip(amount / np.maximum(level, np.float32(1e-3)), 0, 1) * dilated(mask, blur)
    else:
        # Both sides of a stroke move outwards so far that, in the box that grows with them, it is
        # as wide as wanted: (width + 2·out) / (length + 2·out) = wanted.
        out = max((wanted * length - width) / (1 - wanted) / 2, -width / 4)
        more = math.ceil(max(out, 0))
        inside = np.pad(inside, more)
        outside = _distance(np.pad(~mask, more + 1, constant_values=True))
        ink = np.clip(inside - outside + out + 0.5, 0, 1, dtype=np.float32)
        length += 2 * out
    A, B = (placement(ink.sum(axis=axis), BOX / length) for axis in (1, 0))
    return as_uint8(A @ ink @ B.T), stroke


def stroke_width(mask: Mask) -> float:
    """Return the mean width of strokes, 4 times the mean distance of their pixels to the edge.

    Examples
    --------
    >>> bar = np.zeros((60, 30), bool)
    >>> bar[5:55, 10:18] = True
    >>> round(stroke_width(bar))
    8
    """
    return _stroke_width(_distance(np.pad(mask, 1)))


def _stroke_width(inside: NDArray[np.float64]) -> float:
    return 4 * float(inside[inside > 0].mean() - 0.5) + 0.5


def _distance(mask: Mask) -> NDArray[np.float64]:
    """Return the distance of each pixel of a mask to the nearest one that is not in it."""
    from scipy import ndimage

    distance: NDArray[np.float64] = ndimage.distance_transform_edt(mask)
    return distance


def placement(mass: Pixels, scale: float) -> Pixels:
    """Return the matrix (28, n) that scales n pixels and centres their mass on pixel 14.

    That is the middle of MNIST's images. Where ink would leave the image, the mass is centred only
    as far as the ink stays inside.
    """
    inked = np.flatnonzero(mass > 0)
    first, end = inked[0], inked[-1] + 1
    centre = float((mass * (np.arange(mass.size) + 0.5)).sum() / mass.sum())
    above, below = 14.5 / scale, 13.5 / scale
    centre = min(max(centre, end - below), first + above)
    return resampling_matrix(SIZE, mass.size, scale, centre - 0.5 / scale)

"""A digit that was found, redrawn as the digits of MNIST were drawn.

Ink is white on black, scaled to fit a box of 20×20 pixels with its proportions kept, the centre of
mass in the middle of 28×28 (Y. LeCun et al., 1998, section III.A). Strokes much thinner or thicker
than those of MNIST are thickened or thinned.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lenet.data.pixels import Pixels, as_uint8, resampling_matrix
from lenet.predict.planes import Mask, Planes, around, bounds, dilated, smoothed

SIZE, BOX = 28, 20  # pixels of an image of MNIST, and of the box that the ink fills
STROKE_WIDTHS = (1.8, 4.2)  # pixels in the box: strokes between these widths are not changed


def redrawn(amount: Planes, mask: Mask, blur: int) -> tuple[NDArray[np.uint8], float]:
    """Return a digit as an image of MNIST's kind, and the width of its strokes.

    Parameters
    ----------
    amount
        (H,W), ink; white less black is 1.
    mask
        (H,W), where the digit is.
    blur
        Pixels around the mask that still contain ink of the digit.

    Returns
    -------
    image
        uint8 (28,28), ink 255 on 0.
    stroke
        Mean width of its strokes, as a fraction of the digit's length.
    """
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

"""Ink as the difference from the background of a picture.

There are two estimates of the background. The global one is a plane, fitted so that the ink hardly
affects it, then the picture without the ink, smoothed. The local one is what remains when narrow
shapes are removed: it keeps the edges of shadows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from lenet.predict.planes import Mask, Planes, closed, dilated, smoothed

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
    """Return the difference from a plane, then from the smoothed picture without the ink.

    Parameters
    ----------
    picture
        The picture.
    region
        (H,W), where the background and the ink are searched for.

    Returns
    -------
    (H,W), positive where there is ink; white less black is 1. Outside of the region 0.
    """
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

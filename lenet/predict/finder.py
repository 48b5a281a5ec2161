"""Find the digit in a picture and redraw it as the digits of MNIST were drawn.

A network knows only images like those it was trained on, and MNIST's are all alike (Y. LeCun et
al., 1998, section III.A): white ink on black, scaled to fit a box of 20×20 pixels with its
proportions kept, the centre of mass in the middle of 28×28. A photograph of a sheet of paper looks
nothing like that, so it is converted in five steps:

1. the background is estimated: first as a plane fitted so that the ink hardly affects it, then as
   the picture without the ink, smoothed. Gradients and soft shadows are removed with it;
2. ink is what differs from the background along the colour axis with the largest differences,
   darker or lighter;
3. connected ink is a shape; frames and the edge of the table are cut away, the search continues
   inside a sheet that lies on something, broken strokes are joined, dust is removed;
4. a small digit is searched for again in the part of the picture around it;
5. strokes much thinner or thicker than those of MNIST are thickened or thinned, and one product
   A · ink · Bᵀ scales the digit to the box and moves its centre of mass.

H×W is the size at which a picture is analysed, about 256² pixels whatever its own size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lenet.data.pixels import Pixels, as_uint8, product, resampling_matrix, resized

Mask: TypeAlias = NDArray[np.bool_]
Background: TypeAlias = Callable[[Pixels, Mask], Pixels]
Box: TypeAlias = tuple[float, float, float, float]  # top, left, bottom, right

SIZE, BOX = 28, 20  # pixels of an image of MNIST, and of the box that the ink fills
WORKING_SIDE = 256  # a picture is analysed with as many pixels as a square of this side
MIN_SIZE = 8  # pixels a side of a picture that can contain a digit
MIN_CONTRAST = 0.03  # of ink; 1 is black on white
MAX_EDGE = 12  # pixels in which ink goes from half of its contrast to nothing
STROKE_WIDTHS = (1.8, 4.2)  # pixels in the box: strokes between these widths are not changed


@dataclass(frozen=True)
class Digit:
    """A digit that was found: the image for the network, and measures of its quality.

    Attributes
    ----------
    image
        uint8 (28,28), ink 255 on 0.
    box
        Of the digit, in pixels of the picture: top, left, bottom, right.
    contrast
        Between ink and background; 1 is black on white.
    shapes
        Number of separate shapes of about its size.
    stroke
        Mean width of its strokes as a fraction of its length.
    """

    image: NDArray[np.uint8]
    box: Box
    contrast: float
    shapes: int
    stroke: float

    @property
    def length(self) -> float:
        """The longer side of the box."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])


@dataclass(frozen=True)
class _Ink:
    """The ink of a picture at working size, and the shapes that it forms."""

    amount: Pixels  # (H,W), difference from the background; white less black is 1
    contrast: float
    region: Mask  # (H,W), where it was searched for
    shapes: list[Mask]  # (H,W) each, the largest first


def find_digit(pixels: Pixels) -> Digit | None:
    """Return the largest digit-like shape of a picture, or None where nothing stands out.

    Parameters
    ----------
    pixels
        float32 (H,W,3) from 0 to 1.

    Examples
    --------
    >>> page = np.ones((90, 60, 3), np.float32)
    >>> page[30:60, 28:32] = 0.2  # a bar, darker than the page
    >>> digit = find_digit(page)
    >>> digit.shapes, digit.image.shape, bool(digit.image[14, 14] == 255)
    (1, (28, 28), True)
    >>> find_digit(np.ones((90, 60, 3), np.float32)) is None
    True
    """
    if min(pixels.shape[:2]) < MIN_SIZE:
        return None
    far = _analyse(pixels)
    if far is None:
        return None
    margin = far.length / 2
    top, left = (max(math.floor(start - margin), 0) for start in far.box[:2])
    bottom, right = (math.ceil(end + margin) for end in far.box[2:])
    part = pixels[top:bottom, left:right]
    if max(part.shape[:2]) > max(pixels.shape[:2]) / 2 or min(part.shape[:2]) < MIN_SIZE:
        return far
    near = _analyse(part)
    if near is None or near.length < far.length / 2:
        return far
    box = near.box
    moved = (box[0] + top, box[1] + left, box[2] + top, box[3] + left)
    return replace(near, box=moved, shapes=far.shapes)


def _analyse(pixels: Pixels) -> Digit | None:
    """Find the digit in a picture at working size."""
    H, W = pixels.shape[:2]
    scale = min(WORKING_SIDE / math.sqrt(H * W), 4 * WORKING_SIDE / max(H, W))
    seen = resized(pixels, max(round(H * scale), MIN_SIZE), max(round(W * scale), MIN_SIZE))
    ink = _separate(_blurred(seen, 1))
    if ink is None:
        return None
    mask = ink.shapes[0]
    top, left, bottom, right = _bounds(mask)
    h, w = H / seen.shape[0], W / seen.shape[1]
    lengths = [_length(shape) for shape in ink.shapes]
    return Digit(
        image=_normalised(ink.amount, mask),
        box=(top * h, left * w, bottom * h, right * w),
        contrast=ink.contrast,
        shapes=sum(length > 0.5 * lengths[0] for length in lengths),
        stroke=stroke_width(mask) / lengths[0],
    )


# --- Background and ink --------------------------------------------------------------------------


def _separate(smooth: Pixels) -> _Ink | None:
    """Separate ink from a background that is estimated globally, or else locally.

    Shadows and gradients of light have soft edges, ink has not. Where what differs from the global
    background has soft edges, only what is narrow counts as ink.
    """
    everywhere = np.ones(smooth.shape[:2], bool)
    background = _from_global_background
    ink = _ink(smooth, everywhere, background)
    if ink is not None and _is_soft(ink):
        background = _from_local_background
        ink = _ink(smooth, everywhere, background)
    return ink and _inside_frames(smooth, ink, background)


def _inside_frames(smooth: Pixels, ink: _Ink, background: Background) -> _Ink:
    """Continue inside frames and on the sheet, as long as there is ink."""
    for _ in range(3):
        inner = _inner_region(ink)
        if inner is None:
            break
        region, min_length = inner
        inner_ink = _ink(smooth, region, background)
        if inner_ink is None or inner_ink.contrast < ink.contrast / 6:
            break
        if _length(inner_ink.shapes[0]) < min_length:
            break
        ink = inner_ink
    return ink


def _inner_region(ink: _Ink) -> tuple[Mask, float] | None:
    """Return the region to search instead and the minimum length there, if there is such a region.

    It is the inside of what touches the edge; a digit that is cut by one side of the picture must
    not be taken for a frame around dust. Or it is a sheet: large, rectangular and nearly full.
    """
    from scipy import ndimage

    region, mask = ink.region, ink.shapes[0]
    top, left, bottom, right = _bounds(region)
    bars = [(mask | ~region)[top:bottom, left:right].mean(axis=axis) > 0.7 for axis in (1, 0)]
    ends = [int(bar.argmin()) for bar in (bars[0], bars[0][::-1], bars[1], bars[1][::-1])]
    if sum(end > 0 for end in ends) > 2:
        up, down, west, east = (end + 4 for end in ends)
        inner = np.zeros_like(region)
        inner[top + up : bottom - down, left + west : right - east] = True
        return inner & region, 0
    edge = _edge(region)
    frames = np.zeros_like(region)
    min_length = 0.0
    for shape in ink.shapes:
        if (shape & edge).any():
            frames |= shape
            sides = sum(a == b for a, b in zip(_bounds(shape), _bounds(region), strict=True))
            min_length = max(min_length, _length(shape) / (3 if sides < 2 else 20))
    if frames.any():
        return region & ~ndimage.binary_dilation(frames, iterations=4), min_length
    filled: Mask = ndimage.binary_fill_holes(mask)
    full = mask.sum() > 0.8 * filled.sum() and filled.sum() > region.sum() / 8
    if full and _rectangularity(filled) > 0.88:
        return ndimage.binary_erosion(filled, iterations=4), 0
    return None


def _rectangularity(mask: Mask) -> float:
    """Return the fraction of its smallest rectangle, at any angle, that a shape fills."""
    points = np.argwhere(mask)
    angles = np.linspace(0, np.pi / 2, 30, endpoint=False)
    along = points @ np.stack([np.cos(angles), np.sin(angles)])
    across = points @ np.stack([-np.sin(angles), np.cos(angles)])
    return len(points) / float(((np.ptp(along, axis=0) + 1) * (np.ptp(across, axis=0) + 1)).min())


def _is_soft(ink: _Ink) -> bool:
    """Return whether a quarter of the edge of the largest shape is too wide for an edge of ink."""
    from scipy import ndimage

    mask = ink.shapes[0]
    edge = mask & ~ndimage.binary_erosion(mask, border_value=1)
    if not edge.any():
        return True
    slope = np.quantile(np.hypot(*np.gradient(ink.amount))[edge], 0.25)
    return bool(slope < ink.contrast / 2 / MAX_EDGE)


def _edge(region: Mask) -> Mask:
    from scipy import ndimage

    edge: Mask = region & ~ndimage.binary_erosion(region)
    return edge


def _ink(smooth: Pixels, region: Mask, background: Background) -> _Ink | None:
    """Return what differs from the background within ``region``, None if nothing does."""
    from scipy import ndimage

    if region.sum() < MIN_SIZE**2:
        return None
    amount = background(smooth, region)
    below = amount[region & (amount < 0)]  # where there is no ink
    noise = 1.4826 * float(np.median(-below)) if below.size else 0.0
    contrast = _peak(amount[region])
    if contrast < max(MIN_CONTRAST, 6 * noise):
        return None
    labels, _ = ndimage.label((amount > max(0.3 * contrast, 3 * noise)) & region, np.ones((3, 3)))
    # A shape contains some strong ink, and is larger than dust.
    strong = np.bincount(labels[amount > 0.5 * contrast], minlength=labels.max() + 1)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = np.flatnonzero((strong > 3) & (sizes > max(12, 0.01 * sizes.max())))
    if not kept.size:
        return None
    return _Ink(amount, contrast, region, _shapes(labels, kept[np.argsort(-sizes[kept])]))


def _peak(amount: Pixels) -> float:
    """Return the mean of the 20 largest numbers: the smallest digit has about so many pixels."""
    return float(np.partition(amount, -20)[-20:].mean())


def _from_global_background(smooth: Pixels, region: Mask) -> Pixels:
    """Return the difference from a plane, then from the smoothed picture without the ink."""
    from scipy import ndimage

    amount = _difference(smooth, _fitted_plane(smooth, region), region)
    inked = amount > 0.2 * _peak(amount[region])
    rest = region & ~ndimage.binary_dilation(inked, iterations=3)
    if rest.sum() < region.sum() / 8:
        return amount
    return _difference(smooth, _smoothed(smooth, rest, WORKING_SIDE / 10), region)


def _from_local_background(smooth: Pixels, region: Mask) -> Pixels:
    """Return the difference from the surroundings, of what is narrower than a sixth of the picture.

    The background is the morphological closing for dark lines and the opening for light ones (J.
    Serra, 1982): the edges of shadows are left where they are. Which of the two it is follows from
    the skewness: lines differ in one direction only, shadows in both.
    """
    from scipy import ndimage

    grey = smooth.mean(axis=2, keepdims=True)
    outstanding = (grey - _blurred(grey, WORKING_SIDE / 20))[region]
    dark = float((outstanding**3).sum()) < 0
    n = WORKING_SIDE // 6
    outside = 0 if dark else 1
    within = np.where(region[..., None], smooth, np.float32(outside))
    within = np.pad(within, ((n, n), (n, n), (0, 0)), constant_values=outside)
    morphology = ndimage.grey_closing if dark else ndimage.grey_opening
    background: Pixels = morphology(within, (n, n, 1))[n:-n, n:-n]
    background += np.median((smooth - background)[region], axis=0)
    return _difference(smooth, background, region)


def _difference(smooth: Pixels, background: Pixels, region: Mask) -> Pixels:
    """Return the difference from the background along the colour axis where it is largest.

    White less black is 1.
    """
    difference = smooth - background
    inside = difference[region]
    weights = (inside**2).sum(axis=1, keepdims=True)
    axis = np.linalg.eigh((inside * weights).T @ inside)[1][:, -1]
    if float((weights[:, 0] * (inside @ axis)).sum()) < 0:
        axis = -axis
    amount: Pixels = difference @ axis.astype(np.float32) / math.sqrt(3)
    if axis.sum() < 0:  # darker than paper: the fraction of the light there that is missing
        light = background.mean(axis=2)
        amount /= np.maximum(light / max(float(light[region].max()), MIN_CONTRAST), 0.2)
    return np.where(region, amount, 0)


def _fitted_plane(smooth: Pixels, region: Mask) -> Pixels:
    """Fit a plane to the background of a region.

    Iteratively reweighted least squares with the weights of S. Geman and D. McClure (1987), which
    vanish for outliers; the distance that makes an outlier shrinks from one iteration to the next.
    """
    H, W = region.shape
    y, x = np.mgrid[-1 : 1 : 1j * H, -1 : 1 : 1j * W].astype(np.float32)
    basis = np.stack([np.ones_like(x), x, y], axis=-1)
    inside = np.flatnonzero(region)[:: max(1, region.sum() // 4096)]
    A, b = basis.reshape(-1, 3)[inside], smooth.reshape(-1, 3)[inside]
    coefficients = np.zeros((3, 3), np.float32)
    coefficients[0] = np.median(b, axis=0)
    for distance in np.geomspace(0.5, 0.03, 12):
        r = ((b - A @ coefficients) ** 2).sum(axis=1, keepdims=True)
        weighted = A / (1 + r / distance**2) ** 2
        coefficients = np.linalg.lstsq(weighted.T @ A, weighted.T @ b, rcond=None)[0]
    plane: Pixels = basis @ coefficients
    return plane


def _smoothed(smooth: Pixels, where: Mask, sigma: float) -> Pixels:
    """Return the picture smoothed, with only the pixels ``where`` taken into account."""
    weight = _blurred(where[..., None].astype(np.float32), sigma) + 1e-6
    return _blurred(smooth * where[..., None], sigma) / weight


def _blurred(pixels: Pixels, sigma: float) -> Pixels:
    """Return pixels (H,W,C) convolved with a Gaussian: one product along each axis."""
    A, B = (_gaussian(n, sigma) for n in pixels.shape[:2])
    return product(A, pixels, B)


def _gaussian(n: int, sigma: float) -> Pixels:
    at = np.arange(n)
    weights: Pixels = np.exp(-0.5 * ((at - at[:, None]) / sigma) ** 2).astype(np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


# --- Shapes --------------------------------------------------------------------------------------


def _shapes(labels: NDArray[np.signedinteger[Any]], numbers: NDArray[np.intp]) -> list[Mask]:
    """Join broken strokes, and return the shapes, the largest first.

    ``numbers`` are the labels of the pieces, the largest first; only the first 24 are used.
    """
    from scipy import ndimage

    left = [int(number) for number in numbers[:24]]
    boxes = ndimage.find_objects(labels)
    shapes: list[Mask] = []
    while left:
        shape = labels == left.pop(0)
        while left:
            distance = ndimage.distance_transform_edt(~shape)
            parts = [n for n in left if _is_part(labels == n, boxes[n - 1], shape, distance)]
            if not parts:
                break
            shape |= np.isin(labels, parts)
            left = [n for n in left if n not in parts]
        shapes.append(shape)
    return sorted(shapes, key=lambda shape: -int(shape.sum()))


def _is_part(piece: Mask, box: Any, shape: Mask, distance: NDArray[Any]) -> bool:  # noqa: ANN401
    """Return whether a piece, such as the bar of a 5, is part of a shape, not a digit beside it."""
    _, left, _, right = _bounds(shape)
    columns = box[1]
    overlap = min(right, columns.stop) - max(left, columns.start)
    above = overlap > 0.5 * min(right - left, columns.stop - columns.start)
    return bool(distance[piece].min() < (0.16 if above else 0.06) * _length(shape))


def _bounds(mask: Mask) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _length(mask: Mask) -> int:
    top, left, bottom, right = _bounds(mask)
    return max(bottom - top, right - left)


# --- The image for the network -------------------------------------------------------------------


def _normalised(amount: Pixels, mask: Mask) -> NDArray[np.uint8]:
    """Return the image (28,28): ink scaled to its box, usual stroke width, mass in the middle."""
    from scipy import ndimage

    length: float = _length(mask)
    near: Mask = ndimage.binary_dilation(mask, iterations=2)
    level = _smoothed(amount[..., None], mask, length / 3)[..., 0]
    ink = np.where(near, np.clip(amount / np.maximum(level, 1e-3), 0, 1), np.float32(0))
    width = stroke_width(mask)
    thinnest, thickest = (limit / BOX for limit in STROKE_WIDTHS)
    wanted = min(max(width / length, thinnest), thickest)
    if wanted != width / length:
        # Both sides of a stroke move outwards so far that, in the box that grows with them, it is
        # as wide as wanted: (width + 2·out) / (length + 2·out) = wanted.
        out = max((wanted * length - width) / (1 - wanted) / 2, -width / 4)
        mask = np.pad(mask, math.ceil(max(out, 0)) + 1)
        inside: NDArray[np.float64] = ndimage.distance_transform_edt(mask)
        outside: NDArray[np.float64] = ndimage.distance_transform_edt(~mask)
        ink = np.clip(inside - outside + out + 0.5, 0, 1, dtype=np.float32)
        length += 2 * out
    A, B = (_placement(ink.sum(axis=axis), BOX / length) for axis in (1, 0))
    return as_uint8(A @ ink @ B.T)


def stroke_width(mask: Mask) -> float:
    """Return the mean width of strokes, 4 times the mean distance of their pixels to the edge.

    Examples
    --------
    >>> bar = np.zeros((60, 30), bool)
    >>> bar[5:55, 10:18] = True
    >>> round(stroke_width(bar))
    8
    """
    from scipy import ndimage

    distance: NDArray[Any] = ndimage.distance_transform_edt(np.pad(mask, 1))
    return 4 * float(distance[distance > 0].mean() - 0.5) + 0.5


def _placement(mass: Pixels, scale: float) -> Pixels:
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

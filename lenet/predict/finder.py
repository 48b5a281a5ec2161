"""Find the digit in a picture and draw it as MNIST's digits were drawn.

A network knows only what it was trained on, and MNIST's images are all alike (Y. LeCun et al.,
1998, section III.A): white ink on black, scaled to fit a box of 20×20 pixels with its proportions
kept, the centre of mass in the middle of 28×28. A photo of a sheet of paper is nothing like that,
so it is made so, in five steps:

1. the background is a plane of light, fitted so that the ink does not pull it, then what is left
   of the picture without the ink, smoothed: gradients and soft shadows go;
2. ink is what differs from the background in the one colour in which the picture differs most,
   lighter or darker;
3. what is connected is a shape; frames and the edge of the table are cut away, a sheet lying on
   something is gone into, broken strokes are joined, dust is dropped;
4. a small digit is looked at again from near by;
5. strokes much thinner or thicker than a pen's in MNIST are thickened or thinned, and the box and
   the centre of mass are put in place by one product  A · ink · Bᵀ.

H×W are pixels of the picture as it is looked at, whatever its own size: about 256² of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]
Background: TypeAlias = Callable[[Pixels, Mask], Pixels]
Box: TypeAlias = tuple[float, float, float, float]  # top, left, bottom, right

SIZE, BOX = 28, 20  # pixels of an image of MNIST, and of the box that the ink fills
LOOK = 256  # side of a square with as many pixels as a picture is looked at with
MIN_SIZE = 8  # pixels a side, of a picture in which there can be a digit
MIN_CONTRAST = 0.03  # contrast that can be ink; 1 is black on white
SOFTEST = 12  # pixels in which ink goes from half of its contrast to nothing
STROKES = (1.8, 4.2)  # pixels of the box: the widths between which strokes stay as they are


@dataclass(frozen=True)
class Digit:
    """What was found: the image for the network, and how far it can be trusted.

    Attributes
    ----------
    image
        uint8 (28,28), ink 255 on 0.
    box
        Of the digit, in pixels of the picture: top, left, bottom, right.
    contrast
        Of the ink with the background; 1 is black on white.
    shapes
        How many separate shapes of about its size there are.
    stroke
        Mean width of its strokes as a part of its length.
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
    """Ink of a picture as it is looked at: how much of it is where, and the shapes it makes."""

    amount: Pixels  # (H,W), difference from the background; white less black is 1
    contrast: float
    region: Mask  # (H,W), where it was looked for
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
    far = _look(pixels)
    if far is None:
        return None
    margin = far.length / 2
    top, left = (max(math.floor(start - margin), 0) for start in far.box[:2])
    bottom, right = (math.ceil(end + margin) for end in far.box[2:])
    part = pixels[top:bottom, left:right]
    if max(part.shape[:2]) > max(pixels.shape[:2]) / 2 or min(part.shape[:2]) < MIN_SIZE:
        return far
    near = _look(part)
    if near is None or near.length < far.length / 2:
        return far
    box = near.box
    moved = (box[0] + top, box[1] + left, box[2] + top, box[3] + left)
    return replace(near, box=moved, shapes=far.shapes)


def _look(pixels: Pixels) -> Digit | None:
    """Find the digit in a picture looked at with 256² pixels, however many it has."""
    H, W = pixels.shape[:2]
    scale = min(LOOK / math.sqrt(H * W), 4 * LOOK / max(H, W))
    seen = resized(pixels, max(round(H * scale), MIN_SIZE), max(round(W * scale), MIN_SIZE))
    ink = _separate(_blurred(seen, 1))
    if ink is None:
        return None
    mask = ink.shapes[0]
    top, left, bottom, right = _bounds(mask)
    h, w = H / seen.shape[0], W / seen.shape[1]
    lengths = [_length(shape) for shape in ink.shapes]
    return Digit(
        image=_drawn(ink.amount, mask),
        box=(top * h, left * w, bottom * h, right * w),
        contrast=ink.contrast,
        shapes=sum(length > 0.5 * lengths[0] for length in lengths),
        stroke=stroke_width(mask) / lengths[0],
    )


# --- Background and ink --------------------------------------------------------------------------


def _separate(smooth: Pixels) -> _Ink | None:
    """Separate ink from background: by the light of the whole, or by what is near by.

    Light has soft edges and ink has not. Where the first thing found is light, such as a shadow,
    only what is narrow counts as ink.
    """
    everywhere = np.ones(smooth.shape[:2], bool)
    background = _light
    ink = _ink(smooth, everywhere, background)
    if ink is not None and _is_soft(ink):
        background = _surroundings
        ink = _ink(smooth, everywhere, background)
    return ink and _within(smooth, ink, background)


def _within(smooth: Pixels, ink: _Ink, background: Background) -> _Ink:
    """Go on within frames and on the sheet, as long as there is some ink."""
    for _ in range(3):
        inside = _inside(ink)
        if inside is None:
            break
        region, least = inside
        within = _ink(smooth, region, background)
        if within is None or within.contrast < ink.contrast / 6:
            break
        if _length(within.shapes[0]) < least:
            break
        ink = within
    return ink


def _inside(ink: _Ink) -> tuple[Mask, float] | None:
    """Return where to look instead, and the length of what to look for, if there is such a place.

    That is within what touches the edge; a digit that one side of the picture cuts must not be
    taken for a frame around dust. Or it is on a sheet: large, rectangular, and nearly full.
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
    least = 0.0
    for shape in ink.shapes:
        if (shape & edge).any():
            frames |= shape
            sides = sum(a == b for a, b in zip(_bounds(shape), _bounds(region), strict=True))
            least = max(least, _length(shape) / (3 if sides < 2 else 20))
    if frames.any():
        return region & ~ndimage.binary_dilation(frames, iterations=4), least
    filled: Mask = ndimage.binary_fill_holes(mask)
    full = mask.sum() > 0.8 * filled.sum() and filled.sum() > region.sum() / 8
    if full and _rectangularity(filled) > 0.88:
        return ndimage.binary_erosion(filled, iterations=4), 0
    return None


def _rectangularity(mask: Mask) -> float:
    """Return how much of the smallest rectangle around it, turned or not, a shape fills."""
    points = np.argwhere(mask)
    angles = np.linspace(0, np.pi / 2, 30, endpoint=False)
    along = points @ np.stack([np.cos(angles), np.sin(angles)])
    across = points @ np.stack([-np.sin(angles), np.cos(angles)])
    return len(points) / float(((np.ptp(along, axis=0) + 1) * (np.ptp(across, axis=0) + 1)).min())


def _is_soft(ink: _Ink) -> bool:
    """Tell whether a quarter of the edge of the largest shape is too wide for the edge of ink."""
    from scipy import ndimage

    mask = ink.shapes[0]
    edge = mask & ~ndimage.binary_erosion(mask, border_value=1)
    if not edge.any():
        return True
    slope = np.quantile(np.hypot(*np.gradient(ink.amount))[edge], 0.25)
    return bool(slope < ink.contrast / 2 / SOFTEST)


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
    below = amount[region & (amount < 0)]  # where no ink is
    noise = 1.4826 * float(np.median(-below)) if below.size else 0.0
    contrast = _strongest(amount[region])
    if contrast < max(MIN_CONTRAST, 6 * noise):
        return None
    labels, _ = ndimage.label((amount > max(0.3 * contrast, 3 * noise)) & region, np.ones((3, 3)))
    # A shape has some strong ink; and it is more than dust.
    strong = np.bincount(labels[amount > 0.5 * contrast], minlength=labels.max() + 1)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = np.flatnonzero((strong > 3) & (sizes > max(12, 0.01 * sizes.max())))
    if not kept.size:
        return None
    return _Ink(amount, contrast, region, _shapes(labels, kept[np.argsort(-sizes[kept])]))


def _strongest(amount: Pixels) -> float:
    """Return the mean of the 20 strongest: as much ink as the smallest digit has."""
    return float(np.partition(amount, -20)[-20:].mean())


def _light(smooth: Pixels, region: Mask) -> Pixels:
    """Return what differs from a plane of light, then from the smoothed picture without the ink."""
    from scipy import ndimage

    amount = _amount(smooth, _plane(smooth, region), region)
    inked = amount > 0.2 * _strongest(amount[region])
    rest = region & ~ndimage.binary_dilation(inked, iterations=3)
    if rest.sum() < region.sum() / 8:
        return amount
    return _amount(smooth, _smoothed(smooth, rest, LOOK / 10), region)


def _surroundings(smooth: Pixels, region: Mask) -> Pixels:
    """Return what differs from its surroundings and is narrower than a sixth of the picture.

    That is by closing dark lines, or opening light ones (J. Serra, 1982): the edges of shadows
    stay where they are. Which of the two: lines stand out to one side, shadows to both.
    """
    from scipy import ndimage

    grey = smooth.mean(axis=2, keepdims=True)
    outstanding = (grey - _blurred(grey, LOOK / 20))[region]
    dark = float((outstanding**3).sum()) < 0
    n = LOOK // 6
    nothing = 0 if dark else 1
    within = np.where(region[..., None], smooth, np.float32(nothing))
    within = np.pad(within, ((n, n), (n, n), (0, 0)), constant_values=nothing)
    morphology = ndimage.grey_closing if dark else ndimage.grey_opening
    background: Pixels = morphology(within, (n, n, 1))[n:-n, n:-n]
    background += np.median((smooth - background)[region], axis=0)
    return _amount(smooth, background, region)


def _amount(smooth: Pixels, background: Pixels, region: Mask) -> Pixels:
    """Return the difference from the background along the colour in which it is greatest.

    White less black is 1.
    """
    difference = smooth - background
    inside = difference[region]
    weights = (inside**2).sum(axis=1, keepdims=True)
    axis = np.linalg.eigh((inside * weights).T @ inside)[1][:, -1]
    if float((weights[:, 0] * (inside @ axis)).sum()) < 0:
        axis = -axis
    amount: Pixels = difference @ axis.astype(np.float32) / math.sqrt(3)
    if axis.sum() < 0:  # darker than paper: of what light falls there, the part that is missing
        light = background.mean(axis=2)
        amount /= np.maximum(light / max(float(light[region].max()), MIN_CONTRAST), 0.2)
    return np.where(region, amount, 0)


def _plane(smooth: Pixels, region: Mask) -> Pixels:
    """Fit a plane of light to most of the region, and to nothing that differs from it.

    Least squares, again and again, with the weights of S. Geman and D. McClure (1987), under
    which what lies far off counts for nothing; how far is far shrinks from one time to the next.
    """
    H, W = region.shape
    y, x = np.mgrid[-1 : 1 : 1j * H, -1 : 1 : 1j * W].astype(np.float32)
    basis = np.stack([np.ones_like(x), x, y], axis=-1)
    inside = np.flatnonzero(region)[:: max(1, region.sum() // 4096)]
    A, b = basis.reshape(-1, 3)[inside], smooth.reshape(-1, 3)[inside]
    coefficients = np.zeros((3, 3), np.float32)
    coefficients[0] = np.median(b, axis=0)
    for far in np.geomspace(0.5, 0.03, 12):
        r = ((b - A @ coefficients) ** 2).sum(axis=1, keepdims=True)
        weighted = A / (1 + r / far**2) ** 2
        coefficients = np.linalg.lstsq(weighted.T @ A, weighted.T @ b, rcond=None)[0]
    fitted: Pixels = basis @ coefficients
    return fitted


def _smoothed(smooth: Pixels, where: Mask, sigma: float) -> Pixels:
    """Return the picture without what is not ``where``, smoothed over the gaps."""
    weight = _blurred(where[..., None].astype(np.float32), sigma) + 1e-6
    return _blurred(smooth * where[..., None], sigma) / weight


def _blurred(pixels: Pixels, sigma: float) -> Pixels:
    """Return pixels (H,W,C) under a Gaussian: one product along each axis."""
    A, B = (_gaussian(n, sigma) for n in pixels.shape[:2])
    return _product(A, pixels, B)


def _gaussian(n: int, sigma: float) -> Pixels:
    at = np.arange(n)
    weights: Pixels = np.exp(-0.5 * ((at - at[:, None]) / sigma) ** 2).astype(np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def _product(A: Pixels, pixels: Pixels, B: Pixels) -> Pixels:
    """Return A · pixels · Bᵀ for every colour of pixels (H,W,C)."""
    rows = np.tensordot(A, pixels, (1, 0))
    return np.ascontiguousarray(np.tensordot(rows, B, (1, 1)).transpose(0, 2, 1))


# --- Shapes --------------------------------------------------------------------------------------


def _shapes(labels: NDArray[np.signedinteger[Any]], numbers: NDArray[np.intp]) -> list[Mask]:
    """Join what is broken, and return the shapes, the largest first.

    ``numbers`` are those of the pieces, the largest first; the first 24 have to do.
    """
    from scipy import ndimage

    left = [int(number) for number in numbers[:24]]
    boxes = ndimage.find_objects(labels)
    shapes: list[Mask] = []
    while left:
        shape = labels == left.pop(0)
        while left:
            distance = ndimage.distance_transform_edt(~shape)
            parts = [n for n in left if _belongs(labels == n, boxes[n - 1], shape, distance)]
            if not parts:
                break
            shape |= np.isin(labels, parts)
            left = [n for n in left if n not in parts]
        shapes.append(shape)
    return sorted(shapes, key=lambda shape: -int(shape.sum()))


def _belongs(part: Mask, box: Any, shape: Mask, distance: NDArray[Any]) -> bool:  # noqa: ANN401
    """Tell whether a part, such as the bar of a 5, is of a shape and not a digit beside it."""
    _, left, _, right = _bounds(shape)
    columns = box[1]
    overlap = min(right, columns.stop) - max(left, columns.start)
    above = overlap > 0.5 * min(right - left, columns.stop - columns.start)
    return bool(distance[part].min() < (0.16 if above else 0.06) * _length(shape))


def _bounds(mask: Mask) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _length(mask: Mask) -> int:
    top, left, bottom, right = _bounds(mask)
    return max(bottom - top, right - left)


# --- The image for the network -------------------------------------------------------------------


def _drawn(amount: Pixels, mask: Mask) -> NDArray[np.uint8]:
    """Return the image (28,28): ink in its box, strokes of a pen's width, mass in the middle."""
    from scipy import ndimage

    length: float = _length(mask)
    near: Mask = ndimage.binary_dilation(mask, iterations=2)
    level = _smoothed(amount[..., None], mask, length / 3)[..., 0]
    ink = np.where(near, np.clip(amount / np.maximum(level, 1e-3), 0, 1), np.float32(0))
    width = stroke_width(mask)
    thinnest, thickest = (limit / BOX for limit in STROKES)
    wanted = min(max(width / length, thinnest), thickest)
    if wanted != width / length:
        # Both sides of a stroke move out by so much that, in the box that grows with them, it is
        # as wide as wanted: (width + 2·out) / (length + 2·out) = wanted.
        out = max((wanted * length - width) / (1 - wanted) / 2, -width / 4)
        mask = np.pad(mask, math.ceil(max(out, 0)) + 1)
        inside: NDArray[np.float64] = ndimage.distance_transform_edt(mask)
        outside: NDArray[np.float64] = ndimage.distance_transform_edt(~mask)
        ink = np.clip(inside - outside + out + 0.5, 0, 1, dtype=np.float32)
        length += 2 * out
    A, B = (_placing(ink.sum(axis=axis), BOX / length) for axis in (1, 0))
    image: NDArray[np.uint8] = np.rint(255 * np.clip(A @ ink @ B.T, 0, 1)).astype(np.uint8)
    return image


def stroke_width(mask: Mask) -> float:
    """Return the mean width of the strokes: across one, the mean distance to its edge is ¼ of it.

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


def _placing(mass: Pixels, scale: float) -> Pixels:
    """Return the matrix (28, n) that scales n pixels, and puts their centre of mass in the middle.

    The middle is that of pixel 14, as in MNIST. The ink stays inside of the image where both do
    not go together.
    """
    inked = np.flatnonzero(mass > 0)
    first, end = inked[0], inked[-1] + 1
    centre = float((mass * (np.arange(mass.size) + 0.5)).sum() / mass.sum())
    above, below = 14.5 / scale, 13.5 / scale
    centre = min(max(centre, end - below), first + above)
    return _resampling(SIZE, mass.size, scale, centre - 0.5 / scale)


def resized(pixels: Pixels, H: int, W: int) -> Pixels:
    """Return pixels (h,w,C) as (H,W,C): means where it shrinks, linear between where it grows.

    Examples
    --------
    >>> resized(np.arange(6, dtype=np.float32).reshape(2, 3, 1), 1, 3)[..., 0]
    array([[1.5, 2.5, 3.5]], dtype=float32)
    """
    h, w = pixels.shape[:2]
    A, B = (_resampling(n, m, n / m, m / 2) for n, m in ((H, h), (W, w)))
    A, B = (matrix / matrix.sum(axis=1, keepdims=True) for matrix in (A, B))
    return _product(A, pixels, B)


def _resampling(n: int, m: int, scale: float, centre: float) -> Pixels:
    """Return the matrix (n,m) of a tent filter: n pixels, the middle of them at ``centre`` of m.

    ``scale`` is pixels of n for one of m. The tent is a pixel wide on either side, of the larger.
    """
    at = (np.arange(m) + 0.5 - centre) * scale - (np.arange(n)[:, None] + 0.5 - n / 2)
    radius = max(1.0, scale)
    return (np.maximum(0, 1 - np.abs(at) / radius) * (scale / radius)).astype(np.float32)

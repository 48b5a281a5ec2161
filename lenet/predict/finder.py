"""Find the digit in a picture.

A network knows only images like those it was trained on, and MNIST's are all alike: white ink on
black, of one size, in the middle. A photograph of a sheet of paper looks nothing like that, so it
is converted in five steps:

1. the background is estimated (:mod:`lenet.predict.planes`), and gradients of light and soft
   shadows are removed with it;
2. ink is what differs from the background along the colour axis with the largest differences,
   darker or lighter;
3. connected ink is a shape; frames and the edge of the table are cut away, the search continues
   inside a sheet that lies on something, broken strokes are joined, dust is removed;
4. a small digit is searched for again in the part of the picture around it;
5. the digit is redrawn as MNIST's are (:mod:`lenet.predict.planes`).

H×W is the size at which a picture is analysed: 256² pixels for a large one; a small one is enlarged
one and a half times, and to 96² or more. The lengths in this file are for 256², and are reduced in
proportion.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lenet.data.pixels import Pixels, is_grey
from lenet.predict.planes import (
    MAX_SIDE,
    MIN_CONTRAST,
    Box,
    Mask,
    Picture,
    Planes,
    around,
    bounds,
    dilated,
    eroded,
    from_global_background,
    from_local_background,
    peak,
    redrawn,
    seen,
    smallest_rectangle,
    without_holes,
)

Background: TypeAlias = Callable[[Picture, Mask], Planes]

MIN_SIZE = 8  # pixels a side of a picture that can contain a digit
MIN_SIDE = 96  # a picture is analysed with at least as many pixels as a square of this side
ENLARGED = 1.5  # by which a small picture is enlarged for the analysis
MAX_EDGE = 12  # pixels in which ink goes from half of its contrast to nothing
MAX_PIECES = 24  # of broken strokes


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
    box: tuple[float, float, float, float]
    contrast: float
    shapes: int
    stroke: float

    @property
    def length(self) -> float:
        """The longer side of the box."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])


@dataclass(frozen=True)
class _Shape:
    """Connected ink, or several pieces of a broken stroke."""

    mask: Mask  # (H,W)
    box: Box
    size: int  # pixels

    @classmethod
    def of(cls, mask: Mask) -> _Shape:
        return cls(mask, bounds(mask), int(mask.sum()))

    @property
    def length(self) -> int:
        top, left, bottom, right = self.box
        return max(bottom - top, right - left)


@dataclass(frozen=True)
class _Ink:
    """The ink of a picture, and the shapes that it forms."""

    amount: Planes  # (H,W), difference from the background; white less black is 1
    contrast: float
    region: Mask  # (H,W), where it was searched for
    shapes: list[_Shape]  # the largest first


def find_digit(pixels: Pixels) -> Digit | None:
    """Return the largest digit-like shape of a picture, or None where nothing stands out.

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
    if is_grey(pixels):
        pixels = pixels[..., :1]
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
    h, w = pixels.shape[:2]
    side = min(max(ENLARGED * math.sqrt(h * w), MIN_SIDE), MAX_SIDE)
    scale = min(side / math.sqrt(h * w), 4 * MAX_SIDE / max(h, w))
    H, W = (max(round(n * scale), MIN_SIZE) for n in (h, w))
    unit = side / MAX_SIDE
    picture = Picture(seen(pixels, H, W, sigma=unit), unit)
    ink = _separate(picture)
    if ink is None:
        return None
    shape = ink.shapes[0]
    image, stroke = redrawn(ink.amount, shape.mask, picture.pixels(2))
    top, left, bottom, right = shape.box
    return Digit(
        image=image,
        box=(top * h / H, left * w / W, bottom * h / H, right * w / W),
        contrast=ink.contrast,
        shapes=sum(other.length > 0.5 * shape.length for other in ink.shapes),
        stroke=stroke,
    )


# --- Background and ink --------------------------------------------------------------------------


def _separate(picture: Picture) -> _Ink | None:
    """Separate ink from a background that is estimated globally, or else locally.

    Shadows and gradients of light have soft edges, ink has not. Where what differs from the global
    background has soft edges, only what is narrow counts as ink.
    """
    everywhere = np.ones(picture.planes.shape[1:], bool)
    background: Background = from_global_background
    ink = _ink(picture, everywhere, background)
    if ink is not None and _is_soft(picture, ink):
        background = from_local_background
        ink = _ink(picture, everywhere, background)
    return ink and _inside_frames(picture, ink, background)


def _inside_frames(picture: Picture, ink: _Ink, background: Background) -> _Ink:
    """Continue inside frames and on the sheet, as long as there is ink."""
    for _ in range(3):
        inner = _inner_region(picture, ink)
        if inner is None:
            break
        region, min_length = inner
        inner_ink = _ink(picture, region, background)
        if inner_ink is None or inner_ink.contrast < ink.contrast / 6:
            break
        if inner_ink.shapes[0].length < min_length:
            break
        ink = inner_ink
    return ink


def _inner_region(picture: Picture, ink: _Ink) -> tuple[Mask, float] | None:
    """Return the region to search instead and the minimum length there, if there is such a region.

    It is the inside of what touches the edge; a digit that is cut by one side of the picture must
    not be taken for a frame around dust. Or it is a sheet: large, rectangular and nearly full.
    """
    region, shape, margin = ink.region, ink.shapes[0], picture.pixels(4)
    box = bounds(region)
    top, left, bottom, right = box
    covered = (shape.mask | ~region)[top:bottom, left:right]
    bars = [covered.mean(axis=axis) > 0.7 for axis in (1, 0)]
    ends = [int(bar.argmin()) for bar in (bars[0], bars[0][::-1], bars[1], bars[1][::-1])]
    if sum(end > 0 for end in ends) > 2:
        up, down, west, east = (end + margin for end in ends)
        inner = np.zeros_like(region)
        inner[top + up : bottom - down, left + west : right - east] = True
        return inner & region, 0
    edge = region & ~eroded(region, 1)
    frames = [other for other in ink.shapes if (other.mask & edge).any()]
    if frames:
        min_length = 0.0
        for frame in frames:
            sides = sum(a == b for a, b in zip(frame.box, box, strict=True))
            min_length = max(min_length, frame.length / (3 if sides < 2 else 20))
        masks = np.logical_or.reduce([frame.mask for frame in frames])
        return region & ~dilated(masks, margin), min_length
    rectangle = smallest_rectangle(shape.mask)
    if shape.size < 0.7 * rectangle:
        return None
    filled = without_holes(shape.mask)
    size = np.count_nonzero(filled)
    large = size > np.count_nonzero(region) / 8
    is_sheet = large and size > 0.88 * rectangle and shape.size > 0.8 * size
    return (eroded(filled, margin), 0) if is_sheet else None


def _is_soft(picture: Picture, ink: _Ink) -> bool:
    """Return whether a quarter of the edge of the largest shape is too wide for an edge of ink."""
    near = around(ink.shapes[0].box, 1)
    mask = ink.shapes[0].mask[near]
    edge = mask & dilated(~mask, 1)
    if not edge.any():
        return True
    down, across = (np.gradient(ink.amount[near], axis=axis)[edge] for axis in (0, 1))
    slopes = np.hypot(down, across)
    return bool((slopes < ink.contrast / 2 / (MAX_EDGE * picture.unit)).mean() > 0.25)


def _ink(picture: Picture, region: Mask, background: Background) -> _Ink | None:
    """Return what differs from the background within ``region``, None if nothing does."""
    from scipy import ndimage

    if np.count_nonzero(region) < MIN_SIZE**2:
        return None
    amount = background(picture, region)
    below = amount[amount < 0]  # where there is no ink
    noise = -1.4826 * float(np.median(below)) if below.size else 0.0
    contrast = peak(picture, amount)
    if contrast < max(MIN_CONTRAST, 6 * noise):
        return None
    labels, count = ndimage.label(amount > max(0.3 * contrast, 3 * noise), np.ones((3, 3)))
    # A shape contains some strong ink, and is larger than dust.
    strong = np.bincount(labels[amount > 0.5 * contrast], minlength=count + 1)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    area = picture.unit**2
    kept = np.flatnonzero((strong > 3 * area) & (sizes > max(12 * area, 0.01 * sizes.max())))
    if not kept.size:
        return None
    return _Ink(amount, contrast, region, _shapes(labels, kept[np.argsort(-sizes[kept])]))


# --- Shapes --------------------------------------------------------------------------------------


def _shapes(labels: NDArray[np.signedinteger], numbers: NDArray[np.intp]) -> list[_Shape]:
    """Join broken strokes, and return the shapes, the largest first.

    ``numbers`` are the labels of the pieces, the largest first; only the first 24 are used.
    """
    pieces = {n: _Shape.of(labels == n) for n in map(int, numbers[:MAX_PIECES])}
    shapes: list[_Shape] = []
    while pieces:
        shape = pieces.pop(next(iter(pieces)))
        while parts := _parts(shape, pieces):
            joined = [shape.mask, *(pieces.pop(n).mask for n in parts)]
            shape = _Shape.of(np.logical_or.reduce(joined))
        shapes.append(shape)
    return sorted(shapes, key=lambda shape: -shape.size)


def _parts(shape: _Shape, pieces: dict[int, _Shape]) -> list[int]:
    """Return which pieces, such as the bar of a 5, are part of a shape, not digits beside it."""
    from scipy import ndimage

    if not pieces:
        return []
    _, left, _, right = shape.box
    near = around(shape.box, math.ceil(0.16 * shape.length))
    distance = ndimage.distance_transform_edt(~shape.mask[near])

    def is_part(piece: _Shape) -> bool:
        inside = piece.mask[near]
        if not inside.any():
            return False
        _, first, _, end = piece.box
        overlap = min(right, end) - max(left, first)
        above = overlap > 0.5 * min(right - left, end - first)
        return bool(distance[inside].min() < (0.16 if above else 0.06) * shape.length)

    return [n for n, piece in pieces.items() if is_part(piece)]

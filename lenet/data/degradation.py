"""Random degradations of images: other pens, gaps, stray lines, other light, poor scans.

Each image gets each of them with the same probability, with a random amount. The random numbers are
drawn for a complete block of images, so that a worker with a part of it gets the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lenet.errors import ConfigError

Float = NDArray[np.float32]
"""Images (C,H,W,n): the difference of each level from the background, positive for ink."""

Draw = Callable[[np.random.Generator, tuple[int, int], int], Float]
"""Draws what the degradation of n images of height and width needs: (…, n)."""
Apply = Callable[[Float, Float, Float], Float]
"""Returns degraded images, from images, amounts (n,) and what was drawn (…, n)."""

INK = 128  # the level of a pixel that may be erased
GAP = 1.5  # radius of a gap, in pixels
MAX_GAPS = 8


@dataclass(frozen=True)
class Degradation:
    """One kind of degradation: its largest possible amount, and its two functions."""

    limit: float
    draw: Draw
    apply: Apply


def _nothing(_rng: np.random.Generator, _shape: tuple[int, int], n: int) -> Float:
    return np.empty((0, n), np.float32)


def _uniform(count: int) -> Draw:
    """Draw ``count`` numbers from 0 to 1 for every image."""
    return lambda rng, _shape, n: rng.random((count, n), np.float32)


def _normal(rng: np.random.Generator, shape: tuple[int, int], n: int) -> Float:
    return rng.standard_normal((*shape, n), np.float32)


def _stroke(x: Float, amount: Float, side: Float) -> Float:
    """Move the edges of strokes, outwards for one half of the images and inwards for the other.

    Greyscale dilation or erosion with a cross of 3×3, in part.
    """
    near = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    around = (near[:, :-2, 1:-1], near[:, 2:, 1:-1], near[:, 1:-1, :-2], near[:, 1:-1, 2:])
    thicker = side[0] < 0.5
    changed = x.copy()
    for part, extreme in ((thicker, np.maximum), (~thicker, np.minimum)):
        edge = x[..., part]
        for other in around:
            edge = extreme(edge, other[..., part])
        changed[..., part] += amount[part] * (edge - x[..., part])
    return changed


def _gaps(x: Float, amount: Float, places: Float) -> Float:
    """Erase up to ``amount`` discs, each centred on ink."""
    _, H, W, n = x.shape
    degraded = x.copy()
    rows, columns = np.indices((H, W))
    for i in range(n):
        ink = np.flatnonzero(x[..., i].max(axis=0) >= INK)
        for place in places[: int(np.ceil(amount[i])), i] if ink.size else ():
            row, column = divmod(int(ink[int(place * ink.size)]), W)
            degraded[:, (rows - row) ** 2 + (columns - column) ** 2 <= GAP**2, i] = 0
    return degraded


def _lines(x: Float, amount: Float, ends: Float) -> Float:
    """Draw a straight line of this width, from left to right or from top to bottom."""
    _, H, W, _ = x.shape
    row, column = np.indices((H, W), np.float32)[..., None]
    upright = ends[2] < 0.5
    along = np.where(upright, row / (H - 1), column / (W - 1))
    across = np.where(upright, column, row)
    first, last = ends[:2] * np.where(upright, W - 1, H - 1)
    distance = np.abs(across - first - (last - first) * along)
    distance /= np.hypot(1, (last - first) / np.where(upright, H, W))
    drawn: Float = (255 * np.clip(amount / 2 + 0.5 - distance, 0, 1)).astype(np.float32)
    return np.maximum(x, drawn)


def _blur(x: Float, amount: Float, _: Float) -> Float:
    """Apply a Gaussian with this standard deviation, cut off at three of them."""
    reach = np.ceil(3 * amount)
    radius = int(reach.max())
    offsets = np.arange(-radius, radius + 1)[:, None]
    kernel = np.exp(-0.5 * (offsets / np.maximum(amount, 0.01)) ** 2)
    kernel *= np.abs(offsets) <= reach  # whatever the radius of the others
    kernel = (kernel / kernel.sum(axis=0)).astype(np.float32)
    for axis in (1, 2):
        length = x.shape[axis]
        margins = [(radius if place == axis else 0,) * 2 for place in range(4)]
        moved = np.moveaxis(np.pad(x, margins), axis, 0)
        blurred = sum(moved[k : k + length] * weight for k, weight in enumerate(kernel))
        x = np.moveaxis(np.asarray(blurred), 0, axis)
    return x


def _faint(x: Float, amount: Float, _: Float) -> Float:
    """Take this fraction of the ink away."""
    return x * (1 - amount)


def _noise(x: Float, amount: Float, normal: Float) -> Float:
    """Add normal noise with this standard deviation."""
    return x + amount * normal


def _brightness(x: Float, amount: Float, side: Float) -> Float:
    """Make an image lighter or darker by this fraction of all levels."""
    return x + np.where(side[0] < 0.5, -255, 255).astype(np.float32) * amount


def _contrast(x: Float, amount: Float, side: Float) -> Float:
    """Increase or decrease the differences from the mean level by this fraction."""
    mean = x.mean(axis=(0, 1, 2), dtype=np.float64).astype(np.float32)  # of any part alike
    factor = 1 + np.where(side[0] < 0.5, -amount, amount)
    return np.asarray(mean + (x - mean) * factor)


DEGRADATIONS: Final[Mapping[str, Degradation]] = {
    "stroke": Degradation(1, _uniform(1), _stroke),
    "gaps": Degradation(MAX_GAPS, _uniform(MAX_GAPS), _gaps),
    "line": Degradation(8, _uniform(3), _lines),
    "blur": Degradation(5, _nothing, _blur),
    "faint": Degradation(0.95, _nothing, _faint),
    "brightness": Degradation(1, _uniform(1), _brightness),
    "contrast": Degradation(1, _uniform(1), _contrast),
    "noise": Degradation(255, _normal, _noise),
}
"""The degradations by name, in the order in which they are applied: pen, paper, light, scan."""


class Degrader:
    """Degrades images at random.

    Parameters
    ----------
    amounts
        The largest amount of each degradation by name; 0 leaves it out.
    chance
        The probability with which each of them is applied to an image.
    background
        The level of the paper, 0 to 255.
    gain, offset
        An image has gain · level + offset.

    Raises
    ------
    ConfigError
        An amount is out of range.

    Examples
    --------
    >>> images = np.zeros((1, 28, 28, 4), np.float32)
    >>> Degrader({"noise": 50.0}, chance=1.0).degrade(images, np.random.default_rng(0), 0, 4)
    >>> bool(10 < images.std() < 50)
    True
    """

    def __init__(
        self,
        amounts: Mapping[str, float],
        chance: float,
        *,
        background: int = 0,
        gain: float = 1.0,
        offset: float = 0.0,
    ) -> None:
        for name, amount in amounts.items():
            if not 0 <= amount <= DEGRADATIONS[name].limit:
                raise ConfigError(
                    f"must be from 0 to {DEGRADATIONS[name].limit:g}, is {amount}",
                    remedy="give a number in that range",
                    key=f"augment.{name}",
                )
        self.amounts, self.chance = amounts, chance
        # Ink is lighter than dark paper, and darker than light paper.
        self.sign = np.float32(1 if background < INK else -1)
        self.background, self.gain, self.offset = background, gain, offset

    def degrade(self, images: Float, rng: np.random.Generator, first: int, count: int) -> None:
        """Degrade images (C,H,W,n) in place.

        Parameters
        ----------
        images
            Those of a block of ``count`` images that begin with number ``first``.
        rng
            The generator of the block; the same for all its parts.
        first, count
            See ``images``.
        """
        _, H, W, n = images.shape
        scale = self.sign * self.gain
        paper = self.gain * self.background + self.offset
        for name, degradation in DEGRADATIONS.items():
            largest = self.amounts.get(name, 0.0)
            if not largest:
                continue
            chosen = np.flatnonzero(rng.random(count) < self.chance)
            amount = rng.uniform(0, largest, chosen.size).astype(np.float32)
            drawn = degradation.draw(rng, (H, W), chosen.size)
            here = (chosen >= first) & (chosen < first + n)
            places = chosen[here] - first
            if places.size:
                ink = (images[..., places] - paper) / scale
                ink = degradation.apply(ink, amount[here], drawn[..., here])
                images[..., places] = ink * scale + paper
        lowest, highest = sorted((self.offset, self.offset + 255 * self.gain))
        np.clip(images, lowest, highest, out=images)

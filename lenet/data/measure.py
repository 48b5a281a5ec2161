"""Measurements of a set of images (levels, background), and the preprocessing that fits them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lenet.data.levels import BYTES, Levels
from lenet.data.mapped import take
from lenet.data.preprocessing import Preprocessing, image_shape

SAMPLE = 10_000  # images on which levels and paper are measured, evenly spaced
UNIFORM = 0.75  # share of the border's pixels with the level of the paper, if there is paper
INK_SAMPLE = 2000  # images on which the position of the ink is measured
SIDE_TOLERANCE = 0.05
MAX_OFFSET = 0.04
TOLERANCE = 24  # tolerance of the level of the paper
MIN_RANGE = 128  # difference between darkest and lightest level above which no scaling is needed


@dataclass(frozen=True)
class ImageFacts:
    """Measurements of a set of images.

    Attributes
    ----------
    shape
        (C,H,W).
    darkest, lightest
        The smallest and the largest level, 0 to 255.
    mean
        Of all levels.
    paper
        The level of the border, if it is the same in nearly all images; otherwise None.
    ink_side
        The longer side of the box around the ink, as a share of the image's: the median. MNIST's
        is 20/28 = 0.71. NaN without paper.
    ink_offset
        How far the ink's centre of mass is from the image's centre, as a share of its side: the
        root mean square. MNIST's is 0.03. NaN without paper.
    """

    shape: tuple[int, int, int]
    darkest: int
    lightest: int
    mean: float
    paper: int | None
    ink_side: float = math.nan
    ink_offset: float = math.nan

    @property
    def drawn_as_mnist(self) -> bool:
        """Whether the ink fills the middle 20 of 28 pixels, centred by mass, as MNIST's does."""
        return abs(self.ink_side - 20 / 28) < SIDE_TOLERANCE and self.ink_offset < MAX_OFFSET

    @property
    def dark_on_light(self) -> bool:
        """Whether the images are ink on light paper; MNIST's are light on black."""
        return self.paper is not None and self.paper > (self.darkest + self.lightest) / 2

    def remarks(self) -> list[str]:
        """Return a line for each property that may hinder training."""
        lines = []
        if self.lightest == self.darkest:
            lines.append(f"all pixels are {self.darkest}: the images contain no information")
        elif self.lightest - self.darkest < MIN_RANGE:
            lines.append(
                f"levels are {self.darkest} to {self.lightest}, not 0 to 255: training scales "
                "the input by them"
            )
        if self.dark_on_light:
            lines.append(
                f"the background is light (level {self.paper}), MNIST's is black: data.invert "
                "exchanges them"
            )
        return lines


def disagreements(training: ImageFacts, test: ImageFacts, what: str = "test images") -> list[str]:
    """Return a line for each property in which test images differ from training images."""
    lines = []
    if training.shape != test.shape:
        shapes = ("×".join(map(str, facts.shape)) for facts in (training, test))
        lines.append("training images are of {}, {what} of {}".format(*shapes, what=what))
    ranges = [facts.lightest - facts.darkest for facts in (training, test)]
    if min(ranges) < MIN_RANGE <= max(ranges):
        lines.append(
            f"levels of the training images are {training.darkest} to {training.lightest}, "
            f"of {the(what)} {test.darkest} to {test.lightest}"
        )
    if None not in (training.paper, test.paper) and training.dark_on_light != test.dark_on_light:
        lines.append(
            f"the background of the training images is {training.paper}, "
            f"of {the(what)} {test.paper}: data.invert exchanges light and dark"
        )
    return lines


def the(what: str) -> str:
    """Return a noun with its article, which ``these`` has already."""
    return what if what.startswith("these") else f"the {what}"


@dataclass(frozen=True)
class TrainingImages:
    """What prediction needs to know of the images that a network was trained on.

    Attributes
    ----------
    shape
        (C,H,W).
    darkest, lightest, paper, drawn_as_mnist
        As in :class:`ImageFacts`.
    levels
        The two numbers of the files that became 0 and 255.
    """

    shape: tuple[int, int, int]
    darkest: int = 0
    lightest: int = 255
    paper: int | None = 0
    drawn_as_mnist: bool = True
    levels: Levels = BYTES

    @property
    def deep_levels(self) -> Levels | None:
        """The levels of pictures of more than 8 bits, if the training images had more."""
        return self.levels if self.levels[1] > BYTES[1] else None

    @property
    def narrow(self) -> bool:
        """Whether the images use few of the levels from 0 to 255."""
        return 0 < self.lightest - self.darkest < MIN_RANGE


def training_images(
    images: NDArray[np.uint8], levels: Levels = BYTES, facts: ImageFacts | None = None
) -> TrainingImages:
    """Measure the training images (N,H,W) or (N,C,H,W), unless ``facts`` are given."""
    facts = facts or image_facts(images)
    return TrainingImages(
        facts.shape, facts.darkest, facts.lightest, facts.paper, facts.drawn_as_mnist, levels
    )


def image_facts(images: NDArray[np.uint8]) -> ImageFacts:
    """Measure images (N,H,W) or (N,C,H,W), or a sample if there are many.

    Examples
    --------
    >>> white = np.full((3, 8, 8), 255, np.uint8)
    >>> white[:, 2:6, 3:5] = 0
    >>> facts = image_facts(white)
    >>> facts.paper, facts.dark_on_light
    (255, True)
    """
    chosen = np.linspace(0, len(images) - 1, min(len(images), SAMPLE)).astype(np.intp)
    C, H, W = image_shape(images)
    sample = take(images, chosen).reshape(-1, C, H, W)
    border = np.concatenate(
        [sample[:, :, 0], sample[:, :, -1], sample[:, :, 1:-1, 0], sample[:, :, 1:-1, -1]], axis=2
    )
    paper = int(np.median(border))
    uniform = (np.abs(border.astype(np.int16) - paper) <= TOLERANCE).mean() >= UNIFORM
    facts = ImageFacts(
        (C, H, W),
        int(sample.min()),
        int(sample.max()),
        float(sample.mean()),
        paper if uniform else None,
    )
    if not uniform:
        return facts
    side, offset = _ink_box(sample[:INK_SAMPLE].mean(axis=1, dtype=np.float32), paper)
    return replace(facts, ink_side=side, ink_offset=offset)


def _ink_box(images: NDArray[np.float32], paper: int) -> tuple[float, float]:
    """Return ``ink_side`` and ``ink_offset`` of grey images (N,H,W)."""
    _, H, W = images.shape
    ink = images - np.float32(paper)
    np.abs(ink, out=ink)
    ink = ink[ink.max(axis=(1, 2)) > TOLERANCE]  # a blank image has no ink
    if not len(ink):
        return math.nan, math.nan
    seen = ink > ink.max(axis=(1, 2), keepdims=True) / 8
    sides = [
        (n - seen.any(axis).argmax(1) - seen.any(axis)[:, ::-1].argmax(1)) / n
        for axis, n in ((2, H), (1, W))
    ]
    mass = ink.sum(axis=(1, 2))
    offsets = [
        (ink.sum(axis) * (np.arange(n) + 0.5)).sum(axis=1) / mass / n - 0.5
        for axis, n in ((2, H), (1, W))
    ]
    side = float(np.median(np.maximum(*sides)))
    return side, float(np.sqrt(np.mean(offsets[0] ** 2 + offsets[1] ** 2)))


def fit_preprocessing(preprocessing: Preprocessing, facts: ImageFacts) -> Preprocessing:
    """Return the preprocessing for images with these levels and this paper.

    The network's input then spans what it spans for levels from 0 to 255, and the padding is paper.
    Images that use most of the bytes are scaled as before, and paper within a quarter of the
    levels of black is level 0 as before: for MNIST nothing changes.

    Examples
    --------
    Bytes of 0 and 1:

    >>> ones = np.pad(np.ones((3, 6, 6), np.uint8), ((0, 0), (1, 1), (1, 1)))
    >>> x = fit_preprocessing(Preprocessing((1, 8, 8)), image_facts(ones)).prepare(ones)
    >>> f"{x.min():.3f} {x.max():.3f}"
    '-0.100 1.175'
    """
    width = facts.lightest - facts.darkest
    background = preprocessing.background
    if facts.paper is not None and abs(facts.paper - background) > width / 4:
        background = facts.paper
    if not 0 < width < MIN_RANGE:
        return replace(preprocessing, background=background)
    scale = preprocessing.scale * 255 / width
    shift = preprocessing.shift - scale * facts.darkest
    return replace(preprocessing, scale=scale, shift=shift, background=background)

"""What a set of images looks like: levels and paper; the preprocessing that fits them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lenet.data.preprocessing import Preprocessing, image_shape

SAMPLE = 10_000  # images that levels and paper are measured on, from all over
UNIFORM = 0.75  # of the border's pixels are as light as the paper, where there is paper
TOLERANCE = 24  # levels that paper may differ by
MIN_RANGE = 128  # levels between the darkest and the lightest pixel of images that use the bytes


@dataclass(frozen=True)
class ImageFacts:
    """What a set of images looks like.

    Attributes
    ----------
    shape
        (C,H,W).
    darkest, lightest
        The smallest and the largest level, 0 to 255.
    mean
        Of all levels.
    paper
        The level of the border, if nearly all images have the same there; otherwise None.
    """

    shape: tuple[int, int, int]
    darkest: int
    lightest: int
    mean: float
    paper: int | None

    @property
    def dark_on_light(self) -> bool:
        """Whether the images are ink on light paper; MNIST's are light on black."""
        return self.paper is not None and self.paper > (self.darkest + self.lightest) / 2

    def remarks(self) -> list[str]:
        """Return a line for everything that training should know of."""
        lines = []
        if self.lightest == self.darkest:
            lines.append(f"all pixels are {self.darkest}: there is nothing to learn from")
        elif self.lightest - self.darkest < MIN_RANGE:
            lines.append(
                f"levels are {self.darkest} to {self.lightest}, not 0 to 255: the input is nearly "
                "constant unless it is scaled by them"
            )
        if self.dark_on_light:
            lines.append(
                f"the background is light (level {self.paper}), MNIST's is black: data.invert "
                "exchanges them"
            )
        return lines


def image_facts(images: NDArray[np.uint8]) -> ImageFacts:
    """Measure images (N,H,W) or (N,C,H,W), a sample of them if they are many.

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
    sample = images[chosen].reshape(-1, C, H, W)
    border = np.concatenate(
        [sample[:, :, 0], sample[:, :, -1], sample[:, :, 1:-1, 0], sample[:, :, 1:-1, -1]], axis=2
    )
    paper = int(np.median(border))
    uniform = (np.abs(border.astype(np.int16) - paper) <= TOLERANCE).mean() >= UNIFORM
    return ImageFacts(
        (C, H, W),
        int(sample.min()),
        int(sample.max()),
        float(sample.mean()),
        paper if uniform else None,
    )


def fit_preprocessing(preprocessing: Preprocessing, facts: ImageFacts) -> Preprocessing:
    """Return the preprocessing for images with these levels and this paper.

    The network's input then spans what it spans for levels from 0 to 255, and the padding is paper.
    Images that use most of the bytes are scaled as before, and black paper is level 0 as before:
    for MNIST nothing changes.

    Parameters
    ----------
    preprocessing
        For levels from 0 to 255.
    facts
        Of the training images.

    Examples
    --------
    Bytes of 0 and 1:

    >>> ones = np.pad(np.ones((3, 6, 6), np.uint8), ((0, 0), (1, 1), (1, 1)))
    >>> x = fit_preprocessing(Preprocessing((1, 8, 8)), image_facts(ones)).prepare(ones)
    >>> f"{x.min():.3f} {x.max():.3f}"
    '-0.100 1.175'
    """
    background = preprocessing.background if facts.paper is None else facts.paper
    width = facts.lightest - facts.darkest
    if not 0 < width < MIN_RANGE:
        return replace(preprocessing, background=background)
    scale = preprocessing.scale * 255 / width
    shift = preprocessing.shift - scale * facts.darkest
    return replace(preprocessing, scale=scale, shift=shift, background=background)

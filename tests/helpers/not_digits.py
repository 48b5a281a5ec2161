"""Images (N,28,28) that are no digits, drawn from a generator; scripts/weights draw trains on them.

What could be meant as a digit is left out: rings, bars, a 6 or a 0 upside down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from signs import LETTERS, Bytes, by_many, glyphs, letters, scribbles, signs

from lenet.data.strokes import SIZE
from lenet.predict.finder import find_digit
from lenet.predict.planes import BOX, placement

Floats = NDArray[np.float64]
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2


class Digits(NamedTuple):
    """Images (N,28,28) of digits, of which some of the others are made, and their labels (N,)."""

    images: Bytes
    labels: Bytes

    def some(self, rng: np.random.Generator, count: int, among: str = "0123456789") -> Bytes:
        """Return ``count`` random images of some of the digits."""
        places = np.flatnonzero(np.isin(self.labels, [int(digit) for digit in among]))
        return self.images[rng.choice(places, count)]


# --- Made of digits -------------------------------------------------------------------------------


def trimmed(image: Bytes) -> Bytes:
    """Return the box of the ink of an image (H,W)."""
    seen = image > 32
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def in_a_row(rng: np.random.Generator, *signs: Bytes) -> Bytes:
    """Put signs beside each other, touching or not, and scale them to 28×28, squeezed or not."""
    row = trimmed(signs[0])
    for sign in map(trimmed, signs[1:]):
        gap = int(rng.integers(-4, 5))
        top = int(rng.integers(-3, 4))
        height = max(len(row), len(sign)) + 3
        joined = np.zeros((height + 3, row.shape[1] + sign.shape[1] + max(gap, 0)), np.uint8)
        joined[3 : 3 + len(row), : row.shape[1]] = row
        left = max(row.shape[1] + gap, 0)
        place = joined[3 + top : 3 + top + len(sign), left : left + sign.shape[1]]
        np.maximum(place, sign[: len(place), : place.shape[1]], out=place)
        row = trimmed(joined)
    across = BOX / max(row.shape) if rng.random() < 0.4 else rng.uniform(16, 26) / row.shape[1]
    down = min(across * np.exp(rng.uniform(0, 0.7)), 26 / len(row))
    A, B = placement(row.sum(axis=1), down), placement(row.sum(axis=0), across)
    return np.rint(A @ row @ B.T).clip(0, 255).astype(np.uint8)


def two_digits(rng: np.random.Generator, count: int, digits: Digits) -> Bytes:
    pairs = zip(digits.some(rng, count), digits.some(rng, count), strict=True)
    return np.stack([in_a_row(rng, *pair) for pair in pairs])


def numbers_and_words(rng: np.random.Generator, count: int, digits: Digits) -> Bytes:
    """Put letters or digits beside each other, two of them, or three digits."""
    mixed = np.concatenate([by_many(LETTERS, rng, count), digits.some(rng, count)])
    pairs = rng.permutation(mixed)[:count].reshape(-1, 2, SIZE, SIZE)
    words = [in_a_row(rng, *pair) for pair in pairs]
    rest = (digits.some(rng, count - len(words)) for _ in range(3))
    numbers = [in_a_row(rng, *three) for three in zip(*rest, strict=True)]
    return np.stack(words + numbers)


def overlapping(rng: np.random.Generator, count: int, digits: Digits) -> Bytes:
    """Write two digits over each other, of which each adds much to the other."""
    chosen: list[Bytes] = []
    while len(chosen) < count:
        for below, above in zip(digits.some(rng, count), digits.some(rng, count), strict=True):
            moved = np.roll(above, rng.integers(-3, 4, 2), axis=(0, 1)).astype(np.int16)
            added = np.maximum(moved - below, 0).sum() / moved.sum()  # part of its ink
            left = (below > moved).mean()  # part of the image
            if added > 0.4 and left > 0.05:
                chosen.append(np.maximum(below, moved).astype(np.uint8))
    return np.stack(chosen[:count])


def turned(rng: np.random.Generator, count: int, digits: Digits) -> Bytes:
    """Mirror digits, or lay them on their side."""
    mirrored = digits.some(rng, count // 2, "34679")[:, :, ::-1]
    lying = digits.some(rng, count - count // 2, "234578")
    side = rng.random(len(lying)) < 0.5
    lying = np.where(side[:, None, None], np.rot90(lying, 1, (1, 2)), np.rot90(lying, 3, (1, 2)))
    return np.concatenate([mirrored, lying])


def cut_up(rng: np.random.Generator, count: int, digits: Digits) -> Bytes:
    """Exchange the quarters of digits."""
    quarters = np.stack(
        [
            half
            for row in np.split(digits.some(rng, count, "23456789"), 2, 1)
            for half in np.split(row, 2, 2)
        ]
    )
    orders = [(1, 0, 3, 2), (3, 2, 1, 0), (1, 2, 3, 0), (3, 0, 1, 2), (0, 3, 2, 1), (2, 1, 0, 3)]
    order = np.array(orders)[rng.integers(len(orders), size=count)].T
    a, b, c, d = np.take_along_axis(quarters, order[..., None, None], axis=0)
    return np.concatenate([np.concatenate([a, b], 2), np.concatenate([c, d], 2)], 1)


def inverted(rng: np.random.Generator, count: int, digits: Digits) -> Bytes:
    return 255 - digits.some(rng, count)


# --- Not written ----------------------------------------------------------------------------------


def as_bytes(levels: Floats) -> Bytes:
    return np.rint(levels).clip(0, 255).astype(np.uint8)


def some_of_each(count: int, *draw: Callable[[int], Floats]) -> Bytes:
    """Return as many images of each kind."""
    parts = [len(part) for part in np.array_split(np.arange(count), len(draw))]
    return as_bytes(np.concatenate([kind(n) for kind, n in zip(draw, parts, strict=True)]))


def noise(rng: np.random.Generator, count: int) -> Bytes:
    """Draw independent pixels."""

    def sparse(n: int) -> Floats:
        share = rng.uniform(0.02, 0.6, (n, 1, 1))
        return 255 * (rng.random((n, SIZE, SIZE)) < share) * rng.uniform(0.3, 1, (n, 1, 1))

    def in_a_box(n: int) -> Floats:
        half = rng.uniform(5, 12, (2, n, 1, 1))
        inside = (np.abs(ROWS) < half[0]) & (np.abs(COLUMNS) < half[1])
        return inside * rng.uniform(0, rng.uniform(100, 300, (n, 1, 1)), (n, SIZE, SIZE))

    return some_of_each(
        count,
        lambda n: rng.uniform(0, rng.uniform(60, 300, (n, 1, 1)), (n, SIZE, SIZE)),
        lambda n: rng.normal(
            rng.uniform(-40, 200, (n, 1, 1)), rng.uniform(20, 120, (n, 1, 1)), (n, SIZE, SIZE)
        ),
        sparse,
        in_a_box,
    )


def clouds(rng: np.random.Generator, count: int) -> Bytes:
    """Draw smooth noise, of any contrast, and also shapes that it makes with hard edges."""
    fields = np.stack(
        [
            ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE)), rng.uniform(0.6, 4))
            for _ in range(count)
        ]
    )
    fields -= fields.mean(axis=(1, 2), keepdims=True) * rng.random((count, 1, 1))
    fields *= rng.uniform(20, 100, (count, 1, 1)) / fields.std(axis=(1, 2), keepdims=True)
    fields[::3] *= 10
    return as_bytes(fields + rng.uniform(-100, 200, (count, 1, 1)))


def patterns(rng: np.random.Generator, count: int) -> Bytes:
    """Draw stripes, gradients, frames, boxes, blots and dots."""

    def axes(n: int) -> tuple[Floats, Floats]:
        angle = rng.uniform(0, np.pi, (n, 1, 1))
        cos, sin = np.cos(angle), np.sin(angle)
        return cos * COLUMNS + sin * ROWS, cos * ROWS - sin * COLUMNS

    def stripes(n: int) -> Floats:
        waves = np.sin(axes(n)[0] * rng.uniform(0.5, 2.5, (n, 1, 1)) + rng.uniform(0, 6, (n, 1, 1)))
        return 128 + 127 * (waves * rng.choice([1, 10], (n, 1, 1))).clip(-1, 1)

    def gradients(n: int) -> Floats:
        return rng.uniform(0, 255, (n, 1, 1)) + rng.uniform(-12, 12, (n, 1, 1)) * axes(n)[0]

    def lattices(n: int) -> Floats:
        step = rng.integers(3, 9, (2, n, 1, 1))
        lines = ((ROWS + 13.5) % step[0] < 1) | ((COLUMNS + 13.5) % step[1] < 1)
        return rng.uniform(60, 255, (n, 1, 1)) * lines

    def frames(n: int) -> Floats:
        half = rng.uniform(8, 14, (2, n, 1, 1))
        depth = np.minimum(half[0] - np.abs(ROWS), half[1] - np.abs(COLUMNS))
        return rng.uniform(60, 255, (n, 1, 1)) * (
            (depth > 0) & (depth < rng.uniform(1, 4, (n, 1, 1)))
        )

    def boxes(n: int) -> Floats:
        half = rng.uniform(6, 14, (n, 1, 1))
        depth = np.minimum(
            half - np.abs(ROWS), half * rng.uniform(0.7, 1, (n, 1, 1)) - np.abs(COLUMNS)
        )
        return rng.uniform(60, 255, (n, 1, 1)) * (depth.clip(-0.5, 0.5) + 0.5)

    def blots(n: int) -> Floats:
        u, v = axes(n)
        distance = np.hypot(u, v * rng.uniform(0.6, 1, (n, 1, 1)))
        distance *= 1 + rng.uniform(0, 0.2, (n, 1, 1)) * np.sin(0.4 * u + 0.7 * v)
        depth = rng.uniform(5, 12, (n, 1, 1)) - distance
        return rng.uniform(60, 255, (n, 1, 1)) * (depth / rng.uniform(0.5, 5, (n, 1, 1))).clip(0, 1)

    def dots(n: int) -> Floats:
        drawn = np.zeros((n, SIZE, SIZE))
        for image in drawn:
            for _ in range(rng.integers(1, 9)):
                row, column = rng.uniform(-11, 11, 2)
                near = rng.uniform(0.6, 2.2) + 0.5 - np.hypot(ROWS - row, COLUMNS - column)
                np.maximum(image, 255 * near.clip(0, 1), out=image)
        return drawn

    return some_of_each(count, stripes, gradients, lattices, frames, boxes, blots, dots)


def blanks(rng: np.random.Generator, count: int) -> Bytes:
    """Draw nothing: one level, or nearly, of which a third is black."""
    level = rng.uniform(0, 255, (count, 1, 1)) * (rng.random((count, 1, 1)) < 0.67)
    return as_bytes(
        level + rng.normal(0, 1, (count, SIZE, SIZE)) * rng.uniform(0, 12, (count, 1, 1))
    )


def found(rng: np.random.Generator, count: int) -> Bytes:
    """Return what `lenet predict` finds in photographs of blank pages, in noise and in clouds."""

    def pages() -> Iterator[Floats]:
        while True:
            H, W = rng.integers(28, 90, 2)
            rows, columns = np.mgrid[-1 : 1 : 1j * H, -1 : 1 : 1j * W]
            light = (
                rng.uniform(100, 250) + rng.uniform(-80, 80) * rows + rng.uniform(-80, 80) * columns
            )
            yield light + rng.normal(0, rng.uniform(1, 10), (H, W))
            yield rng.uniform(0, 255, (H, W))
            yield 255.0 * (rng.random((H, W)) < rng.uniform(0.02, 0.5))
            smooth = ndimage.gaussian_filter(rng.normal(size=(H, W)), rng.uniform(0.7, 8))
            yield 128 + rng.uniform(20, 90) * smooth / smooth.std()

    chosen: list[Bytes] = []
    for page in pages():
        pixels = as_bytes(page).astype(np.float32) / np.float32(255)
        digit = find_digit(np.repeat(pixels[..., None], 3, axis=2))
        if digit is not None:
            chosen.append(digit.image)
        if len(chosen) == count:
            break
    return np.stack(chosen)


DRAWN: dict[str, tuple[Callable[[np.random.Generator, int], Bytes], int]] = {
    "letters": (letters, 40_000),
    "signs": (signs, 8_000),
    "glyphs": (glyphs, 8_000),
    "scribbles": (scribbles, 4_000),
    "noise": (noise, 12_000),
    "clouds": (clouds, 4_000),
    "patterns": (patterns, 5_000),
    "blanks": (blanks, 2_000),
    "found": (found, 3_000),
}
"""What is drawn, and how many images of it."""

MADE_OF_DIGITS: dict[str, tuple[Callable[[np.random.Generator, int, Digits], Bytes], int]] = {
    "two digits": (two_digits, 12_000),
    "numbers and words": (numbers_and_words, 4_000),
    "overlapping": (overlapping, 8_000),
    "turned": (turned, 3_000),
    "cut up": (cut_up, 1_000),
    "inverted": (inverted, 1_000),
}
"""What is made of images of digits, and how many images of it."""


def not_digits(seed: int, digits: Digits) -> Iterator[tuple[str, Bytes]]:
    """Yield what there is of every kind."""
    for number, (name, (draw, count)) in enumerate(DRAWN.items()):
        yield name, draw(np.random.default_rng([seed, 0, number]), count)
    for number, (name, (make, count)) in enumerate(MADE_OF_DIGITS.items()):
        yield name, make(np.random.default_rng([seed, 1, number]), count, digits)

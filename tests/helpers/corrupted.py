"""Twelve corruptions of images of digits: mild, medium and strong, from a generator of their own.

They follow N. Mu, J. Gilmer (2019), MNIST-C: A Robustness Benchmark for Computer Vision
(https://arxiv.org/abs/1906.02337), and D. Hendrycks, T. Dietterich (2019), Benchmarking Neural
Network Robustness to Common Corruptions and Perturbations (https://arxiv.org/abs/1903.12261), with
changes that handwriting from elsewhere shows: other proportions, pens and scans.

A corruption takes images (N,H,W), 0 to 255, a generator and an amount, and returns images (N,H,W).
They share no code with the distortions of training.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Images = NDArray[np.float64]
Corruption = Callable[[Images, np.random.Generator, float], Images]


STRENGTHS = ("mild", "medium", "strong")
FINE = 4  # a stroke's edges move by quarters of a pixel
TILE = 8  # pixels of a side of JPEG's blocks


def signs(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Return +1 or −1 for every image."""
    return rng.choice([-1.0, 1.0], count)


def resampled(images: Images, matrices: NDArray[np.float64]) -> Images:
    """Read each image at ``matrix @ (row, column)``, measured from its centre."""
    centre = (np.array(images.shape[1:]) - 1) / 2
    pairs = zip(images, matrices, strict=True)
    return np.stack(
        [ndimage.affine_transform(x, m, centre - m @ centre, order=1) for x, m in pairs]
    )


def aspect(images: Images, rng: np.random.Generator, amount: float) -> Images:
    """Wider and lower, or narrower and higher, by this fraction."""
    factor = (1 + amount) ** signs(rng, len(images))
    return resampled(images, np.einsum("in,ij->nij", np.stack([factor, 1 / factor]), np.eye(2)))


def slant(images: Images, rng: np.random.Generator, amount: float) -> Images:
    """Move sideways by this many pixels per pixel of height."""
    matrices = np.tile(np.eye(2), (len(images), 1, 1))
    matrices[:, 1, 0] = amount * signs(rng, len(images))
    return resampled(images, matrices)


def rotation(images: Images, rng: np.random.Generator, amount: float) -> Images:
    """Turn by this many degrees, in either direction."""
    angle = np.radians(amount) * signs(rng, len(images))
    matrices = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return resampled(images, matrices.transpose(2, 0, 1))


def size(images: Images, rng: np.random.Generator, amount: float) -> Images:
    """Scale to this fraction of the size."""
    return resampled(images, np.tile(np.eye(2) / amount, (len(images), 1, 1)))


def stroke(images: Images, rng: np.random.Generator, amount: float) -> Images:
    """Make the strokes of half of the images thicker, those of the others thinner.

    Both edges of a stroke move by this many quarters of a pixel: maximum and minimum filters of
    the image enlarged four times.
    """
    thicker = signs(rng, len(images)) > 0
    out = np.empty_like(images)
    span = (1, 2 * int(amount) + 1, 2 * int(amount) + 1)
    _, H, W = images.shape
    for part, change in ((thicker, ndimage.maximum_filter), (~thicker, ndimage.minimum_filter)):
        fine = ndimage.zoom(
            images[part], (1, FINE, FINE), order=1, grid_mode=True, mode="grid-constant"
        )
        changed = change(fine, span, mode="nearest")
        out[part] = changed.reshape(-1, H, FINE, W, FINE).mean(axis=(2, 4))
    return out


def blur(images: Images, rng: np.random.Generator, amount: float) -> Images:
    """Apply a Gaussian of this many pixels."""
    return ndimage.gaussian_filter(images, (0, amount, amount))


def noise(images: Images, rng: np.random.Generator, amount: float) -> Images:
    """Add normal noise with this standard deviation."""
    return images + rng.normal(0, amount, images.shape)


def gaps(images: Images, rng: np.random.Generator, amount: float) -> Images:
    """Erase this many discs of 3 pixels across, centred on ink."""
    out = images.copy()
    rows, columns = np.indices(images.shape[1:])
    for image, erased in zip(images, out, strict=True):
        ink = np.argwhere(image > 127)
        if not len(ink):
            continue
        for row, column in ink[rng.integers(len(ink), size=int(amount))]:
            erased[(rows - row) ** 2 + (columns - column) ** 2 <= 2.3] = 0
    return out


def line(images: Images, rng: np.random.Generator, amount: float) -> Images:
    """Draw a straight white line of this width from the left edge to the right edge."""
    N, H, W = images.shape
    left, right = rng.uniform(0.15 * H, 0.85 * H, (2, N, 1, 1))
    rows, columns = np.indices((H, W))
    slope = (right - left) / (W - 1)
    distance = np.abs(rows - left - slope * columns) / np.sqrt(1 + slope**2)
    drawn = 255 * np.clip(amount / 2 + 0.5 - distance, 0, 1)
    return np.maximum(images, drawn)


def faint(images: Images, rng: np.random.Generator, amount: float) -> Images:
    """Leave this fraction of the ink's level."""
    return images * amount


def shift(images: Images, rng: np.random.Generator, amount: float) -> Images:
    """Move by this many pixels in one of eight directions."""
    directions = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
    chosen = rng.integers(len(directions), size=len(images))
    out = np.zeros_like(images)
    for number, (i, j) in enumerate(directions):
        part = chosen == number
        out[part] = ndimage.shift(images[part], (0, amount * i, amount * j), order=1)
    return out


def scan(images: Images, rng: np.random.Generator, amount: float) -> Images:
    """Round the cosine transform of 8×8 blocks, as JPEG does; this is the finest step."""
    N, H, W = images.shape
    padded = np.pad(images, ((0, 0), (0, -H % TILE), (0, -W % TILE)))
    tiles = padded.reshape(N, -(-H // TILE), TILE, -(-W // TILE), TILE)
    steps = amount * (1 + np.add.outer(np.arange(TILE), np.arange(TILE)))[:, None, :]
    rounded = np.rint(fft.dctn(tiles, axes=(2, 4), norm="ortho") / steps) * steps
    return fft.idctn(rounded, axes=(2, 4), norm="ortho").reshape(padded.shape)[:, :H, :W]


CORRUPTIONS: dict[str, tuple[Corruption, tuple[float, float, float]]] = {
    "aspect": (aspect, (0.1, 0.2, 0.3)),
    "slant": (slant, (0.15, 0.3, 0.45)),
    "rotation": (rotation, (8, 16, 24)),
    "size": (size, (0.85, 0.7, 0.6)),
    "stroke": (stroke, (1, 2, 3)),
    "blur": (blur, (0.75, 1.1, 1.5)),
    "noise": (noise, (25, 50, 75)),
    "gaps": (gaps, (1, 2, 3)),
    "line": (line, (0.5, 1, 1.5)),
    "faint": (faint, (0.7, 0.5, 0.3)),
    "shift": (shift, (1, 2, 3)),
    "scan": (scan, (10, 20, 40)),
}
"""The corruptions by name, with their amounts: mild, medium, strong."""


def corrupted(
    images: NDArray[np.uint8], name: str, strength: str, seed: int = 0
) -> NDArray[np.uint8]:
    """Return images (N,H,W) with one of the corruptions; the same arguments give the same bits."""
    corruption, amounts = CORRUPTIONS[name]
    place = STRENGTHS.index(strength)
    rng = np.random.default_rng([seed, list(CORRUPTIONS).index(name), place])
    changed = corruption(images.astype(np.float64), rng, amounts[place])
    return np.rint(changed).clip(0, 255).astype(np.uint8)

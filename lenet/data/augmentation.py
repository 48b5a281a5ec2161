"""Distortions: affine maps and elastic fields, for a whole batch in one resampling pass.

A distorted image is the original sampled at other positions: pixel p of the new image is the
original at ``map(p)``, with bilinear interpolation between pixels. Every map here is a sum of
products of a function of the row and a function of the column, so the coordinates of an image are
two matrix products, for rows and for columns alike:

    coordinates  =  R · coefficients · Cᵀ         (H × K) · (K × K) · (K × W)

R is [1, row, …] and C is [1, column, …]. These are the affine part (rotation, scale, shear, shift);
the other functions are the elastic part (P. Simard, D. Steinkraus, J. Platt: Best practices for
convolutional neural networks applied to visual document analysis, ICDAR 2003), the principal
components of smoothed noise: a field smoothed over some pixels has few of them, so a fresh field
for every image costs some thirty random numbers per direction, and no filtering.

Coordinates are then rounded to 1/256 of a pixel, and everything after that is exact integer
arithmetic: the four neighbours of a position are the four bytes of one uint32, fetched at once.

Random numbers are a function of the position in the batch, not of what was drawn before: a batch
is cut into blocks of ``BLOCK`` images by position, and each block has its own generator. A
worker with a slice of the batch gets the same bits as one with all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray

from lenet.data.degradation import Degrader
from lenet.errors import ConfigError

BLOCK = 32
"""Images that share a generator and a matrix product; their buffers fit in 1 MB of L2 cache."""

KEPT_VARIANCE = 0.995
"""Share of an elastic field's variance that its principal components must explain."""

MAX_STRAIN = 0.25
"""Largest standard deviation of a field's slope: a fold, at slope −1, is then 4 deviations off."""

INK = 64
"""Pixels that differ by so many grey levels from the background are in the box of a digit."""

MAX_STRETCH = 3
"""A box is stretched no further: an upright stroke would become a blot."""

MAX_CROP = 0.9
"""Fraction of an image's side that a crop may leave out."""

PIXEL = 256
"""Coordinates are counted in 1/256 pixels: the fraction is a byte."""

Float = NDArray[np.float32]


def elastic_basis(
    height: int, width: int, sigma: float
) -> tuple[Float, Float, tuple[NDArray[np.intp], NDArray[np.intp]]]:
    r"""Return the functions of row and column of which a smoothed random field is made.

    The field is uniform noise on [−1, 1], of variance 1/3, through a Gaussian filter of ``sigma``
    pixels. The noise continues beyond the image, so the field is as strong at the border as inside.
    If S is the filter along one axis, the covariance is C_H ⊗ C_W / 3 with C = S·Sᵀ = U·Λ·Uᵀ. So
    with normal numbers z, a sum of many uniform ones, the field is Σ z_ij · r_i ⊗ c_j, where
    r_i = √λ_i · u_i and c_j likewise, divided by √3; the largest products are kept, until they
    explain all but 0.5 % of the variance.

    Returns
    -------
    The r_i (H, K), the c_j (W, K), and the indices i and j of the products that are kept.

    Examples
    --------
    >>> rows, columns, (i, j) = elastic_basis(28, 28, sigma=4.0)
    >>> rows.shape, columns.shape, i.size
    ((28, 7), (28, 6), 31)
    """
    (row_variance, rows), (column_variance, columns) = (
        np.linalg.eigh(_filter_covariance(size, sigma)) for size in (height, width)
    )
    variance = np.outer(row_variance, column_variance).ravel()
    order = np.argsort(-variance, kind="stable")
    share = np.cumsum(variance[order]) / variance.sum()
    i, j = np.divmod(order[: np.searchsorted(share, KEPT_VARIANCE) + 1], width)
    first, second = i.min(), j.min()  # the variances are in ascending order
    r = rows[:, first:] * np.sqrt(row_variance[first:])
    c = columns[:, second:] * np.sqrt(column_variance[second:] / 3)
    return r.astype(np.float32), c.astype(np.float32), (i - first, j - second)


def _filter_covariance(size: int, sigma: float) -> NDArray[np.float64]:
    """S·Sᵀ for the Gaussian filter S over ``size`` pixels, cut off at 4 sigma as scipy does."""
    radius = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    S = np.stack([np.pad(kernel, (i, size - 1 - i)) for i in range(size)])
    return np.asarray(S @ S.T)


def affine_coefficients(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (2, 3, n) coefficients of 1, row and column, measured from the centre.

    Parameters
    ----------
    numbers
        (6, n): angle in radians, anticlockwise; growth of the height and of the width (0.1 is
        10 % taller); shear, positive leans to the right; shift in pixels, down and to the right.

    Notes
    -----
    The image is scaled, sheared, rotated. Reading it takes the inverses in reverse order:
    source = scale⁻¹ · shear⁻¹ · rotation⁻¹ · place − shift.
    """
    angle, taller, wider, shear, down, right = numbers
    cos, sin = np.cos(angle), np.sin(angle)
    coefficients = np.empty((2, 3, numbers.shape[1]))
    coefficients[0] = -down, cos / (1 + taller), sin / (1 + taller)
    coefficients[1] = -right, (shear * cos - sin) / (1 + wider), (shear * sin + cos) / (1 + wider)
    return coefficients


def stretching(
    image: NDArray[np.uint8], background: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how to read an image so that the digit's box becomes a square, in the image's centre.

    The shorter side is stretched to the length of the longer one, as where digits are cut out and
    scaled to a square; at most by ``MAX_STRETCH``.

    Parameters
    ----------
    image
        (H, W) or (C, H, W).
    background
        Grey level of the paper, 0 to 255.

    Returns
    -------
    For rows and columns: the factor of positions, at most 1; and the distance from the image's
    centre to the box's centre, in pixels. 1 and 0 for an image without ink.

    Examples
    --------
    >>> image = np.zeros((28, 28), np.uint8)
    >>> image[4:24, 6:16] = 255
    >>> for numbers in stretching(image):
    ...     print(numbers)
    [1.  0.5]
    [ 0. -3.]
    """
    channels = image.reshape(-1, *image.shape[-2:]).astype(np.int16)
    ink = np.asarray((np.abs(channels - background) >= INK).any(axis=0))
    if not ink.any():
        return np.ones(2), np.zeros(2)
    extents = [np.flatnonzero(ink.any(axis=axis))[[0, -1]] for axis in (1, 0)]
    sides = np.array([last - first + 1 for first, last in extents])
    centres = np.array([(first + last) / 2 for first, last in extents])
    return (
        np.maximum(sides / sides.max(), 1 / MAX_STRETCH),
        centres - (np.array(ink.shape) - 1) / 2,
    )


class Resampler:
    """Samples ``count`` images at given coordinates, bilinearly, through buffers allocated once.

    Outside the image everything is background, and the border pixels blend into it.

    Parameters
    ----------
    count, height, width
        Shape of what is written.
    background
        Grey level outside the image, 0 to 255.
    gain, offset
        What is written is gain · grey level + offset.
    """

    def __init__(
        self, count: int, height: int, width: int, background: int, gain: float, offset: float
    ) -> None:
        self.framed_height, self.framed_width = height + 2, width + 2
        self.gain, self.offset = np.float32(gain / PIXEL**2), np.float32(offset)
        # The images framed by one pixel of background, end to end. The quad of a position is its
        # own byte and those to the right, below, and below right; at the end of a row or an image
        # these belong to the next one, and have weight 0.
        pixels = self.framed_height * self.framed_width
        self.framed = np.full(
            (count, self.framed_height, self.framed_width), background, dtype=np.uint32
        )
        self.quads = np.full(count * pixels, background * 0x01010101, dtype=np.uint32)
        places = (height * width, count)
        # Written out for all places: adding a row to each of many short rows takes twice as long.
        self.first = np.tile(np.arange(count, dtype=np.int32) * pixels, (places[0], 1))
        self.rows, self.columns = np.empty((2, *places), dtype=np.int32)
        self.index = np.empty(places, dtype=np.intp)
        # What is not needed at the same time shares memory: less of it leaves the cache.
        scratch = np.empty(max(2 * height * width, pixels) * count, dtype=np.uint32)
        self.pairs = scratch[: count * pixels]
        self.left, self.right = scratch[: 2 * height * width * count].reshape(2, *places)
        self.values = self.right.view(np.float32).reshape(height, width, count)

    def __call__(
        self,
        images: NDArray[np.uint8],
        coordinates: Float,
        out: Float,
        corner: tuple[int, int] = (0, 0),
    ) -> None:
        """Write the images, sampled at ``coordinates``, into ``out``.

        Parameters
        ----------
        images
            (count, h, w), or (count, C, h, w), of at most H×W pixels: all channels of an image are
            sampled alike. Always of the same shape.
        coordinates
            (2, H·W, count), rows then columns, in 1/256 pixels from the framed image's corner and
            rounded down: pixel (0, 0) is at (256, 256). Overwritten.
        out
            (H, W, count), or (C, H, W, count), any strides.
        corner
            The row and column, of H×W, of an image's first pixel: around it is background.
        """
        if images.ndim == 3:
            images, out = images[:, None], out[None]
        self._locate(coordinates)
        for c in range(len(out)):
            self._pack(images[:, c], *corner)
            self._blend()
            np.copyto(self.values, self.left.view(np.int32).reshape(self.values.shape))
            np.multiply(self.values, self.gain, out=self.values)
            np.add(self.values, self.offset, out=out[c])

    def _pack(self, images: NDArray[np.uint8], top: int, left: int) -> None:
        """quads[p] = [p] + [p + 1]·2⁸ + [p + width]·2¹⁶ + [p + width + 1]·2²⁴."""
        below = self.framed_width
        _, h, w = images.shape
        self.framed[:, top + 1 : top + 1 + h, left + 1 : left + 1 + w] = images
        pixels = self.framed.reshape(-1)
        self.pairs[-1] = pixels[-1] * 0x0101
        np.left_shift(pixels[1:], 8, out=self.pairs[:-1])
        self.pairs[:-1] |= pixels[:-1]
        np.left_shift(self.pairs[below:], 16, out=self.quads[:-below])
        self.quads[:-below] |= self.pairs[:-below]

    def _locate(self, coordinates: Float) -> None:
        """Split coordinates into the quad's index and, in rows and columns, the fractions."""
        rows, columns = self.rows, self.columns
        across, position = self.left.view(np.int32), self.right.view(np.int32)
        for axis, pixels in enumerate((self.framed_height, self.framed_width)):
            np.clip(coordinates[axis], 0, (pixels - 1) * PIXEL, out=coordinates[axis])
        np.copyto(rows, coordinates[0], casting="unsafe")
        np.copyto(columns, coordinates[1], casting="unsafe")
        np.right_shift(rows, 8, out=position)
        position *= self.framed_width
        position += self.first
        np.right_shift(columns, 8, out=across)
        position += across
        np.copyto(self.index, position)
        rows &= PIXEL - 1
        columns &= PIXEL - 1

    def _blend(self) -> None:
        """Interpolate: along the row, upper and lower pixel at once, then down the column.

        A step is left·256 + (right − left)·fraction. Differences may be negative and wrap round;
        the sum never is, so modulo 2³² it comes out right. The result is 2¹⁶ times the value.
        """
        left, right = self.left, self.right
        # No index is out of range; "wrap" is the mode with the cheapest check.
        np.take(self.quads, self.index, out=right, mode="wrap")
        np.bitwise_and(right, 0x00FF00FF, out=left)
        right >>= 8
        right &= 0x00FF00FF
        right -= left
        right *= self.columns.view(np.uint32)
        left <<= 8
        left += right

        upper, lower = left, right
        np.right_shift(left, 16, out=lower)
        upper &= 0xFFFF
        lower -= upper
        lower *= self.rows.view(np.uint32)
        upper <<= 8
        upper += lower


class Distorter:
    """Distorts batches of images, each image with its own random numbers.

    Parameters
    ----------
    height, width
        Size of the images.
    rotation
        Degrees, up to ± this.
    scale
        Height and width each grow by a fraction up to ± this.
    shear
        Sideways movement per pixel of height, up to ± this.
    shift
        Pixels down and sideways, up to ± this.
    elastic_alpha, elastic_sigma
        Simard's field: uniform noise on [−1, 1] smoothed by a Gaussian of sigma pixels, times
        alpha pixels. A pixel moves by about alpha / (6.1·sigma) (standard deviation, each way).
    stretch
        Probability with which the digit's box is stretched to a square, see :func:`stretching`.
    flip
        Probability with which an image is mirrored, left to right.
    crop
        A window at a random place is enlarged to the whole image: its sides are shorter than the
        image's by a fraction up to this.
    degrader
        Changes the distorted images in other ways than by moving pixels.
    background
        Grey level outside the image, 0 to 255.
    gain, offset
        What is written is gain · grey level + offset.

    Raises
    ------
    ConfigError
        A range that is negative or makes no sense, or a field that would fold the image.

    Examples
    --------
    >>> images = np.zeros((2, 28, 28), dtype=np.uint8)
    >>> images[:, 10:18, 10:18] = 200
    >>> padded = np.zeros((1, 32, 32, 2), dtype=np.float32)
    >>> distorter = Distorter(28, 28, rotation=12, elastic_alpha=12, elastic_sigma=4)
    >>> distorter.distort(images, padded[0, 2:30, 2:30], key=(1, 0))
    >>> bool((padded[..., 0] != padded[..., 1]).any()), float(padded.max())
    (True, 200.0)
    """

    def __init__(
        self,
        height: int,
        width: int,
        *,
        rotation: float = 0.0,
        scale: float = 0.0,
        shear: float = 0.0,
        shift: float = 0.0,
        elastic_alpha: float = 0.0,
        elastic_sigma: float = 4.0,
        stretch: float = 0.0,
        flip: float = 0.0,
        crop: float = 0.0,
        degrader: Degrader | None = None,
        background: int = 0,
        gain: float = 1.0,
        offset: float = 0.0,
    ) -> None:
        half = min(height, width) / 2
        _check_range("stretch", stretch, 1)
        _check_range("flip", flip, 1)
        _check_range("crop", crop, MAX_CROP)
        _check_range("rotation", rotation, 180)
        _check_range("scale", scale, 0.5)
        _check_range("shear", shear, 1)
        _check_range("shift", shift, half)
        _check_range("elastic_sigma", elastic_sigma, half)
        _check_folding(elastic_alpha, elastic_sigma)

        self._images = (height, width, background, gain, offset)
        self._stretch, self._degrader = stretch, degrader
        self._flip, self._crop = flip, crop
        self._ranges = np.array(
            [[np.radians(rotation)], [scale], [scale], [shear], [shift], [shift]]
        )
        # A position in an image, from its centre, in 1/256 pixels of the framed image; half a unit
        # more turns rounding down into rounding to nearest.
        centre = (np.array([height, width]) - 1) / 2
        self._origin = ((centre + 1) * PIXEL + 0.5)[:, None]
        self._rows, self._columns = (
            np.stack([np.ones(size), np.arange(size) - middle], axis=1).astype(np.float32)
            for size, middle in zip((height, width), centre, strict=True)
        )
        self._kept = (np.empty(0, np.intp),) * 2
        if elastic_alpha > 0:
            rows, columns, kept = elastic_basis(height, width, elastic_sigma)
            self._rows = np.hstack([self._rows, rows * np.float32(elastic_alpha)])
            self._columns = np.hstack([self._columns, columns])
            self._kept = kept[0] + 2, kept[1] + 2  # after 1 and row, 1 and column
        R, C = self._rows.shape[1], self._columns.shape[1]
        self._coefficients = np.zeros((2, R, C, BLOCK), np.float32)
        self._by_column = np.empty((2, R, width, BLOCK), np.float32)
        self._coordinates = np.empty((2, height, width, BLOCK), np.float32)
        self._resamplers: dict[tuple[int, ...], Resampler] = {}

    def distort(
        self,
        images: NDArray[np.uint8],
        out: Float,
        *,
        key: Sequence[int],
        start: int = 0,
        corner: tuple[int, int] = (0, 0),
    ) -> None:
        """Write the distorted images into ``out``.

        Parameters
        ----------
        images
            (n, h, w), a batch or a slice of one; or (n, C, h, w).
        out
            (H, W, n) or (C, H, W, n), batch innermost, any strides: the interior of a padded
            buffer will do.
        key
            Seeds the random numbers of this batch, such as (seed, step): non-negative integers.
            The same key gives the same distortions.
        start
            Position of ``images[0]`` in the whole batch. The distortion of image i depends on the
            key and on ``start + i`` alone.
        corner
            The row and column, of H×W, of an image's first pixel; around smaller images is
            background.
        """
        stop = start + len(images)
        for block in range(start // BLOCK, -(-stop // BLOCK)):
            first, last = max(start, block * BLOCK), min(stop, (block + 1) * BLOCK)
            rng = np.random.default_rng(np.random.SeedSequence(key, spawn_key=(block,)))
            part = slice(first - start, last - start)
            places = slice(first - block * BLOCK, last - block * BLOCK)
            self._locate(rng, images[part], places, corner)
            self._resampler(images[part].shape, corner)(
                images[part],
                self._coordinates.reshape(2, -1, BLOCK)[:, :, places],
                out[..., part],
                corner,
            )
            if self._degrader is not None:
                drawn = out[..., part]
                channels = drawn if drawn.ndim == 4 else drawn[None]
                self._degrader.degrade(channels, rng, places.start, BLOCK)

    def _locate(
        self,
        rng: np.random.Generator,
        images: NDArray[np.uint8],
        places: slice,
        corner: tuple[int, int],
    ) -> None:
        """Set the coordinates of a block, in 1/256 pixels of the framed image.

        ``images`` are those of the block that have the numbers ``places`` in it.
        """
        affine = affine_coefficients(rng.uniform(-1, 1, (6, BLOCK)) * self._ranges)
        factors = self._stretch_boxes(affine, rng, images, places, corner)
        self._crop_and_flip(affine, rng)
        affine *= PIXEL
        affine[:, 0] += self._origin
        coefficients, by_column = self._coefficients, self._by_column
        coefficients[:, 0, 0], coefficients[:, 1, 0], coefficients[:, 0, 1] = affine.swapaxes(0, 1)
        if self._kept[0].size:
            z = rng.standard_normal((2, self._kept[0].size, BLOCK), dtype=np.float32)
            z *= PIXEL
            if factors is not None:
                z *= factors[:, None]
            coefficients[:, *self._kept] = z
        np.matmul(self._columns, coefficients, out=by_column)  # (W × K) · (K × B), K times
        rows = by_column.shape[1]
        np.matmul(
            self._rows,
            by_column.reshape(2, rows, -1),
            out=self._coordinates.reshape(2, len(self._rows), -1),
        )  # (H × K) · (K × WB)

    def _stretch_boxes(
        self,
        affine: NDArray[np.float64],
        rng: np.random.Generator,
        images: NDArray[np.uint8],
        places: slice,
        corner: tuple[int, int],
    ) -> Float | None:
        """Let ``affine`` (2, 3, BLOCK) stretch some images; return their factors (2, BLOCK)."""
        if not self._stretch:
            return None
        factors = np.ones((2, BLOCK))
        height, width, background, *_ = self._images
        margins = corner - (np.array([height, width]) - images.shape[-2:]) / 2
        chosen = rng.random(BLOCK)[places] < self._stretch
        for image, place in zip(images[chosen], places.start + np.flatnonzero(chosen), strict=True):
            factors[:, place], shift = stretching(image, background)
            affine[:, :, place] *= factors[:, place, None]
            affine[:, 0, place] += shift + margins
        return factors.astype(np.float32)

    def _crop_and_flip(self, affine: NDArray[np.float64], rng: np.random.Generator) -> None:
        """Let ``affine`` (2, 3, BLOCK) read a window of each image, and mirror some of them."""
        if self._crop:
            side = rng.uniform(1 - self._crop, 1, BLOCK)
            places = rng.uniform(-0.5, 0.5, (2, BLOCK)) * (1 - side)
            affine *= side
            affine[:, 0] += places * np.array([self._images[:2]]).T
        if self._flip:
            affine[:, 2, rng.random(BLOCK) < self._flip] *= -1

    def _resampler(self, shape: tuple[int, ...], corner: tuple[int, int]) -> Resampler:
        """Return the resampler for images of this shape in this place, whose frames it owns."""
        place = (shape[0], *shape[-2:], *corner)
        if place not in self._resamplers:
            self._resamplers[place] = Resampler(shape[0], *self._images)
        return self._resamplers[place]


def _check_range(key: str, value: float, limit: float) -> None:
    if not 0 <= value <= limit:
        raise ConfigError(
            f"must be from 0 to {limit:g}, is {value}",
            remedy="give a number in that range",
            key=f"augment.{key}",
        )


def max_elastic_alpha(sigma: float) -> float:
    """Return the strongest elastic field, in pixels, of this ``sigma`` that folds no image.

    The slope of the field has standard deviation alpha / (2·√(6π)·sigma²): that of uniform noise
    is 1/√3, a Gaussian of sigma pixels leaves 1/(2√π·sigma) of it, and the slope is 1/(√2·sigma)
    of the field. The image folds where the slope reaches −1; ``MAX_STRAIN`` keeps that four
    standard deviations away.

    Examples
    --------
    >>> round(max_elastic_alpha(4.0), 2)
    34.73
    """
    return MAX_STRAIN * 2 * sqrt(6 * pi) * sigma**2


def _check_folding(alpha: float, sigma: float) -> None:
    limit = max_elastic_alpha(sigma)
    if not 0 <= alpha <= limit:
        raise ConfigError(
            f"must be from 0 to {limit:.4g} at an elastic_sigma of {sigma:g}, is {alpha}; "
            "a stronger field folds the image",
            remedy="lower elastic_alpha or raise elastic_sigma",
            key="augment.elastic_alpha",
        )

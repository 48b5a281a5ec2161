"""Batches of network input from images on disk or in memory.

A batch is gathered, distorted if requested, scaled, padded and transposed to batch innermost,
straight from uint8 into one buffer (C,H,W,N). Which images are in which batch is a pure function
of (seed, epoch, step), and so is every distortion: a resumed run, with any number of workers, sees
the same images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lenet.arrays import Array
from lenet.data.augmentation import Distorter
from lenet.data.mapped import release
from lenet.data.pool import Pool
from lenet.data.preprocessing import Preprocessing, image_shape

# The order of the blocks is shuffled, and the order within each block: data that do not fit into
# memory are read block by block. 300,000 images like MNIST's are one block.
SHUFFLE_BLOCK = 65_536  # images at least
SHUFFLE_BYTES = 1 << 28

SLICE = 64
"""Images that go through a network at once: what LeNet-5 computes of them stays in a 2 MB cache."""

# The streams of random numbers derived from one seed.
ORDER, DISTORTION = range(2)  # splits.py has others


@dataclass(frozen=True)
class Batch:
    """One worker's part of a batch, or a slice of it, overwritten by the next.

    Attributes
    ----------
    x, labels
        (C,H,W,n) and (n,).
    size
        Images of the whole batch, over all workers.
    first
        Position of the first of these images in the whole batch.
    step
        Number of the batch since the beginning of training: with ``first``, what random numbers
        that are the same for any number of workers depend on.
    last
        Whether this is the last slice of the worker's part.
    teacher
        The teacher's scores (classes,n), if there is a teacher.
    """

    x: Array
    labels: NDArray[np.integer[Any]]
    size: int
    first: int
    step: int
    last: bool
    teacher: Array | None = None


def slice_size(n: int) -> int:
    """Return how many images of n a slice has: as many in all of them if possible.

    Sizes that alternate cost time: the network sizes its buffers again.

    Examples
    --------
    >>> slice_size(64), slice_size(4096), slice_size(100), slice_size(67)
    (64, 64, 50, 64)
    """
    equal = (size for size in range(SLICE, SLICE // 2, -1) if n % size == 0)
    return n if n <= SLICE else next(equal, SLICE)


class Loader:
    """Batches of a set of images.

    Parameters
    ----------
    images, labels
        uint8 (count,H,W) or (count,C,H,W), C-contiguous, in memory or mapped; integers (count,).
    rows
        The sorted indices of the images to use; by default all.
    batch_size
        Images of a batch, over all workers; the last batch of an epoch may be smaller.
    preprocessing
        How grey levels become input.
    seed
        Of shuffling and distortion; None yields the images in their stored order.
    distorter
        Applies a new random distortion to every image in every epoch, on the padded input.
    pool
        Distorted copies of the images to use, with a teacher's scores; they replace ``images`` and
        ``distorter``.
    rank, size
        The rank of this worker and the number of workers: each gets its part of every batch.
    dtype
        Of the input.
    sliced
        Divide a worker's part of a batch into slices of at most :data:`SLICE` images: then speed
        and memory do not depend on the batch size.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.integer[Any]],
        *,
        batch_size: int,
        preprocessing: Preprocessing,
        rows: NDArray[np.int64] | None = None,
        seed: int | None = None,
        distorter: Distorter | None = None,
        pool: Pool | None = None,
        rank: int = 0,
        size: int = 1,
        dtype: DTypeLike = np.float32,
        sliced: bool = False,
    ) -> None:
        preprocessing.check(images)
        self.images, self.labels = images, labels
        self.rows = rows
        self.count = len(images) if rows is None else len(rows)
        self.batch_size, self.seed = batch_size, seed
        self.distorter, self.pool = distorter if pool is None else None, pool
        self.rank, self.size, self.dtype = rank, size, dtype
        self.sliced = sliced
        self.preprocessing = preprocessing
        self.steps_per_epoch = -(-self.count // batch_size)
        self._buffers: dict[int, tuple[Array, NDArray[np.uint8], NDArray[np.integer[Any]]]] = {}

    def epoch(self, epoch: int = 0, first: int = 0) -> Iterator[Batch]:
        """Yield this worker's part of the batches of an epoch, from step ``first`` on."""
        for step, numbers in enumerate(self._numbers(epoch)):
            if step >= first:
                yield from self._parts(numbers, epoch, step)

    def class_counts(self, classes: int) -> NDArray[np.int64]:
        """Return the number of images of each class, among those that are used."""
        labels = self.labels if self.rows is None else self.labels[self.rows]
        return np.bincount(labels, minlength=classes)

    def _numbers(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """Yield, for every batch of an epoch, the positions of its images among those used."""
        waiting = np.empty(0, np.int64)
        for block in self._blocks(epoch):
            waiting = np.concatenate([waiting, block])
            whole = waiting.size - waiting.size % self.batch_size
            for start in range(0, whole, self.batch_size):
                yield waiting[start : start + self.batch_size]
            waiting = waiting[whole:]
        if waiting.size:
            yield waiting

    def _blocks(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """Yield 0 … count − 1 block by block, shuffled if there is a seed."""
        size = max(SHUFFLE_BLOCK, SHUFFLE_BYTES // max(1, self.images[:1].nbytes))
        starts = np.arange(0, self.count, size)
        rng = None if self.seed is None else np.random.default_rng([self.seed, ORDER, epoch])
        if rng is not None:
            rng.shuffle(starts)
        for start in starts.tolist():
            order = np.arange(start, min(start + size, self.count))
            if rng is not None:
                rng.shuffle(order)
            yield order
            # Mapped images would fill the memory.
            release(self.images if self.pool is None else self.pool.images)

    def _parts(self, numbers: NDArray[np.int64], epoch: int, step: int) -> Iterator[Batch]:
        """Yield this worker's part of a batch, in slices if they are requested."""
        lo = self.rank * numbers.size // self.size
        hi = (self.rank + 1) * numbers.size // self.size
        n = slice_size(hi - lo) if self.sliced else hi - lo
        for first in range(lo, max(hi, lo + 1), max(n, 1)):  # a part without images is one, too
            yield self._batch(numbers, epoch, step, first, min(first + n, hi), hi)

    def _batch(
        self, numbers: NDArray[np.int64], epoch: int, step: int, lo: int, hi: int, end: int
    ) -> Batch:
        own = numbers[lo:hi]
        part = own if self.rows is None else self.rows[own]
        x, levels, labels = self._buffer(part.size)
        np.take(self.labels, part, out=labels, mode="clip")
        teacher = None
        if self.pool is not None:
            teacher = self.pool.select(epoch, own, levels)
        else:
            np.take(self.images, part, axis=0, out=levels, mode="clip")
        if self.distorter is None:
            self.preprocessing.apply(levels, x)
        else:
            corner = self.preprocessing.margins(*levels.shape[-2:])
            channels = levels.reshape(part.size, *image_shape(levels))
            key = (self.seed or 0, DISTORTION, epoch, step)
            self.distorter.distort(channels, x, key=key, start=lo, corner=corner)
        number = epoch * self.steps_per_epoch + step
        return Batch(x, labels, numbers.size, lo, number, last=hi == end, teacher=teacher)

    def _buffer(self, n: int) -> tuple[Array, NDArray[np.uint8], NDArray[np.integer[Any]]]:
        """Return input, levels and labels of n images; those of a pool are framed."""
        if n not in self._buffers:
            shape = self.images.shape[1:] if self.pool is None else self.pool.images.shape[2:]
            self._buffers[n] = (
                self.preprocessing.blank(n, self.dtype),
                np.empty((n, *shape), np.uint8),
                np.empty(n, self.labels.dtype),
            )
        return self._buffers[n]

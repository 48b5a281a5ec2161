"""A communicator over shared memory: several processes on one machine, one BLAS thread each.

Each process adds up a part of the gradients, in the order of the ranks, and applies the sum to
that part of the shared parameters.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from multiprocessing.shared_memory import SharedMemory
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from lenet.nn.im2col import Array
from lenet.system.errors import SystemFailure

SPIN_SECONDS = 0.001  # how long to look without sleeping: longer than a step's imbalance
MAX_NAP = 0.005
FIGURES = 256  # numbers that are summed at once


class WorkerDied(SystemFailure):
    """A worker process ended before its work did."""


class SharedMemoryCommunicator:
    """One of several processes that share a segment of memory.

    The segment begins with a counter for each rank, how many barriers it has reached, and a flag
    that ends everything; then come the figures of each rank, then the vectors.
    """

    def __init__(
        self, rank: int, size: int, segment: SharedMemory, alive: Callable[[], None]
    ) -> None:
        self.rank, self.size = rank, size
        self._segment, self._alive = segment, alive
        self._used = 0
        self._reached = self._take((size + 1,), np.int64)
        self._counters = self._reached.data.cast("B").cast("q")
        self._figures = self._take((size, FIGURES), np.float64)
        self._all: Array = np.empty((size, 0))
        self._fence = threading.Lock()
        self._barriers = 0

    @staticmethod
    def bytes_needed(size: int, vectors: int, gradients: int, itemsize: int) -> int:
        """Return the bytes of a segment for ``vectors`` shared numbers and the gradients."""
        return 4096 + 8 * size * (FIGURES + 16) + itemsize * (vectors + size * gradients + 1024)

    def zeros(self, size: int, dtype: DTypeLike) -> Array:
        return self._take((size,), dtype)

    def gradient_buffer(self, size: int, dtype: DTypeLike) -> Array:
        self._all = self._take((self.size, size), dtype)
        lo, hi = (size * r // self.size for r in (self.rank, self.rank + 1))
        self._part = slice(lo, hi)
        self._sum = np.empty(hi - lo, dtype)
        own: Array = self._all[self.rank]
        return own

    def sum_gradients(self, figures: Array) -> tuple[slice, Array]:
        self._figures[self.rank, : figures.size] = figures
        self.barrier()
        part = self._part
        np.add(self._all[0, part], self._all[1, part], out=self._sum)
        for other in self._all[2:]:
            self._sum += other[part]
        # Nobody else reads this part of this worker's vector: it can hold the sum.
        np.copyto(self._all[self.rank, part], self._sum)
        return part, self._figures[:, : figures.size].sum(axis=0)

    def sum_figures(self, figures: Array) -> Array:
        total = np.empty_like(figures)
        for start in range(0, figures.size, FIGURES):
            some = slice(start, start + FIGURES)
            count = figures[some].size
            self._figures[self.rank, :count] = figures[some]
            self.barrier()
            np.sum(self._figures[:, :count], axis=0, out=total[some])
            self.barrier()  # they may be overwritten only when all have read them
        return total

    def barrier(self) -> None:
        self._barriers += 1
        with self._fence:  # whatever was written before is visible before the counter is
            self._counters[self.rank] = self._barriers
        others = [r for r in range(self.size) if r != self.rank]
        for r in others:
            if self._counters[r] < self._barriers:
                self._wait(r)
        with self._fence:
            pass

    def abort(self) -> None:
        """Tell the others to stop waiting: this worker will not come."""
        self._counters[self.size] = 1

    def close(self) -> None:
        """Let go of the segment; the vectors must not be used any more."""
        self._counters.release()
        del self._reached, self._figures, self._all
        with suppress(BufferError):  # someone still holds a vector: it goes with the process
            self._segment.close()

    def _wait(self, other: int) -> None:
        """Wait for ``other``: looking at first, then in ever longer naps."""
        start, nap = time.perf_counter(), 0.0
        while self._counters[other] < self._barriers:
            if self._counters[self.size]:
                raise WorkerDied("a worker has stopped", remedy="see its message")
            if nap or time.perf_counter() - start > SPIN_SECONDS:
                try:
                    self._alive()
                except WorkerDied:  # who has been here may have come to its end meanwhile
                    if self._counters[other] < self._barriers:
                        raise
                nap = min(MAX_NAP, 2 * nap or 50e-6)
                time.sleep(nap)

    def _take(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        size = prod(shape) * np.dtype(dtype).itemsize
        array: Array = np.ndarray(shape, dtype, self._segment.buf, self._used)
        self._used += -(-size // 64) * 64  # a cache line of its own for everybody
        return array


@dataclass(frozen=True)
class ArrayHandle:
    """An array that another process can open: a segment of shared memory, or a mapped file."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int | None  # in the file; None for a segment

    @classmethod
    def of(cls, array: Array) -> Self | None:
        """Return what opens a mapped file's array again, or None if ``array`` is none."""
        if isinstance(array, np.memmap) and array.flags.c_contiguous and array.filename:
            return cls(str(array.filename), array.shape, array.dtype.str, array.offset)
        return None

    def open(self) -> tuple[Array, SharedMemory | None]:
        """Return the array, and the segment that must live as long."""
        if self.offset is not None:
            return np.memmap(self.name, self.dtype, "r", self.offset, self.shape), None
        segment = SharedMemory(self.name)
        return np.ndarray(self.shape, self.dtype, segment.buf), segment


SharedArray: TypeAlias = ArrayHandle | Array | None
"""What a worker gets an array from; None where there is no other worker."""

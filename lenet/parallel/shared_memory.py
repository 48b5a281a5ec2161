"""A communicator over shared memory: several processes on one machine, one BLAS thread each.

Each process sums a part of the gradients, in the order of the ranks, and applies the sum to that
part of the shared parameters.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from lenet.arrays import Array
from lenet.errors import WorkerDied, WorkersUnavailable
from lenet.parallel.communicator import Uncut

SPIN_SECONDS = 0.001  # how long to poll without sleeping: longer than a step's imbalance
MAX_NAP = 0.005
MAX_FIGURES = 256  # numbers that are summed at once
CACHE_LINE = 64  # bytes
ATTEMPTS, MAX_PAUSE = 4, 0.2  # to allocate a segment; seconds between two
SHM = Path("/dev/shm")  # noqa: S108 - where Linux has its shared memory


class SharedMemoryCommunicator:
    """One of several processes that share memory.

    The control segment contains for each rank the number of barriers that it has reached and its
    figures, and a flag that ends the job. Every shared vector is a separate segment, which rank 0
    creates with the requested size.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        control: SharedMemory,
        alive: Callable[[], None],
        create: Callable[[str, int], SharedMemory] | None = None,
    ) -> None:
        self.rank, self.size = rank, size
        self._control, self._alive, self._create = control, alive, create
        self._segments: list[SharedMemory] = []
        reached: Array = np.ndarray(size + 1, np.int64, control.buf)
        self._counters = reached.data.cast("B").cast("q")
        self._figures: Array = np.ndarray(
            (size, MAX_FIGURES), np.float64, control.buf, _aligned(reached.nbytes)
        )
        self._all: Array = np.empty((size, 0))
        self._fence = threading.Lock()
        self._barriers = 0

    @staticmethod
    def control_bytes(size: int) -> int:
        """Return the size in bytes of the control segment for this number of workers."""
        return _aligned(8 * (size + 1)) + 8 * size * MAX_FIGURES

    def zeros(self, size: int, dtype: DTypeLike) -> Array:
        return self._shared((size,), dtype)

    def gradient_buffer(self, size: int, dtype: DTypeLike, uncut: Uncut = ()) -> Array:
        self._all = self._shared((self.size, size), dtype)
        lo, hi = (_cut(size * r // self.size, uncut) for r in (self.rank, self.rank + 1))
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
        # No other worker reads this part of this worker's buffer: the sum can go there.
        np.copyto(self._all[self.rank, part], self._sum)
        return part, self._figures[:, : figures.size].sum(axis=0)

    def sum_figures(self, figures: Array) -> Array:
        total = np.empty_like(figures)
        for start in range(0, figures.size, MAX_FIGURES):
            some = slice(start, start + MAX_FIGURES)
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
        """Make the other ranks stop waiting: this worker will not reach the barrier."""
        self._counters[self.size] = 1

    def close(self) -> None:
        """Close all segments; the vectors must not be used any more."""
        self._counters.release()
        del self._figures, self._all
        for segment in (self._control, *self._segments):
            with suppress(BufferError):  # a vector is in use: closed when the process ends
                segment.close()

    def _shared(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Return an array of zeros in a segment that all ranks have opened."""
        number = len(self._segments)
        # Vectors at different offsets in a page do not compete for the same cache lines.
        offset = 17 * CACHE_LINE * number % 4096
        name = f"{self._control.name}-{number}"
        if self._create:
            nbytes = offset + max(1, prod(shape)) * np.dtype(dtype).itemsize
            segment = self._create(name, nbytes)
        self.barrier()  # it exists now
        if not self._create:
            segment = SharedMemory(name)
        self._segments.append(segment)
        self.barrier()  # all have opened it
        if self._create:
            unlink(segment)
        return np.ndarray(shape, dtype, segment.buf, offset)

    def _wait(self, other: int) -> None:
        """Wait for ``other``: at first without sleeping, then with ever longer sleeps."""
        start, nap = time.perf_counter(), 0.0
        while self._counters[other] < self._barriers:
            if self._counters[self.size]:
                raise WorkerDied("a worker has stopped", remedy="see its message")
            if nap or time.perf_counter() - start > SPIN_SECONDS:
                try:
                    self._alive()
                except WorkerDied:  # it may have arrived here and ended meanwhile
                    if self._counters[other] < self._barriers:
                        raise
                nap = min(MAX_NAP, 2 * nap or 50e-6)
                time.sleep(nap)


def _cut(place: int, uncut: Uncut) -> int:
    """Return ``place``, or the nearer end of the range that it would cut."""
    for start, end in uncut:
        if start < place < end:
            return start if place - start < end - place else end
    return place


def _aligned(size: int) -> int:
    return -(-size // CACHE_LINE) * CACHE_LINE


# --- Segments -----------------------------------------------------------------------------------


def create_segment(name: str, size: int, what: str) -> SharedMemory:
    """Create a segment of shared memory and allocate it, so that no write to it can fail.

    Signals must be blocked, or one between two steps could leave the segment behind.
    """
    try:
        # First: a kill between the two must not leave it behind.
        _track(resource_tracker.register, name)
        segment = SharedMemory(name, create=True, size=size)
        try:
            _take_room(segment)
        except OSError:
            segment.close()
            segment.unlink()
            raise
    except OSError as error:
        with suppress(OSError):
            _track(resource_tracker.unregister, name)
        if error.errno == errno.ENOMEM:
            raise MemoryError from error
        raise WorkersUnavailable(
            f"{what} need {-(-size >> 20) or 1} MiB of shared memory{_free(error)}: "
            f"{error.strerror}",
            remedy="enlarge it (docker run --shm-size=256m) or use --workers 1",
            key="train.workers",
        ) from error
    return segment


def _track(register: Callable[[str, str], None], name: str) -> None:
    """Register a segment with the process that removes it if this one is killed, or undo it."""
    if sys.platform != "win32":
        register(f"/{name}", "shared_memory")


def _take_room(segment: SharedMemory) -> None:
    """Allocate all pages of a segment; otherwise a write could kill the process (SIGBUS).

    If there is no room, it tries again after a random time: of two runs that start together where
    there is room for one, both may have half of it. Systems other than Linux have allocated the
    pages when the segment was created.
    """
    path = SHM / segment.name
    if sys.platform == "linux" and path.exists():
        with path.open("r+b") as file:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    os.posix_fallocate(file.fileno(), 0, segment.size)
                    return
                except OSError as error:
                    if error.errno != errno.ENOSPC or attempt == ATTEMPTS:
                        raise
                time.sleep(random.uniform(0.0, MAX_PAUSE))  # noqa: S311 - no secret


def _free(error: OSError) -> str:
    if error.errno != errno.ENOSPC or not SHM.is_dir():
        return ""
    return f", {shutil.disk_usage(SHM).free >> 20} MiB are free"


def unlink(segment: SharedMemory) -> None:
    """Remove the name of a segment, which is freed when the last process closes it.

    However these processes end, one or all at once, no memory remains.
    """
    with suppress(FileNotFoundError):  # it has been removed before
        segment.unlink()


@dataclass(frozen=True)
class ArrayHandle:
    """An array that another process can open: a segment of shared memory, or a mapped file."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int | None  # in the file; None for a segment

    @classmethod
    def of(cls, array: Array) -> Self | None:
        """Return the handle of the mapped file of ``array``, or None if it is not mapped."""
        if isinstance(array, np.memmap) and array.flags.c_contiguous and array.filename:
            return cls(str(array.filename), array.shape, array.dtype.str, array.offset)
        return None

    def open(self) -> tuple[Array, SharedMemory | None]:
        """Return the array, and the segment that must stay open as long."""
        if self.offset is not None:
            return np.memmap(self.name, self.dtype, "r", self.offset, self.shape), None
        segment = SharedMemory(self.name)
        return np.ndarray(self.shape, self.dtype, segment.buf), segment


SharedArray: TypeAlias = ArrayHandle | Array | None
"""Where a worker gets an array from; None where there is no other worker."""

"""Processes that share every batch: each computes the gradient of its part, together they add up.

All workers run the same program on the same data (:class:`Workers` is all that it knows of the
others): each takes its slice of every batch, the gradients are summed, and the sum is applied to
the parameters. For a given number of workers the bits are always the same.

:class:`Alone` is one worker, without any process. :class:`Local` is several processes on one
machine over shared memory, one BLAS thread each: each adds up a part, in the order of the ranks,
and applies it to that part of the common parameters. ``mpi.py`` has the same over messages.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from mmap import mmap
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from lenet.nn.im2col import Array
from lenet.system.errors import LenetError, SystemFailure

SPIN_SECONDS = 0.001  # how long to look without sleeping: longer than a step's imbalance
LONGEST_NAP = 0.005
FIGURES = 256  # numbers that are totalled at once
SIGNALS = (signal.SIGINT, signal.SIGTERM)  # those that ask to stop


class Workers(Protocol):
    """What the training loop knows of the others."""

    rank: int
    size: int

    def zeros(self, size: int, dtype: DTypeLike) -> Array:
        """Return a vector, zero at first, that all workers see, or each has a copy of.

        All workers ask for the same vectors in the same order.
        """

    def gradients(self, size: int, dtype: DTypeLike) -> Array:
        """Return a vector of this worker's own that :meth:`sum` can add up over all."""

    def sum(self, figures: Array) -> tuple[slice, Array]:
        """Add up the gradients, and ``figures`` (a few float64), over all workers.

        Returns
        -------
        The part of the gradient vector that now holds the sum and is this worker's to apply, and
        the sum of the figures, which everyone gets.
        """

    def total(self, figures: Array) -> Array:
        """Return the sum of ``figures`` (a vector of float64) over all workers."""

    def barrier(self) -> None:
        """Wait until what every worker wrote before its own call is seen by this one."""


class Alone:
    """One worker: nothing is shared, nothing waits."""

    rank, size = 0, 1

    def zeros(self, size: int, dtype: DTypeLike) -> Array:
        return np.zeros(size, dtype)

    def gradients(self, size: int, dtype: DTypeLike) -> Array:
        return np.zeros(size, dtype)

    def sum(self, figures: Array) -> tuple[slice, Array]:
        return slice(None), figures

    def total(self, figures: Array) -> Array:
        return figures

    def barrier(self) -> None:
        pass


class WorkerDied(SystemFailure):
    """A worker process ended before its work did."""


class Local:
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

    def gradients(self, size: int, dtype: DTypeLike) -> Array:
        self._all = self._take((self.size, size), dtype)
        lo, hi = (size * r // self.size for r in (self.rank, self.rank + 1))
        self._part = slice(lo, hi)
        self._sum = np.empty(hi - lo, dtype)
        own: Array = self._all[self.rank]
        return own

    def sum(self, figures: Array) -> tuple[slice, Array]:
        self._figures[self.rank, : figures.size] = figures
        self.barrier()
        part = self._part
        np.add(self._all[0, part], self._all[1, part], out=self._sum)
        for other in self._all[2:]:
            self._sum += other[part]
        # Nobody else reads this part of this worker's vector: it can hold the sum.
        np.copyto(self._all[self.rank, part], self._sum)
        return part, self._figures[:, : figures.size].sum(axis=0)

    def total(self, figures: Array) -> Array:
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

    def abandon(self) -> None:
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
                nap = min(LONGEST_NAP, 2 * nap or 50e-6)
                time.sleep(nap)

    def _take(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        size = prod(shape) * np.dtype(dtype).itemsize
        array: Array = np.ndarray(shape, dtype, self._segment.buf, self._used)
        self._used += -(-size // 64) * 64  # a cache line of its own for everybody
        return array


@dataclass(frozen=True)
class Handle:
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


Shared: TypeAlias = Handle | Array | None
"""What a worker gets an array from; None where there is no other worker."""

Program = Callable[..., None]
"""``program(workers, arrays, job)``: what every worker runs."""


class Team:
    """The processes beside this one, which is rank 0: started early, given work once it is known.

    A context manager: when it is left, however it is left, no process and no memory remains.

    Parameters
    ----------
    size
        How many workers in all; 1 starts nothing.

    Raises
    ------
    WorkerDied
        A worker has ended; whoever waits for it raises this within a second.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.workers: Workers = Alone()
        self._segments: list[SharedMemory] = []
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []
        self._failed = True
        context = get_context("spawn")
        for rank in range(1, size):
            here, there = context.Pipe()
            process = context.Process(target=_run, args=(there,), name=f"lenet-{rank}", daemon=True)
            with _signals_held_back():
                try:
                    process.start()
                except OSError as error:
                    raise SystemFailure(
                        f"worker {rank} cannot be started: {error.strerror}",
                        remedy="check the working directory and the limit on processes, or use "
                        "--workers 1",
                        key="train.workers",
                    ) from error
            there.close()
            self._processes.append(process)
            self._pipes.append(here)

    def __enter__(self) -> Self:
        return self

    def share(self, array: Array) -> tuple[Array, Shared]:
        """Return ``array`` where all workers can see it, with what opens it there.

        A mapped file is opened again by every worker; anything else moves to shared memory.
        """
        if self.size == 1:
            return array, None
        if mapped := Handle.of(array):
            return array, mapped
        segment = self._segment(max(1, array.nbytes), "the images")
        shared: Array = np.ndarray(array.shape, array.dtype, segment.buf)
        np.copyto(shared, array)
        return shared, Handle(segment.name, array.shape, array.dtype.str, None)

    def begin(
        self, program: Program, arrays: dict[str, Shared], job: object, nbytes: int
    ) -> Workers:
        """Set the other processes to work and return this one's place among them.

        Parameters
        ----------
        program
            What they run: ``program(workers, arrays, job)``, with ``arrays`` opened.
        arrays, job
            What it is given; ``job`` is pickled.
        nbytes
            Memory for the vectors that the workers share (:meth:`Local.bytes_needed`).
        """
        if self.size == 1:
            return self.workers
        segment = self._segment(nbytes, "the workers")
        for rank, pipe in enumerate(self._pipes, start=1):
            with suppress(BrokenPipeError):  # it is dead: the first barrier says so
                pipe.send((rank, self.size, segment.name, program, arrays, job))
        self.workers = Local(0, self.size, segment, self._check)
        self.workers.barrier()  # all have opened what is shared
        with _signals_held_back():
            self._forget_names()
        return self.workers

    def done(self) -> None:
        """Declare that the work is complete: the others are left to end by themselves."""
        self._failed = False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.size > 1:
            with _signals_held_back():  # else memory might remain
                self._end()

    def _end(self) -> None:
        if isinstance(self.workers, Local) and self._failed:
            self.workers.abandon()
        for pipe in self._pipes:
            pipe.close()
        deadline = time.monotonic() + (1.0 if self._failed else 10.0)
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        if isinstance(self.workers, Local):
            self.workers.close()
        self._forget_names()
        for segment in self._segments:
            with suppress(BufferError):
                segment.close()

    def _forget_names(self) -> None:
        """Leave the segments to the processes that have them open: they go with the last one.

        Whatever kills these processes, one or all at once, no name is left that holds memory.
        """
        for segment in self._segments:
            with suppress(FileNotFoundError):  # it was forgotten before
                segment.unlink()

    def _check(self) -> None:
        """Raise what a worker raised, or that it died."""
        for rank, (process, pipe) in enumerate(
            zip(self._processes, self._pipes, strict=True), start=1
        ):
            ended = process.exitcode is not None
            with suppress(EOFError, OSError):
                if pipe.poll():
                    raise pipe.recv()
            if ended:
                raise WorkerDied(
                    f"worker {rank} (process {process.pid}) died, {_how(process.exitcode)}",
                    remedy="go on with --resume; if it was killed for memory, use fewer workers",
                )

    def _segment(self, size: int, what: str) -> SharedMemory:
        room = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else size  # noqa: S108
        failure = SystemFailure(
            f"{what} need {-(-size >> 20) or 1} MiB of shared memory, {room >> 20} MiB are free",
            remedy="enlarge it (docker run --shm-size=256m) or use --workers 1",
            key="train.workers",
        )
        if room < size:
            raise failure
        try:
            mmap(-1, size).close()
        except OSError as error:  # no address space; SharedMemory would stumble over it
            raise MemoryError from error
        name = f"lenet-{os.getpid()}-{secrets.token_hex(4)}"
        with _signals_held_back():
            if sys.platform != "win32":  # first: a kill between the two must not leave it behind
                resource_tracker.register(f"/{name}", "shared_memory")
            try:
                segment = SharedMemory(name, create=True, size=size)
            except OSError as error:
                raise failure from error
            self._segments.append(segment)
        return segment


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Hold signals back from this process and, until it asks for them, from one that it starts.

    A worker that is not ready would die of them, with a traceback. Here they come when the block
    is left.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    resource_tracker.ensure_running()  # when it starts, it lets signals through
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def receive_signals(receive: Callable[[int], None]) -> None:
    """Hand signals to ``receive``, those first that this worker was sent before it was ready."""
    for number in SIGNALS:
        signal.signal(number, lambda number, _frame: receive(number))
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _how(exitcode: int) -> str:
    if exitcode >= 0:
        return f"exit code {exitcode}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-exitcode).name}"
    return f"killed by signal {-exitcode}"


def _run(pipe: Connection) -> None:
    """Be a worker: wait for work, do it, hand back the error if there is one."""
    try:
        rank, size, name, program, handles, job = pipe.recv()
    except (EOFError, KeyboardInterrupt):
        return  # the parent ended before it had work
    parent = parent_process()

    def alive() -> None:
        if parent is not None and not parent.is_alive():
            os._exit(1)

    try:
        opened = {key: handle.open() for key, handle in handles.items() if handle is not None}
        workers = Local(rank, size, SharedMemory(name), alive)
        workers.barrier()  # the segments' names are not needed any more
        program(workers, {key: array for key, (array, _) in opened.items()}, job)
    except WorkerDied:
        os._exit(1)
    except BaseException as error:
        if not isinstance(error, LenetError | MemoryError | OSError):
            error = RuntimeError(f"worker {rank}: {traceback.format_exc()}")
        with suppress(OSError):
            pipe.send(error)
        os._exit(1)
    os._exit(0)  # the arrays over shared memory are still referred to: nothing to take apart

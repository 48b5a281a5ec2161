"""The worker processes beside the first one: started, given work, ended.

Started early with ``spawn``, they import NumPy while the first process reads the data.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from mmap import mmap
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from lenet.nn.im2col import Array
from lenet.parallel.communicator import SIGNALS, Communicator, SingleProcess
from lenet.parallel.shared_memory import (
    ArrayHandle,
    SharedArray,
    SharedMemoryCommunicator,
    WorkerDied,
)
from lenet.system.errors import LenetError, SystemFailure

Program = Callable[..., None]
"""``program(communicator, arrays, job)``: what every worker runs."""


class ProcessGroup:
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
        self.communicator: Communicator = SingleProcess()
        self._segments: list[SharedMemory] = []
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []
        self._failed = True
        context = get_context("spawn")
        for rank in range(1, size):
            here, there = context.Pipe()
            process = context.Process(
                target=_run_worker, args=(there,), name=f"lenet-{rank}", daemon=True
            )
            with signals_blocked():
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

    def share(self, array: Array) -> tuple[Array, SharedArray]:
        """Return ``array`` where all workers can see it, with what opens it there.

        A mapped file is opened again by every worker; anything else moves to shared memory.
        """
        if self.size == 1:
            return array, None
        if mapped := ArrayHandle.of(array):
            return array, mapped
        segment = self._segment(max(1, array.nbytes), "the images")
        shared: Array = np.ndarray(array.shape, array.dtype, segment.buf)
        np.copyto(shared, array)
        return shared, ArrayHandle(segment.name, array.shape, array.dtype.str, None)

    def start(
        self, program: Program, arrays: dict[str, SharedArray], job: object, nbytes: int
    ) -> Communicator:
        """Set the other processes to work and return this one's place among them.

        Parameters
        ----------
        program
            What they run: ``program(communicator, arrays, job)``, with ``arrays`` opened.
        arrays, job
            What it is given; ``job`` is pickled.
        nbytes
            Bytes for the vectors that the workers share
            (:meth:`SharedMemoryCommunicator.bytes_needed`).
        """
        if self.size == 1:
            return self.communicator
        segment = self._segment(nbytes, "the workers")
        for rank, pipe in enumerate(self._pipes, start=1):
            with suppress(BrokenPipeError):  # it is dead: the first barrier says so
                pipe.send((rank, self.size, segment.name, program, arrays, job))
        self.communicator = SharedMemoryCommunicator(0, self.size, segment, self._check)
        self.communicator.barrier()  # all have opened what is shared
        with signals_blocked():
            self._unlink_segments()
        return self.communicator

    def finish(self) -> None:
        """Declare that the work is complete: the others are left to end by themselves."""
        self._failed = False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.size > 1:
            with signals_blocked():  # else memory might remain
                self._end()

    def _end(self) -> None:
        if isinstance(self.communicator, SharedMemoryCommunicator) and self._failed:
            self.communicator.abort()
        for pipe in self._pipes:
            pipe.close()
        deadline = time.monotonic() + (1.0 if self._failed else 10.0)
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        if isinstance(self.communicator, SharedMemoryCommunicator):
            self.communicator.close()
        self._unlink_segments()
        for segment in self._segments:
            with suppress(BufferError):
                segment.close()

    def _unlink_segments(self) -> None:
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
                    f"worker {rank} (process {process.pid}) died, {_exit_reason(process.exitcode)}",
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
        with signals_blocked():
            if sys.platform != "win32":  # first: a kill between the two must not leave it behind
                resource_tracker.register(f"/{name}", "shared_memory")
            try:
                segment = SharedMemory(name, create=True, size=size)
            except OSError as error:
                raise failure from error
            self._segments.append(segment)
        return segment


@contextmanager
def signals_blocked() -> Iterator[None]:
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


def _exit_reason(exitcode: int) -> str:
    if exitcode >= 0:
        return f"exit code {exitcode}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-exitcode).name}"
    return f"killed by signal {-exitcode}"


def _run_worker(pipe: Connection) -> None:
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
        communicator = SharedMemoryCommunicator(rank, size, SharedMemory(name), alive)
        communicator.barrier()  # the segments' names are not needed any more
        program(communicator, {key: array for key, (array, _) in opened.items()}, job)
    except WorkerDied:
        os._exit(1)
    except BaseException as error:
        if not isinstance(error, LenetError | MemoryError | OSError):
            error = RuntimeError(f"worker {rank}: {traceback.format_exc()}")
        with suppress(OSError):
            pipe.send(error)
        os._exit(1)
    os._exit(0)  # the arrays over shared memory are still referred to: nothing to take apart

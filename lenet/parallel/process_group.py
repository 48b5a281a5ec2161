"""The worker processes of one machine: starting them, giving them work, ending them.

They are started early, so that they import NumPy while the first process reads the data.
"""

from __future__ import annotations

import errno
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import current_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pickle import PicklingError
from types import FrameType
from typing import Self

import numpy as np

from lenet.arrays import Array
from lenet.errors import NotImportable, WorkerDied, WorkersUnavailable
from lenet.parallel import spawn
from lenet.parallel.communicator import SIGNALS, Communicator, SingleProcess
from lenet.parallel.shared_memory import (
    ArrayHandle,
    SharedArray,
    SharedMemoryCommunicator,
    create_segment,
    unlink,
)
from lenet.parallel.worker import run_worker

Program = Callable[..., None]
"""``program(communicator, arrays, job)``: what every worker runs."""


class ProcessGroup:
    """The workers of this machine: this process is rank 0, and starts the others.

    A context manager: on exit, for whatever reason, no process and no shared memory remains. Until
    the program runs in all workers, whatever prevents it is raised as :class:`WorkersUnavailable`
    or ``MemoryError``: one worker might still succeed.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.communicator: Communicator = SingleProcess()
        # Short: macOS permits thirty characters for the name of a segment, a suffix included.
        self._name = f"lenet-{os.getpid()}-{secrets.token_hex(4)}"
        self._segments: list[SharedMemory] = []
        self._processes: list[spawn.Process] = []
        self._pipes: list[Connection] = []
        self._failed = True
        try:
            for rank in range(1, size):
                self._start_process(rank)
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def share(self, array: Array) -> tuple[Array, SharedArray]:
        """Return ``array`` where all workers can read it, and the handle that opens it there.

        A mapped file is opened again by every worker; anything else is copied to shared memory.
        """
        if self.size == 1:
            return array, None
        if mapped := ArrayHandle.of(array):
            return array, mapped
        number = len(self._segments)
        segment = self._segment(f"{self._name}-{number}", max(1, array.nbytes), "the images")
        shared: Array = np.ndarray(array.shape, array.dtype, segment.buf)
        np.copyto(shared, array)
        return shared, ArrayHandle(segment.name, array.shape, array.dtype.str, None)

    def start(self, program: Program, arrays: dict[str, SharedArray], job: object) -> Communicator:
        """Start ``program`` in the other processes, and return the communicator of this one."""
        if self.size == 1:
            return self.communicator
        name = f"{self._name}-c"
        control = self._vectors(name, SharedMemoryCommunicator.control_bytes(self.size))
        self.communicator = SharedMemoryCommunicator(
            0, self.size, control, self._check, self._vectors
        )
        for rank, pipe in enumerate(self._pipes, start=1):
            work = (rank, self.size, name, program, arrays, job)
            try:
                pipe.send(work)
            except BrokenPipeError:  # it has died: the first barrier raises the error
                pass
            except (PicklingError, AttributeError, TypeError) as error:
                raise NotImportable(
                    f"cannot be sent to a worker: {error}",
                    remedy="move it to an importable module, or use --workers 1",
                    key="train.workers",
                ) from error
        try:
            self.communicator.barrier()  # all have opened what is shared
        except WorkerDied as error:
            raise WorkersUnavailable(
                error.problem, remedy="check the limits on memory, or use --workers 1"
            ) from error
        with signals_blocked():
            self._unlink_segments()
        return self.communicator

    def finish(self) -> None:
        """Declare that the work is complete: the other processes end by themselves."""
        self._failed = False

    def __exit__(self, *_: object) -> None:
        if self.size > 1:
            with signals_blocked():  # otherwise shared memory might remain
                self._end()

    def _start_process(self, rank: int) -> None:
        try:
            if current_process().daemon:
                raise OSError(errno.EPERM, "a daemonic process may not start others")
            spawn.check_executable()
            with signals_blocked():
                here, there = spawn.Context().Pipe()
                process = spawn.Process(
                    target=run_worker, args=(there,), name=f"lenet-{rank}", daemon=True
                )
                process.start()
        except OSError as error:
            raise WorkersUnavailable(
                f"worker {rank} cannot be started: {error.strerror}",
                remedy="check the working directory and the limit on processes, or use --workers 1",
                key="train.workers",
            ) from error
        there.close()
        self._processes.append(process)
        self._pipes.append(here)

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
        for segment in self._segments:
            unlink(segment)

    def _check(self) -> None:
        """Raise the error of a worker, or :class:`WorkerDied` if one has died."""
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
                    remedy="resume with --resume; if it was killed for memory, use fewer workers",
                )

    def _vectors(self, name: str, size: int) -> SharedMemory:
        return self._segment(name, size, "the workers")

    def _segment(self, name: str, size: int, what: str) -> SharedMemory:
        with signals_blocked():
            segment = create_segment(name, size, what)
            self._segments.append(segment)
        return segment


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block signals in this process and, until it unblocks them, in one that it starts.

    They would end a worker that is not ready, with a traceback. In this process they are delivered
    at the end of the block.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    resource_tracker.ensure_running()  # when it starts, it unblocks signals
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def signals_to(receive: Callable[[int], None]) -> Iterator[None]:
    """Pass the first signal to ``receive``; a second one has its previous effect.

    Only the main thread receives signals: in another one, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        receive(number)
        signal.signal(number, before[number])

    before = {int(number): signal.getsignal(number) for number in _not_ignored()}
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def receive_signals(receive: Callable[[int], None]) -> None:
    """Pass signals to ``receive``, including those sent to this worker before it was ready."""
    for number in _not_ignored():
        signal.signal(number, lambda number, _frame: receive(number))
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _not_ignored() -> list[signal.Signals]:
    """Return the signals that the parent, such as nohup, has not set to be ignored."""
    return [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]


def _exit_reason(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"exit code {exitcode}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-exitcode).name}"
    return f"killed by signal {-exitcode}"

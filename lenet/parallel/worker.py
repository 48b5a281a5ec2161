"""The main function of a worker process.

Only the standard library and the errors are imported at the top: if NumPy cannot be imported, under
a limit on memory for example, that error reaches the first process like any other.
"""

from __future__ import annotations

import errno
import os
import traceback
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from typing import Any

from lenet.errors import LenetError, NotImportable, WorkerDied, WorkersUnavailable


def run_worker(pipe: Connection) -> None:
    """Wait for work, do it, and send back the error if there is one. The process ends here."""
    try:
        _run(pipe)
    except (WorkerDied, EOFError):  # the others have ended: there is no one to report to
        os._exit(1)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            error = MemoryError()  # there is no address space for what is shared
        elif not isinstance(error, LenetError | MemoryError | OSError):
            error = RuntimeError(traceback.format_exc())
        with suppress(OSError):
            pipe.send(error)
        os._exit(1)
    os._exit(0)  # arrays refer to the shared memory: skip the cleanup


def _run(pipe: Connection) -> None:
    try:
        from multiprocessing.shared_memory import SharedMemory

        from lenet.parallel.shared_memory import SharedMemoryCommunicator
    except (ImportError, MemoryError, OSError) as error:
        raise WorkersUnavailable(
            f"a worker cannot import NumPy: {error or 'out of memory'}",
            remedy="check the limits on memory, or use --workers 1",
            key="train.workers",
        ) from error
    rank, size, control, program, handles, job = _receive(pipe)
    parent = parent_process()

    def alive() -> None:
        if parent is not None and not parent.is_alive():
            os._exit(1)

    opened = {key: handle.open() for key, handle in handles.items() if handle is not None}
    communicator = SharedMemoryCommunicator(rank, size, SharedMemory(control), alive)
    communicator.barrier()  # the segments' names are not needed any more
    program(communicator, {key: array for key, (array, _) in opened.items()}, job)


def _receive(pipe: Connection) -> Any:  # noqa: ANN401 - the messages are of many types
    try:
        return pipe.recv()
    except (AttributeError, ImportError) as error:
        raise NotImportable(
            f"a worker cannot import what it needs: {error}",
            remedy="move it to an importable module, or use --workers 1",
            key="train.workers",
        ) from error

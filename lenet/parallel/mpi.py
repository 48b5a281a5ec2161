"""Workers on many machines: the processes that mpiexec started, its ranks, over MPI.

:class:`MPICommunicator` implements :class:`lenet.parallel.communicator.Communicator` with messages,
and :class:`MPIGroup` is the counterpart of :class:`lenet.parallel.process_group.ProcessGroup`.
Nothing is shared: every rank keeps all parameters and applies the whole sum of the gradients. MPI
gives all ranks the same bits of a sum, so the copies stay equal.

MPI is loaded when a job is joined. Once it is, a process that fails must end the job
(:func:`lenet.parallel.launch.abort_job`, or ``python -m mpi4py`` before a script of your own): the
others wait for it and would wait for ever.

References
----------
MPI: A Message-Passing Interface Standard, version 4.1, section 6.9.6, All-Reduce.
"""

from __future__ import annotations

import os
import platform
import sys
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from lenet.nn.im2col import Array
from lenet.parallel.launch import abort_job, mpi_rank_and_size
from lenet.parallel.process_group import Program
from lenet.parallel.shared_memory import ArrayHandle, SharedArray
from lenet.system.errors import ConfigError, DataError, GateFailed, LenetError, SystemFailure
from lenet.system.extras import require


class MPICommunicator:
    """One of the ranks of an MPI job, on this machine or another."""

    def __init__(self, mpi: Any) -> None:  # noqa: ANN401 - mpi4py.MPI, which may be missing
        self._comm, self._in_place = mpi.COMM_WORLD, mpi.IN_PLACE
        self.rank: int = self._comm.rank
        self.size: int = self._comm.size

    def zeros(self, size: int, dtype: DTypeLike) -> Array:
        return np.zeros(size, dtype)

    def gradient_buffer(self, size: int, dtype: DTypeLike) -> Array:
        self._gradients: Array = np.zeros(size, dtype)
        return self._gradients

    def sum_gradients(self, figures: Array) -> tuple[slice, Array]:
        total = np.empty_like(figures)
        request = self._comm.Iallreduce(figures, total)  # on its way beside the gradients
        self._comm.Allreduce(self._in_place, self._gradients)
        request.Wait()
        return slice(None), total

    def sum_figures(self, figures: Array) -> Array:
        total = np.empty_like(figures)
        self._comm.Allreduce(figures, total)
        return total

    def barrier(self) -> None:
        pass  # nothing is shared, so there is nothing that others could see too early


class MPIGroup:
    """All ranks of the job: rank 0 hands out the work, the others :meth:`run_worker`.

    A context manager like :class:`lenet.parallel.process_group.ProcessGroup`.

    Raises
    ------
    ConfigError
        This process was not started by mpiexec.
    SystemFailure
        mpi4py is not installed, or mpiexec is of another MPI than it.
    """

    def __init__(self) -> None:
        started = mpi_rank_and_size()
        if started is None:
            raise ConfigError(
                "is mpi, but mpiexec did not start this process",
                remedy="start it with mpiexec -n 4 lenet train --workers mpi …, or use "
                "--workers auto",
                key="train.workers",
            )
        _sleep_while_waiting()
        mpi = load_mpi()
        self._comm = mpi.COMM_WORLD
        self.rank, self.size = self._comm.rank, self._comm.size
        if started[1] != self.size:
            library = " ".join(mpi.Get_library_version().splitlines()[0].split())
            raise SystemFailure(
                f"mpiexec started {started[1]} processes, mpi4py sees {self.size}",
                remedy=f"use the mpiexec of {library}, which mpi4py has loaded",
                key="train.workers",
            )
        self.communicator = MPICommunicator(mpi)

    def __enter__(self) -> Self:
        return self

    def share(self, array: Array) -> tuple[Array, SharedArray]:
        """Return ``array``, and what all ranks get it from: a mapped file's place, or itself."""
        return array, ArrayHandle.of(array) or array

    def start(
        self,
        program: Program,
        arrays: dict[str, SharedArray],
        job: object,
    ) -> MPICommunicator:
        """Set the other ranks to work and return this one's place; see ``ProcessGroup.start``."""
        self._comm.bcast((program, arrays, job))
        return self.communicator

    def finish(self) -> None:
        """Declare that the work is complete; the others know by themselves."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass  # ending the others comes after the message: lenet.launch.abort_job

    def run_worker(self) -> None:
        """Be one of the others: wait for work and do it; an error of this rank's ends the job."""
        try:
            program, handles, job = self._comm.bcast(None)
            program(self.communicator, {key: _opened(handles[key]) for key in handles}, job)
        except (GateFailed, KeyboardInterrupt):
            pass  # rank 0 has met it too, and says it
        except Exception as error:
            where = f"rank {self.rank} on {platform.node()}"
            what = error if isinstance(error, LenetError) else f"{type(error).__name__}: {error}"
            print(f"lenet: error: {where}: {what}", file=sys.stderr, flush=True)
            abort_job(error.exit_code if isinstance(error, LenetError) else 1)


def unlink_shared_memory(world: Any) -> None:  # noqa: ANN401 - mpi4py's Comm, which may be missing
    """Remove the name of the memory that MPICH shares on a machine: all ranks have it open.

    MPICH removes it when a job ends. One that is killed or aborted would leave it behind. All
    ranks must call this.
    """
    world.Barrier()
    with suppress(OSError):  # a system without /proc
        for part in Path("/proc/self/maps").read_text().splitlines():
            if "/dev/shm/mpich_shm_" in part and not part.endswith(" (deleted)"):  # noqa: S108
                Path(part.split(maxsplit=5)[5]).unlink(missing_ok=True)


@cache
def load_mpi() -> Any:  # noqa: ANN401 - a module has no better type
    """Import mpi4py.MPI, which loads the MPI library and connects this process, once for all."""
    require("mpi4py", extra="mpi")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of another mpiexec: see MPIGroup
            mpi = require("mpi4py.MPI", extra="mpi")
    except (ImportError, RuntimeError) as error:
        raise SystemFailure(
            f"finds no MPI library ({str(error).splitlines()[0]})",
            remedy="pip install 'lenet[mpi]', or load the module of your cluster's MPI",
            file="mpi4py",
        ) from error
    unlink_shared_memory(mpi.COMM_WORLD)
    return mpi


def _opened(held: ArrayHandle | Array) -> Array:
    if not isinstance(held, ArrayHandle):
        return held  # it came with the message
    try:
        return held.open()[0]
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot be mapped here as on rank 0: {error}",
            remedy="put the data where every machine finds them under the same path",
            file=held.name,
        ) from error


def _sleep_while_waiting() -> None:
    """Let MPICH sleep while it waits if there are more ranks on this machine than processors.

    Else a rank that waits looks all the time, on the processor that the awaited one needs. What
    the user has set stays; other MPIs do this by themselves or know none of these names.
    """
    if int(os.environ.get("MPI_LOCALNRANKS", "1")) > (os.cpu_count() or 1):
        os.environ.setdefault("MPIR_CVAR_ENABLE_HEAVY_YIELD", "1")
        os.environ.setdefault("MPIR_CVAR_POLLS_BEFORE_YIELD", "10")

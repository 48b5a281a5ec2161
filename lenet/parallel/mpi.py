"""A communicator over MPI: the ranks that mpiexec started, on one machine or many.

:class:`MPICommunicator` implements :class:`lenet.parallel.communicator.Communicator` with messages,
and :class:`MPIGroup` is the counterpart of :class:`lenet.parallel.process_group.ProcessGroup`.
Nothing is shared: every rank keeps all parameters and applies the whole sum of the gradients. All
ranks get the same bits of a sum from MPI, so the copies stay equal.

MPI is loaded when the group is made. From then on, a process that fails must abort the job
(:func:`lenet.parallel.launch.abort_job`, or ``python -m mpi4py`` in front of your own script):
otherwise the other ranks would wait for it forever.

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
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from lenet.arrays import Array
from lenet.errors import ConfigError, DataError, GateFailed, LenetError, SystemFailure
from lenet.parallel.communicator import Uncut
from lenet.parallel.launch import abort_job, mpi_rank_and_size
from lenet.parallel.process_group import Program
from lenet.parallel.shared_memory import ArrayHandle, SharedArray
from lenet.system.extras import require


class MPICommunicator:
    """One of the ranks of an MPI job, on this machine or another."""

    def __init__(self, mpi: Any) -> None:  # noqa: ANN401 - mpi4py.MPI, which may be missing
        self._comm, self._in_place = mpi.COMM_WORLD, mpi.IN_PLACE
        self.rank: int = self._comm.rank
        self.size: int = self._comm.size

    def zeros(self, size: int, dtype: DTypeLike) -> Array:
        return np.zeros(size, dtype)

    def gradient_buffer(
        self,
        size: int,
        dtype: DTypeLike,
        uncut: Uncut = (),  # noqa: ARG002 (every rank updates everything)
    ) -> Array:
        self._gradients: Array = np.zeros(size, dtype)
        return self._gradients

    def sum_gradients(self, figures: Array) -> tuple[slice, Array]:
        total = np.empty_like(figures)
        request = self._comm.Iallreduce(figures, total)  # overlaps with the sum of the gradients
        self._comm.Allreduce(self._in_place, self._gradients)
        request.Wait()
        return slice(None), total

    def sum_figures(self, figures: Array) -> Array:
        total = np.empty_like(figures)
        self._comm.Allreduce(figures, total)
        return total

    def barrier(self) -> None:
        pass  # nothing is shared, so no rank can see anything too early


class MPIGroup:
    """All ranks of the job: rank 0 starts the program, the others call :meth:`run_worker`.

    A context manager like :class:`lenet.parallel.process_group.ProcessGroup`.
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
        """Return ``array``, and what is sent for it: a handle of its mapped file, or the array."""
        return array, ArrayHandle.of(array) or array

    def start(
        self,
        program: Program,
        arrays: dict[str, SharedArray],
        job: object,
    ) -> MPICommunicator:
        """Start ``program`` in the other ranks, and return the communicator of this one.

        See :meth:`lenet.parallel.process_group.ProcessGroup.start`.
        """
        self._comm.bcast((program, arrays, job))
        return self.communicator

    def finish(self) -> None:
        """Do nothing: the other ranks end by themselves when their program does."""

    def __exit__(self, *_: object) -> None:
        pass  # the other ranks are aborted after the error message, by launch.abort_job

    def run_worker(self) -> None:
        """Wait for the program of rank 0 and run it; an error in this rank aborts the job."""
        try:
            program, handles, job = self._comm.bcast(None)
            program(self.communicator, {key: _opened(handles[key]) for key in handles}, job)
        except (GateFailed, KeyboardInterrupt):
            pass  # rank 0 meets it too, and reports it
        except Exception as error:
            where = f"rank {self.rank} on {platform.node()}"
            what = error if isinstance(error, LenetError) else f"{type(error).__name__}: {error}"
            print(f"lenet: error: {where}: {what}", file=sys.stderr, flush=True)
            abort_job(error.exit_code if isinstance(error, LenetError) else 1)


def unlink_shared_memory(world: Any) -> None:  # noqa: ANN401 - mpi4py's Comm, which may be missing
    """Unlink the memory that MPICH shares on a machine, which all ranks have open.

    MPICH unlinks it when a job ends; a job that is killed or aborted would leave it behind. All
    ranks must call this.
    """
    world.Barrier()
    with suppress(OSError):  # a system without /proc
        for part in Path("/proc/self/maps").read_text().splitlines():
            if "/dev/shm/mpich_shm_" in part and not part.endswith(" (deleted)"):  # noqa: S108
                Path(part.split(maxsplit=5)[5]).unlink(missing_ok=True)


@cache
def load_mpi() -> Any:  # noqa: ANN401 - a module has no better type
    """Import mpi4py.MPI, which loads the MPI library and connects this process to its job."""
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


def _opened(sent: ArrayHandle | Array) -> Array:
    if not isinstance(sent, ArrayHandle):
        return sent
    try:
        return sent.open()[0]
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot be mapped here as on rank 0: {error}",
            remedy="put the data under the same path on every machine",
            file=sent.name,
        ) from error


def _sleep_while_waiting() -> None:
    """Let MPICH sleep instead of busy-wait if this machine has more ranks than processors.

    Otherwise a waiting rank occupies the processor that the other one needs. Variables that the
    user has set stay; other MPIs do this by themselves or ignore these variables.
    """
    if int(os.environ.get("MPI_LOCALNRANKS", "1")) > (os.cpu_count() or 1):
        os.environ.setdefault("MPIR_CVAR_ENABLE_HEAVY_YIELD", "1")
        os.environ.setdefault("MPIR_CVAR_POLLS_BEFORE_YIELD", "10")

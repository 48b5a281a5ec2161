"""How many workers to use, and the rank of this process in an MPI job.

Rank and size are read from the environment that mpiexec sets, before MPI is loaded. In a command
that uses MPI, only rank 0 prints; others, which mpiexec or srun may have started as independent
processes, do not depend on their rank.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import NoReturn

from lenet.errors import ConfigError
from lenet.system.machine import usable_cores

MIN_IMAGES_PER_WORKER = 16  # a worker with fewer images per batch mostly waits

# Rank and size in the environment: MPICH and its derivatives, Open MPI, srun --mpi=pmix.
VARIABLES = (
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),
)

_uses_mpi = False


def mpi_rank_and_size() -> tuple[int, int] | None:
    """Return the rank of this process and the size of its job, or None without mpiexec."""
    for rank, size in VARIABLES:
        pair = os.environ.get(rank, ""), os.environ.get(size, "")
        if all(number.isascii() and number.isdigit() for number in pair):
            return int(pair[0]), int(pair[1])
    return None


def choose_workers(wanted: int | str, batch_size: int) -> int:
    """Return the number of workers for ``train.workers``.

    ``auto`` uses every usable core, with at least 16 images of a batch per worker; ``mpi`` is the
    number of processes that mpiexec started.
    """
    if wanted == "auto":
        return max(1, min(usable_cores(), batch_size // MIN_IMAGES_PER_WORKER))
    if wanted == "mpi":
        _, wanted = mpi_rank_and_size() or (0, 1)
    if int(wanted) > batch_size:
        raise ConfigError(
            f"{wanted} workers cannot share a batch of {batch_size}",
            remedy=f"use at most {batch_size} workers, or a larger batch",
            key="train.workers",
        )
    return int(wanted)


def use_mpi(used: bool = True) -> None:
    """Make this process one of an MPI job, of which only rank 0 prints."""
    global _uses_mpi
    _uses_mpi = used


def prints() -> bool:
    """Return whether this process prints: rank 0 of an MPI job, and every process without one."""
    rank, _ = mpi_rank_and_size() or (0, 1)
    return rank == 0 or not _uses_mpi


def abort_job(code: int) -> NoReturn:
    """Exit with ``code``, and abort the other processes of the MPI job if there are any."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and mpi.Is_initialized() and mpi.COMM_WORLD.size > 1:
        _wait_for_reader_of_stderr()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # hide what MPI prints of the abort
        mpi.COMM_WORLD.Abort(code)
    sys.exit(code)


def _wait_for_reader_of_stderr(seconds: float = 5.0) -> None:
    """Wait until mpiexec has read stderr: it forwards nothing once the job is aborted."""
    with suppress(ImportError, OSError):  # Windows; stderr is not a pipe
        from fcntl import ioctl
        from termios import FIONREAD

        end = time.monotonic() + seconds
        while any(ioctl(2, FIONREAD, bytes(4))) and time.monotonic() < end:
            time.sleep(0.002)

"""Which process of a job this is: what mpiexec tells it, before anything of MPI is loaded.

The first process of a job, rank 0, speaks for all.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import NoReturn

from lenet.system.errors import ConfigError
from lenet.system.machine import usable_cores

MIN_IMAGES_PER_WORKER = 16  # a worker with fewer images a batch spends its time waiting

# Rank and size in the environment, by MPICH and its kin, by Open MPI, by srun --mpi=pmix.
VARIABLES = (
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),
)


def mpi_rank_and_size() -> tuple[int, int] | None:
    """Return this process's rank and how many mpiexec started, or None without mpiexec."""
    for rank, size in VARIABLES:
        if rank in os.environ and size in os.environ:
            return int(os.environ[rank]), int(os.environ[size])
    return None


def choose_workers(wanted: int | str, batch_size: int) -> int:
    """Return the number of workers for ``train.workers``.

    ``auto`` takes every usable core, but leaves every worker at least 16 images of a batch;
    ``mpi`` is as many as mpiexec started.

    Raises
    ------
    ConfigError
        More workers than images in a batch.
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


def is_rank_zero() -> bool:
    """Return whether this process is the one of its job that prints."""
    rank, _ = mpi_rank_and_size() or (0, 1)
    return rank == 0


def abort_job(code: int) -> NoReturn:
    """End this process, and the others of its job if MPI connects them, with an exit code."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and mpi.Is_initialized() and mpi.COMM_WORLD.size > 1:
        _wait_for_reader_of_stderr()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what is to be said has been said
        mpi.COMM_WORLD.Abort(code)
    sys.exit(code)


def _wait_for_reader_of_stderr(seconds: float = 5.0) -> None:
    """Wait until mpiexec has read what was said: it passes on no more once the job is aborted."""
    with suppress(ImportError, OSError):  # Windows; a stderr that is no pipe
        from fcntl import ioctl
        from termios import FIONREAD

        end = time.monotonic() + seconds
        while any(ioctl(2, FIONREAD, bytes(4))) and time.monotonic() < end:
            time.sleep(0.002)

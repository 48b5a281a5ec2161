"""Executors of a sweep's runs: processes of this machine, or the ranks of MPI."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeAlias

from lenet.errors import ConfigError, SystemFailure
from lenet.parallel.mpi import load_mpi
from lenet.parallel.spawn import Context
from lenet.sweep.task import Result, SweepTask, train_task
from lenet.system.extras import require

Submit: TypeAlias = Callable[[SweepTask], "Future[Result]"]
"""Gives a task to the next free process."""


@contextmanager
def local_processes(jobs: int) -> Iterator[Submit]:
    """Train up to ``jobs`` runs at a time on this machine, each in a process of its own.

    If a process is killed, only its run fails.
    """
    with ThreadPoolExecutor(jobs, initializer=_block_interrupts) as threads:
        yield lambda task: threads.submit(_train_in_process, task)


def _block_interrupts() -> None:
    """Shield the processes of this thread from Ctrl-C: they inherit its blocked signals."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _train_in_process(task: SweepTask) -> Result:
    try:
        with ProcessPoolExecutor(1, Context(), initializer=_exit_with_parent) as process:
            return process.submit(train_task, task).result()
    except BrokenProcessPool:
        return Result.of_error(
            SystemFailure(
                "its process was killed",
                remedy="resume with --resume; if memory was short, with fewer --jobs",
            )
        )


def _exit_with_parent() -> None:
    """End this process when its parent process ends, however that ends."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def mpi_ranks() -> Iterator[Submit | None]:
    """Train a run on every rank of ``mpiexec`` but the first, which distributes them.

    Gives None on the other ranks, once all work is done.

    Raises
    ------
    ConfigError
        There is only one rank.
    SystemFailure
        The extra ``mpi`` is not installed, or finds no MPI library.
    """
    world = load_mpi().COMM_WORLD
    futures = require("mpi4py.futures", extra="mpi")
    if world.size < 2:
        raise ConfigError(
            "needs two ranks or more: one distributes the runs, the others train",
            remedy="start it as mpiexec -n 4 lenet sweep",
            key="--executor mpi",
        )
    if world.rank:  # the first rank tells the others to stop
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    with futures.MPICommExecutor(world, root=0) as executor:
        yield None if executor is None else lambda task: executor.submit(train_task, task)

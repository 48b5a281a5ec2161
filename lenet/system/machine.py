"""How many processors this process may use, and how many of them BLAS takes.

A BLAS reads the number of its threads when NumPy is first imported, so the command line asks this
file before it imports anything that computes.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def limit_blas_threads(threads: int) -> None:
    """Let BLAS use so many threads, in this process if NumPy is not imported yet, and in children.

    What the user has set in the environment stays.
    """
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, str(threads))


def usable_cores() -> int:
    """Return how many processors this process may use: affinity and container limits count."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    with suppress(OSError, ValueError):
        quota_us = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text())
        period_us = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text())
        if quota_us > 0:
            cores = min(cores, max(1, quota_us // period_us))
    return cores

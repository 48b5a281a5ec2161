"""The machine: its processors, how many of them this process and its BLAS may use, its software.

A BLAS reads the number of its threads when NumPy is first imported, so the command line asks this
file before it imports anything that computes.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from lenet.version import __version__

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


def processor_name() -> str:
    """Return the processor's name, as far as the system tells it."""
    with suppress(OSError):  # Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown"


@cache
def describe_machine() -> dict[str, str]:
    """Return the software and hardware on which the last bits of a result depend.

    Examples
    --------
    >>> list(describe_machine())
    ['lenet', 'numpy', 'blas', 'simd', 'processor', 'platform', 'python']
    """
    import numpy as np

    build: Mapping[str, Any] = np.show_config(mode="dicts") or {}
    blas = build.get("Build Dependencies", {}).get("blas", {})
    return {
        "lenet": __version__,
        "numpy": np.__version__,
        "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
        "simd": " ".join(build.get("SIMD Extensions", {}).get("found", [])) or "baseline",
        "processor": processor_name(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }

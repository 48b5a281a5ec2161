"""The machine: usable processors, BLAS threads, and a description for reproducibility.

The products of these networks are small: more threads of BLAS mostly wait for each other, and
beside other programs they multiply the time. BLAS reads its number of threads when NumPy is first
imported, so the command line sets it before that; :func:`one_blas_thread` is for programs that have
already imported NumPy.
"""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Final

from lenet.version import __version__

THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
OPENBLAS_NAMES: Final = ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}")


def limit_blas_threads(threads: int) -> None:
    """Limit the threads of BLAS, in this process if NumPy is not imported yet, and in children.

    Variables that the user has set in the environment stay as they are.
    """
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, str(threads))


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread within the block, in this process and in those that it starts.

    Where the environment has a number of threads, nothing is changed. In this process, only
    OpenBLAS can be limited, which NumPy from PyPI contains.
    """
    if any(name in os.environ for name in THREAD_VARIABLES):
        yield
        return
    get, limit = _openblas()
    before = get()
    limit_blas_threads(1)
    limit(1)
    try:
        yield
    finally:
        limit(before)
        for name in THREAD_VARIABLES:
            del os.environ[name]


def _openblas() -> tuple[Callable[[], int], Callable[[int], None]]:
    """Return the functions that get and set the number of threads; without OpenBLAS, idle ones."""
    import ctypes

    import numpy as np

    core: Any = getattr(np, "_core", None)
    try:
        library = ctypes.CDLL(core._multiarray_umath.__file__)
    except (AttributeError, OSError):
        library = None
    for name in OPENBLAS_NAMES:
        if hasattr(library, name.format("set_num_threads")):
            return (
                getattr(library, name.format("get_num_threads")),
                getattr(library, name.format("set_num_threads")),
            )
    return lambda: 1, lambda _: None


def usable_cores(root: Path = Path("/")) -> int:
    """Return how many processors this process may use, by its affinity and its CPU quotas.

    A container, a systemd slice or a cluster job may have a quota below the processors that it
    sees; a quota of 1.5 processors counts as one.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, int(min([cores, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quota, in processors, of each control group from this process's own to the root.

    References
    ----------
    Linux, ``cgroups(7)``; Documentation/admin-guide/cgroup-v2.rst, ``cpu.max``;
    Documentation/scheduler/sched-bwc.rst, ``cpu.cfs_quota_us``; ``proc_pid_mountinfo(5)``.
    """
    groups: dict[str, str] = {}  # by controller, "" for version 2
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        groups |= dict.fromkeys(controllers.split(","), path)
    for line in _lines(root / "proc/self/mountinfo"):
        mount, _, kind = line.partition(" - ")
        # The group at the root of the mount, and the directory where it is mounted.
        mounted, place = map(_unescaped, mount.split(" ")[3:5])
        controllers = kind.rpartition(" ")[2]
        if kind.startswith("cgroup2 ") and "" in groups:
            group, quota = groups[""], _quota_v2
        elif kind.startswith("cgroup ") and "cpu" in controllers.split(","):
            group, quota = groups.get("cpu", "/"), _quota_v1
        else:
            continue
        top = root / place.lstrip("/")
        own = PurePosixPath(group)
        below = own.relative_to(mounted) if own.is_relative_to(mounted) else PurePosixPath()
        for directory in (below, *below.parents):
            with suppress(OSError, ValueError, ZeroDivisionError):  # no quota, or not visible
                yield quota(top / directory)


def _quota_v2(group: Path) -> float:
    quota, period = (group / "cpu.max").read_text().split()
    return math.inf if quota == "max" else int(quota) / int(period)


def _quota_v1(group: Path) -> float:
    quota, period = (
        int((group / f"cpu.cfs_{what}_us").read_text()) for what in ("quota", "period")
    )
    return math.inf if quota < 0 else quota / period


def _lines(path: Path) -> list[str]:
    """Return the lines of a file; names in it may be in any encoding, and contain anything."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # a system without /proc
        return []
    return [line for line in text.split("\n") if line]


def _unescaped(name: str) -> str:
    r"""Return a name from mountinfo, in which a space is written as ``\040``.

    Examples
    --------
    >>> _unescaped(r"/my\040groups")
    '/my groups'
    """
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), name)


def processor_name() -> str:
    """Return the processor's model name, if the system reports it."""
    with suppress(OSError):  # Linux
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
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

"""One thread for BLAS in a program that has already imported NumPy.

The products of these networks are small: more threads mostly wait for each other, and beside other
programs they multiply the time. The command line limits them in the environment, before NumPy is
imported; in a notebook or another program that is too late.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from lenet.system.machine import THREAD_VARIABLES, limit_blas_threads

OPENBLAS_NAMES: Final = ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}")


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

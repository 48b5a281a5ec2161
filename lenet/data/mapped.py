"""Arrays that are mapped from files: reading them leaves their pages in memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 1 << 26


def blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield all rows of an array, some at a time; of a mapped array, no more stay in memory.

    Examples
    --------
    >>> [block.shape for block in blocks(np.zeros((100_000, 28, 28), np.uint8))]
    [(85598, 28, 28), (14402, 28, 28)]
    """
    rows = max(1, BLOCK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]
        release(array)


def take(array: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
    """Return some rows of an array; of a mapped array, no more stay in memory.

    The system maps the neighbours of what is read as well: 64 kB for a row.
    """
    parts = []
    for some in np.array_split(rows, max(1, len(rows) // 1000)):
        parts.append(array[some])
        release(array)
    return np.concatenate(parts)


def release(array: NDArray[Any]) -> None:
    """Return the pages of a mapped array to the system; other arrays keep theirs."""
    mapped: Any = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)

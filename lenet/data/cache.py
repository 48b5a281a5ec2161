"""The cache: its directory, and arrays that are computed once, then memory-mapped."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lenet.data.idx import read_idx, write_idx_blocks
from lenet.errors import DataError, SystemFailure

Blocks = tuple[tuple[int, ...], Iterable[NDArray[np.uint8]]]
"""The shape of an array, and its rows in blocks, in order."""


def cache_directory() -> Path:
    """Return the cache directory; neither it nor HOME needs to exist."""
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named, "lenet")
    if sys.platform == "win32" and (named := os.environ.get("LOCALAPPDATA")):
        return Path(named, "lenet")
    try:
        home = Path.home()
    except RuntimeError:
        import tempfile

        return Path(tempfile.gettempdir(), "lenet")
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "lenet"


def cached(name: str, key: bytes, make: Callable[[], Blocks]) -> NDArray[np.uint8]:
    """Return an array that is slow to compute; after the first time, from the cache.

    Parameters
    ----------
    name
        The start of the file name in the cache.
    key
        Everything that the array depends on.
    make
        Computes it, block by block. Where the cache cannot be written, all blocks are in memory.
    """
    digest = hashlib.sha256(key).hexdigest()[:16]
    path = cache_directory() / "decoded" / f"{name}-{digest}.idx"
    with suppress(DataError, SystemFailure):
        return read_idx(path)
    try:
        write_idx_blocks(path, *make())
        return read_idx(path)
    except SystemFailure as error:
        if error.file != str(path):
            raise
        _, blocks = make()
        return np.concatenate(list(blocks))

"""The cache: its directory, and arrays that are computed once, then memory-mapped.

A computed array is a file ``NAME-PLACE-STATE.npy``: PLACE is a digest of what it is made from and
how, STATE one of the content. An array of another state of the same place replaces it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lenet.data.formats.npz import open_npy
from lenet.errors import DataError, SystemFailure
from lenet.system.files import replacing
from lenet.system.lock import lock

Blocks = Iterable[NDArray[Any]]
"""The rows of an array in blocks, in order, all of one type."""

HEADER = 128  # bytes


class Restart(Exception):
    """Raised by blocks that have turned out to be of another shape or type than those before."""


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


def cached(name: str, key: bytes, make: Callable[[], Blocks], state: bytes = b"") -> NDArray[Any]:
    """Return an array that is slow to compute; after the first time, from the cache."""
    array, _ = cached_with_facts(name, key, lambda: (make(), {}), state)
    return array


def cached_with_facts(
    name: str, key: bytes, make: Callable[[], tuple[Blocks, dict[str, Any]]], state: bytes
) -> tuple[NDArray[Any], dict[str, Any]]:
    """Return an array and what was found while it was computed, a JSON object."""
    folder = cache_directory() / "decoded"
    place, content = (hashlib.sha256(part).hexdigest()[:16] for part in (key, state))
    path = folder / f"{name}-{place}-{content}.npy"
    facts_path = path.with_suffix(".json")
    with suppress(DataError, SystemFailure, OSError, ValueError):
        return open_npy(path), json.loads(facts_path.read_bytes())
    _remove_abandoned(folder)
    try:
        with replacing(path) as file:
            with suppress(OSError):
                lock(file)  # so that it is not taken for one of a killed process
            facts = _retried(make, lambda blocks: _write(file, blocks))
        with replacing(facts_path) as file:
            file.write(json.dumps(facts).encode())
    except SystemFailure as error:
        if error.file not in (str(path), str(facts_path)):
            raise
        memory: list[NDArray[Any]] = []
        facts = _retried(make, lambda blocks: memory.__setitem__(slice(None), list(blocks)))
        return np.concatenate(memory), facts
    for old in folder.glob(f"{name}-{place}-*"):
        if old.stem != path.stem:
            with suppress(OSError):  # another program has it open, on Windows
                old.unlink()
    return open_npy(path), facts


def _retried(
    make: Callable[[], tuple[Blocks, dict[str, Any]]], use: Callable[[Blocks], None]
) -> dict[str, Any]:
    while True:
        blocks, facts = make()
        with suppress(Restart):
            use(blocks)
            return facts


def _write(file: IO[bytes], blocks: Blocks) -> None:
    file.seek(0)
    file.truncate()
    shape: tuple[int, ...] = (0,)
    dtype = np.dtype(np.uint8)
    file.write(bytes(HEADER))
    for block in blocks:
        shape, dtype = (shape[0] + len(block), *block.shape[1:]), block.dtype
        file.write(np.ascontiguousarray(block).data)
    file.seek(0)
    file.write(_header(shape, dtype))


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return the header of a .npy file of version 1, of a fixed length."""
    text = repr({"descr": dtype.str, "fortran_order": False, "shape": shape})
    return b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little") + (
        text.ljust(HEADER - 11) + "\n"
    ).encode()  # fmt: skip


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of killed processes: those that no process has locked."""
    for path in folder.glob(".*.part"):
        with suppress(OSError), path.open("rb") as file:
            lock(file)
            path.unlink()

"""IDX files, the format of MNIST: read and written, plain or gzip-compressed.

The format is the one at the foot of LeCun's MNIST page (http://yann.lecun.com/exdb/mnist/): two
zero bytes, one byte for the type of the numbers, one for the number of axes, the length of every
axis as a big-endian 32-bit integer, then the numbers, big-endian, the last axis fastest.

A file may come from anywhere, so its header is not trusted. It is compared with the size of the
file before any memory is allocated, and decompression stops one byte after the size it claims.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from lenet.errors import DataError
from lenet.system.files import open_regular, reading, replacing

TYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
MAX_AXES = 64  # NumPy has no arrays of more
REMEDY = "fetch or copy it again"
GZIP_MAGIC = b"\x1f\x8b"
# The best that deflate can do is 258 bytes for two bits (RFC 1951, section 3.2.5).
MAX_INFLATION = 1032
CHUNK = 1 << 20


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an IDX file, plain or compressed (recognised by its content, not by its name).

    Parameters
    ----------
    path
        A regular file.

    Returns
    -------
    ndarray
        Read-only, in the byte order of the machine. A plain file of unsigned bytes is mapped, not
        read, so that it may be larger than the memory.

    Raises
    ------
    DataError
        The file is missing, not a regular file, not IDX, damaged, empty, or shorter or longer than
        its header says.
    SystemFailure
        It exists and cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_idx(Path(folder, "labels.gz"), np.array([5, 0, 4], np.uint8))
    ...     read_idx(Path(folder, "labels.gz"))
    array([5, 0, 4], dtype=uint8)
    """
    path = Path(path)
    with reading(path, DataError), open_regular(path, DataError) as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(2) == GZIP_MAGIC:
            file.seek(0)
            array = _read_compressed(file, size, path)
        else:
            file.seek(0)
            array = _read_plain(file, size, path)
    array.flags.writeable = False
    return array


def write_idx(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write ``array`` as an IDX file, compressed if the name ends in ``.gz``.

    The file is complete or absent, and the same array gives the same bytes.

    Raises
    ------
    ValueError
        IDX has no such type, or the array has no items or no axes.
    SystemFailure
        The file cannot be written.
    """
    path = Path(path)
    start = header(array)
    items = np.ascontiguousarray(array, dtype=TYPES[start[2]])
    with replacing(path) as file:
        if path.suffix == ".gz":
            with gzip.GzipFile("", "wb", 6, file, mtime=0) as stream:
                stream.write(start)
                stream.write(items.data)
        else:
            file.write(start)
            file.write(items.data)


def write_idx_blocks(
    path: str | os.PathLike[str], shape: tuple[int, ...], blocks: Iterable[NDArray[np.uint8]]
) -> None:
    """Write an array of bytes of this ``shape`` from its rows in ``blocks``, one after another.

    Raises
    ------
    ValueError
        The blocks do not add up to the shape, or the array has no items.
    SystemFailure
        The file cannot be written.
    """
    with replacing(Path(path)) as file:
        file.write(header(np.broadcast_to(np.uint8(0), shape)))
        rows = 0
        for block in blocks:
            if block.shape[1:] != shape[1:] or block.dtype != np.uint8:
                raise ValueError(f"a block of {block.dtype} {block.shape} in an array of {shape}")
            file.write(np.ascontiguousarray(block).data)
            rows += len(block)
        if rows != shape[0]:
            raise ValueError(f"the blocks have {rows} rows, not {shape[0]}")


def header(array: NDArray[Any]) -> bytes:
    r"""Return the bytes that precede the numbers of ``array`` in an IDX file.

    Examples
    --------
    >>> header(np.zeros((2, 3), np.uint8))
    b'\x00\x00\x08\x02\x00\x00\x00\x02\x00\x00\x00\x03'
    """
    native = array.dtype.newbyteorder("=")
    codes = [code for code, dtype in TYPES.items() if dtype.newbyteorder("=") == native]
    if not codes or array.size == 0 or array.ndim == 0:
        raise ValueError(f"IDX has no array of type {array.dtype} and shape {array.shape}")
    return bytes([0, 0, codes[0], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)


def _read_plain(file: BufferedReader, size: int, path: Path) -> NDArray[Any]:
    dtype, shape = _read_header(file, path)
    claimed = math.prod(shape) * dtype.itemsize
    here = size - file.tell()
    if here != claimed:
        _refuse_length(path, shape, dtype, f"{here:,} bytes")
    if dtype == np.uint8:
        return np.memmap(path, dtype, "r", file.tell(), shape)
    return _in_native_order(np.fromfile(file, dtype, math.prod(shape)).reshape(shape))


def _read_compressed(file: BufferedReader, size: int, path: Path) -> NDArray[Any]:
    with gzip.GzipFile(fileobj=file) as stream:
        try:
            dtype, shape = _read_header(stream, path)
            claimed = math.prod(shape) * dtype.itemsize
            if claimed > MAX_INFLATION * size:
                _refuse_length(path, shape, dtype, f"at most {MAX_INFLATION * size:,} bytes")
            array = np.empty(shape, dtype)
            here = _fill(stream, array.reshape(-1).view(np.uint8).data)
            if here < claimed:
                _refuse_length(path, shape, dtype, f"{here:,} bytes")
            if stream.read(1):  # at the end, this also checks the CRC and what follows
                _refuse_length(path, shape, dtype, "more")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            problem = f"its gzip data is damaged ({str(error).rstrip('.')})"
            raise DataError(problem, remedy=REMEDY, file=path) from error
    return _in_native_order(array)


def _read_header(
    stream: BufferedReader | gzip.GzipFile, path: Path
) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4:
        problem = "is too short to be an IDX file" if magic else "is empty"
        raise DataError(problem, remedy=REMEDY, file=path)
    if magic[:2] != b"\0\0" or magic[2] not in TYPES or not 1 <= magic[3] <= MAX_AXES:
        what = (
            "an HTML page" if magic.lstrip()[:1] == b"<" else f"not an IDX file (0x{magic.hex()})"
        )
        raise DataError(f"is {what}", remedy=REMEDY, file=path)
    lengths = stream.read(4 * magic[3])
    if len(lengths) < 4 * magic[3]:
        raise DataError("ends within its header", remedy=REMEDY, file=path)
    shape = struct.unpack(f">{magic[3]}I", lengths)
    if 0 in shape:
        raise DataError("contains no items", remedy="name a file with some", file=path)
    return TYPES[magic[2]], shape


def _fill(stream: gzip.GzipFile, target: memoryview) -> int:
    """Read into ``target`` until it is full or the stream ends; return the bytes read."""
    filled = 0
    while filled < len(target):
        count = stream.readinto(target[filled : filled + CHUNK])
        if not count:
            break
        filled += count
    return filled


def _in_native_order(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.isnative:
        return array
    return array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))


def _refuse_length(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], found: str
) -> NoReturn:
    claimed = math.prod(shape) * dtype.itemsize
    size = f"{claimed:,} bytes" if claimed < 2**63 else "over 2⁶³ bytes"
    axes = "×".join(map(str, shape[:8])) + "×…" * (len(shape) > 8)
    problem = f"its header promises {size} ({axes}), the file contains {found}"
    raise DataError(problem, remedy=REMEDY, file=path)

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
from collections.abc import Callable
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from lenet.data.formats.lookup import is_directory, listed, normalised
from lenet.data.formats.npz import NPY_MAGIC, open_npy
from lenet.data.formats.stored import (
    MAX_AXES,
    MAX_INFLATION,
    WHOLE,
    Note,
    Options,
    Parts,
    Stored,
)
from lenet.data.splits import part_of
from lenet.errors import ConfigError, DataError
from lenet.system.files import open_regular, reading, replacing

TYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
REMEDY = "download or copy the file again"
GZIP_MAGIC = b"\x1f\x8b"
CHUNK = 1 << 20


def read_idx(
    path: str | os.PathLike[str], check: Callable[[tuple[int, ...]], None] | None = None
) -> NDArray[Any]:
    """Read an IDX file, plain or compressed (recognised by its content, not by its name).

    Parameters
    ----------
    path
        A regular file.
    check
        Takes the shape before the numbers are read, and may refuse it.

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
            array = _read_compressed(file, size, path, check)
        else:
            file.seek(0)
            array = _read_plain(file, size, path, check)
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


Check = Callable[[tuple[int, ...]], None] | None


def _read_plain(file: BufferedReader, size: int, path: Path, check: Check) -> NDArray[Any]:
    dtype, shape = _read_header(file, path)
    if check is not None:
        check(shape)
    claimed = math.prod(shape) * dtype.itemsize
    here = size - file.tell()
    if here != claimed:
        _refuse_length(path, shape, dtype, f"{here:,} bytes")
    if dtype == np.uint8:
        return np.memmap(path, dtype, "r", file.tell(), shape)
    return _in_native_order(np.fromfile(file, dtype, math.prod(shape)).reshape(shape))


def _read_compressed(file: BufferedReader, size: int, path: Path, check: Check) -> NDArray[Any]:
    with gzip.GzipFile(fileobj=file) as stream:
        try:
            dtype, shape = _read_header(stream, path)
            if check is not None:
                check(shape)
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


# --- The parts of a data set ---------------------------------------------------------------------

WHAT = {"images": {"images", "image", "x"}, "labels": {"labels", "label", "y", "targets"}}
OTHER = {"txt", "csv", "png", "jpg", "jpeg", "npz", "zip", "tar", "md", "json", "py", "mat"}
ROLES = ("train_images", "train_labels", "test_images", "test_labels")


def parts(path: Path | None, options: Options, note: Note) -> Parts:  # noqa: ARG001
    """Find IDX or .npy files: those that the options name, or those in a directory."""
    directory = Path(options.dir) if options.dir else None
    there = {} if directory is None else role_files(directory)
    found = ({} if path is None else role_files(path)) | there
    for role in ROLES:
        named = getattr(options, role)
        if named is None:
            continue
        folders = [folder for folder in (directory, path) if folder is not None]
        moved = [folder / Path(named).name for folder in folders]
        moved = [file for file in moved if os.access(file, os.F_OK)]
        if moved or role not in there:
            found[role] = moved[0] if moved else Path(named)
    if not found and path is None and directory is None:
        raise ConfigError("is not given", remedy="name an IDX file, or data.path", key="data.path")
    result = {}
    for part in ("train", "validation", "test", WHOLE):
        images, labels = (found.get(f"{part}_{what}") for what in WHAT)
        if images is not None:
            result[part] = partial(_read_pair, images, labels, path or directory, part)
    return result


def role_files(folder: Path) -> dict[str, Path]:
    """Return the files of a folder that are named as images and labels of parts, by role.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     for file in ("emnist-train-images", "y_val.npy", "t10k-labels.gz", "notes.txt"):
    ...         Path(name, file).touch()
    ...     sorted(role_files(Path(name)))
    ['test_labels', 'train_images', 'validation_labels']
    """
    found: dict[str, Path] = {}
    for path in listed(folder):
        words = set(normalised(path.name).split("-"))
        part, what = part_of(path.name), next((w for w, n in WHAT.items() if n & words), None)
        if part is None or what is None or words & OTHER or is_directory(path):
            continue
        found.setdefault(f"{part}_{what}", path)
    return found


def _read_pair(images: Path, labels: Path | None, place: Path | None, part: str) -> Stored:
    if labels is None and place is None:
        raise ConfigError(
            "is not given", remedy="name an IDX file, or data.path", key=f"data.{part}_labels"
        )
    if labels is None:
        raise DataError(
            f"contains no file of the {part} labels",
            remedy=f"name one {part}-labels, or set data.{part}_labels",
            file=place,
        )
    return Stored(read_array(images), read_array(labels), images, labels)


def read_array(path: Path) -> NDArray[Any]:
    """Read an array from an IDX or a .npy file, recognised by its content.

    The remedy for a file of another format explains how to use it.
    """
    if path.is_dir():
        raise DataError(
            "is a directory, a file with all images is needed",
            remedy="for a directory of pictures for every class set data.name to folder and "
            "data.path to their directory",
            file=path,
        )
    with reading(path, DataError), open_regular(path, DataError) as file:
        start = file.read(16)
    if start.startswith(NPY_MAGIC):
        return open_npy(path)
    problem = remedy = None
    if start.startswith(b"PK"):
        problem = "is a zip archive, as .npz files are"
        remedy = "set data.name to npz and data.path to this file, or unpack it"
    elif start and not start.lstrip().startswith(b"<") and start.isascii() and _is_text(start):
        problem = "is a text file, not IDX"
        remedy = (
            "for comma-separated labels and pixels set data.name to csv and data.path to this file"
        )
    if problem and remedy:
        raise DataError(problem, remedy=remedy, file=path)
    try:
        return read_idx(path)
    except DataError as error:
        if error.problem.startswith("is not an IDX file"):
            error.remedy = (
                "convert it with lenet.data.formats.idx.write_idx(path, array), or set data.name "
                "to folder, npz or csv"
            )
        raise


def _is_text(start: bytes) -> bool:
    return all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in start)

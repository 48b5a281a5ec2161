"""NumPy's .npy and .npz files, read without evaluating anything in them.

``numpy.load`` evaluates a header as Python. Here a header is matched with a pattern, the size that
it states is compared with that of the file, and objects are rejected. The format is NEP 1's
(https://numpy.org/neps/nep-0001-npy-format.html).
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from lenet.data.idx import MAX_INFLATION
from lenet.data.reader import Stored
from lenet.errors import DataError
from lenet.system.files import reading

NPY_MAGIC = b"\x93NUMPY"
NPY_HEADER = re.compile(
    rb"\x93NUMPY(\x01\x00..|[\x02\x03]\x00....)\{'descr': *'([<>|=]?[?a-zA-Z]\d{0,3})', *"
    rb"'fortran_order': *(True|False), *'shape': *"
    rb"\(((?:\d{1,18}L?, *){0,31}(?:\d{1,18}L?)?)\),? *\} *\n",
    re.DOTALL,
)
MAX_HEADER = 1024
REMEDY = "save it again with numpy.save or numpy.savez"
SAVEZ = "numpy.savez(path, x_train=…, y_train=…, x_test=…, y_test=…)"
NUMBERS = "save pixel values from 0 to 255, and labels that count from 0"

IMAGES = ("x_{split}", "{split}_images", "{split}_x", "{split}_data", "images_{split}")
LABELS = ("y_{split}", "{split}_labels", "{split}_y", "{split}_targets", "labels_{split}")
WHOLE_IMAGES = ("x", "images", "data", "imgs")
WHOLE_LABELS = ("y", "labels", "targets", "target")


def read_npy_header(start: bytes) -> tuple[np.dtype[Any], tuple[int, ...], Literal["F", "C"], int]:
    """Return type, shape, order and length of the header of a .npy file.

    Raises
    ------
    DataError
        It is damaged, or of no number type.
    """
    header = NPY_HEADER.match(start)
    if header is None or header.end() != 6 + len(header[1]) + int.from_bytes(
        header[1][2:], "little"
    ):
        raise DataError("is a .npy file with a damaged or unusual header", remedy=REMEDY)
    descr, fortran, axes = (header[part].decode() for part in (2, 3, 4))
    try:
        dtype, shape = np.dtype(descr), tuple(map(int, re.findall(r"\d+", axes)))
    except TypeError as error:
        raise DataError(f"is a .npy file of no type ({error})", remedy=REMEDY) from error
    return dtype, shape, "F" if fortran == "True" else "C", header.end()


def read_npy(path: Path) -> NDArray[Any]:
    """Map an array of numbers.

    Raises
    ------
    DataError
        The file is damaged, or contains something other than numbers.
    """
    with path.open("rb") as file:
        dtype, shape, order, offset = read_npy_header(file.read(MAX_HEADER))
    if dtype.kind not in "buif":
        problem = f"contains {dtype} where numbers are needed"
        raise DataError(problem, remedy=NUMBERS)
    here, claimed = path.stat().st_size - offset, math.prod(shape) * dtype.itemsize
    if here < claimed or not claimed:
        problem = f"is a .npy file whose header promises {shape}, and that contains {here:,} bytes"
        raise DataError(problem, remedy=REMEDY)
    return np.memmap(path, dtype, "r", offset, shape, order)


def read_npz(path: Path, split: str) -> Stored:
    """Read one split of an archive with Keras' keys, ``x_train``, ``y_train`` and so on.

    Also ``train_images`` and ``train_labels``; or ``x`` and ``y``, or ``images`` and ``labels``,
    for both splits.

    Raises
    ------
    DataError
        The file is damaged, or has no such arrays.
    SystemFailure
        It cannot be read.
    """
    try:
        with reading(path, DataError), zipfile.ZipFile(path) as archive:
            members = {
                member.filename.removesuffix(".npy").lower(): member
                for member in archive.infolist()
            }
            whole = not any(name in members for name in _filled(IMAGES, "test"))
            images = _first(members, _filled(IMAGES, split))
            labels = _first(members, _filled(LABELS, split))
            if whole and images is None:
                images = _first(members, (*_filled(IMAGES, "train"), *WHOLE_IMAGES))
                labels = _first(members, (*_filled(LABELS, "train"), *WHOLE_LABELS))
            if images is None or labels is None:
                raise DataError(
                    f"contains {', '.join(members) or 'no arrays'}, but neither x_{split} and "
                    f"y_{split} nor {split}_images and {split}_labels",
                    remedy=SAVEZ,
                    file=path,
                )
            x, y = (_read_member(archive, members[name], path) for name in (images, labels))
    except zipfile.BadZipFile as error:
        raise DataError(f"is not a .npz archive ({error})", remedy=REMEDY, file=path) from None
    return Stored(x, y, path, path, images, labels, whole=whole)


def _filled(names: tuple[str, ...], split: str) -> tuple[str, ...]:
    return tuple(name.format(split=split) for name in names)


def _first(members: dict[str, zipfile.ZipInfo], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in members), None)


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> NDArray[Any]:
    try:
        with archive.open(member) as file:
            return _read_array(file, member)
    except DataError as error:
        error.file, error.key = str(path), member.filename
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        problem = f"is damaged ({error})"
        raise DataError(problem, remedy=REMEDY, file=path, key=member.filename) from error


def _read_array(file: IO[bytes], member: zipfile.ZipInfo) -> NDArray[Any]:
    start = file.read(MAX_HEADER)
    dtype, shape, order, offset = read_npy_header(start)
    if dtype.kind not in "buif":
        raise DataError(f"contains {dtype} where numbers are needed", remedy=NUMBERS)
    claimed = math.prod(shape) * dtype.itemsize
    here = member.file_size - offset
    if here != claimed or not claimed or claimed > MAX_INFLATION * member.compress_size + 1024:
        problem = f"promises {shape} of {dtype}, and contains {here:,} bytes"
        raise DataError(problem, remedy=REMEDY)
    array = np.empty(math.prod(shape), dtype)
    target = array.view(np.uint8).data
    filled = len(start) - offset
    target[:filled] = start[offset:]
    while filled < len(target):
        chunk = file.read(min(1 << 20, len(target) - filled))
        if not chunk:
            raise DataError(f"ends after {filled:,} of {len(target):,} bytes", remedy=REMEDY)
        target[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    file.read(1)  # the end of the member: its CRC is compared
    return array.astype(dtype.newbyteorder("="), copy=False).reshape(shape, order=order)

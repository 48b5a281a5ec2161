"""NumPy's .npy and .npz files, read without trusting them.

The size that a header states is compared with that of the file before memory is allocated, and
objects are rejected. The format is NEP 1's (https://numpy.org/neps/nep-0001-npy-format.html).
"""

from __future__ import annotations

import io
import math
import warnings
import zipfile
import zlib
from functools import partial
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

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
from lenet.errors import DataError
from lenet.system.files import open_regular, reading

NPY_MAGIC = b"\x93NUMPY"
MAX_HEADER = 1024
REMEDY = "save it again with numpy.save or numpy.savez"
SAVEZ = "numpy.savez(path, x_train=…, y_train=…, x_test=…, y_test=…)"
NUMBERS = "save pixel values from 0 to 255, and labels that count from 0"

IMAGES = {"x", "images", "image", "data", "imgs", "img", "pictures", "samples"}
LABELS = {"y", "labels", "label", "targets", "target", "classes"}
NAMES = {"class_names", "label_names", "names"}


def read_header(
    start: bytes,
) -> tuple[np.dtype[Any], tuple[int, ...], Literal["F", "C"], int]:
    """Return type, shape, order and length of the header of a .npy file of numbers."""
    file = io.BytesIO(start)
    try:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about headers of Python 2
            shape, fortran, dtype = read(file, max_header_size=MAX_HEADER)
        fits = min(shape, default=1) >= 0 and len(shape) <= MAX_AXES
    except (ValueError, TypeError, SyntaxError, TokenError, MemoryError, RecursionError):
        fits = False
    if not fits:
        raise DataError("is a .npy file with a damaged or unusual header", remedy=REMEDY)
    if dtype.kind not in "buif":
        raise DataError(f"contains {dtype} where numbers are needed", remedy=NUMBERS)
    return dtype, shape, "F" if fortran else "C", file.tell()


def open_npy(path: Path) -> NDArray[Any]:
    """Map an array of numbers from a .npy file."""
    with reading(path, DataError), open_regular(path, DataError) as file:
        size = path.stat().st_size
        try:
            dtype, shape, order, offset = read_header(file.read(MAX_HEADER))
        except DataError as error:
            error.file = str(path)
            raise
    here, claimed = size - offset, math.prod(shape) * dtype.itemsize
    if here < claimed or not claimed:
        problem = f"is a .npy file whose header promises {shape}, and that contains {here:,} bytes"
        raise DataError(problem, remedy=REMEDY, file=path)
    return np.memmap(path, dtype, "r", offset, shape, order)


def parts(path: Path, options: Options, note: Note) -> Parts:  # noqa: ARG001 - as every reader
    """Find the parts of an archive: arrays of images and of labels with the names of parts.

    Keras' ``x_train`` and ``y_train`` and so on, MedMNIST's ``train_images``, ``val_images``; or
    ``x`` and ``y``, or ``images`` and ``labels``, of a set that is not divided.
    """
    found: dict[str, dict[str, str]] = {}
    with _open(path) as archive:
        members = {name.removesuffix(".npy").lower(): name for name in archive.namelist()}
    for name, member in members.items():
        words = set(name.replace("-", "_").split("_"))
        role = "images" if words & IMAGES else "labels" if words & LABELS else None
        if role is not None and name not in NAMES:
            found.setdefault(part_of(name) or WHOLE, {}).setdefault(role, member)
    found = {part: roles for part, roles in found.items() if len(roles) == 2}
    if not found:
        raise DataError(
            f"contains {', '.join(members) or 'no arrays'}, but neither x_train and y_train nor "
            "train_images and train_labels",
            remedy=SAVEZ,
            file=path,
        )
    return {part: partial(_read, path, roles) for part, roles in found.items()}


def unlabelled(path: Path) -> NDArray[Any]:
    """Return the images of an archive: those to test, or the only ones."""
    with _open(path) as archive:
        names = [
            name
            for name in archive.namelist()
            if set(name.removesuffix(".npy").lower().split("_")) & IMAGES
        ]
        names.sort(key=lambda name: part_of(name) != "test")
        if not names:
            raise DataError("contains no images", remedy=SAVEZ, file=path)
        return _read_member(archive, names[0], path)


def _open(path: Path) -> zipfile.ZipFile:
    try:
        with reading(path, DataError), open_regular(path, DataError):
            return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataError(f"is not a .npz archive ({error})", remedy=REMEDY, file=path) from None


def _read(path: Path, roles: dict[str, str]) -> Stored:
    with _open(path) as archive:
        x, y = (_read_member(archive, roles[role], path) for role in ("images", "labels"))
    images, labels = (roles[role].removesuffix(".npy") for role in ("images", "labels"))
    return Stored(x, y, path, path, images, labels)


def _read_member(archive: zipfile.ZipFile, name: str, path: Path) -> NDArray[Any]:
    try:
        with archive.open(name) as file:
            return _read_array(file, archive.getinfo(name))
    except DataError as error:
        error.file, error.key = str(path), name
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"is damaged ({error})", remedy=REMEDY, file=path, key=name) from error


def _read_array(file: IO[bytes], member: zipfile.ZipInfo) -> NDArray[Any]:
    start = file.read(MAX_HEADER)
    dtype, shape, order, offset = read_header(start)
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

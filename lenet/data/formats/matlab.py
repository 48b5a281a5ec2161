"""MATLAB's .mat files up to version 7, such as those of SVHN, read by SciPy.

Images are an array of three or four axes, the last of which counts them, or of two; labels are a
vector with as many numbers. MATLAB counts from 1: classes are named by their numbers, and of digits
of ten classes the 10 stands for 0, as in SVHN.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.data.formats.lookup import listed
from lenet.data.formats.stored import MAX_INFLATION, WHOLE, Note, Options, Parts, Stored
from lenet.data.splits import part_of
from lenet.errors import DataError
from lenet.system.files import open_regular, reading

HDF5 = b"MATLAB 7.3"
REMEDY = "save it with save(file, 'X', 'y', '-v7')"
MAX_BYTES = 1 << 32


def parts(path: Path, options: Options, note: Note) -> Parts:  # noqa: ARG001 - as every reader
    """Find the parts: one file, or a directory with one for each part."""
    if not path.is_dir():
        return {part_of(path.stem) or WHOLE: partial(_read, path)}
    found: dict[str, Path] = {}
    for file in listed(path):
        if file.suffix.lower() == ".mat":
            part = part_of(file.stem)
            if part is None or part in found:
                note(f"{file}: left out: its name is not that of a part")
            else:
                found[part] = file
    return {part: partial(_read, file) for part, file in found.items()}


def _read(path: Path) -> Stored:
    import scipy.io

    mat: Any = scipy.io  # its stubs know no open files

    with reading(path, DataError), open_regular(path, DataError) as file:
        if file.read(len(HDF5)) == HDF5:
            raise DataError("is of MATLAB 7.3, an HDF5 file", remedy=REMEDY, file=path)
        size = path.stat().st_size
        try:
            file.seek(0)
            found = [(name, shape) for name, shape, kind in mat.whosmat(file) if kind != "char"]
            images, labels = _names(found, path)
            for name, shape in found:
                if name in (images, labels) and math.prod(shape) > min(
                    MAX_INFLATION * size, MAX_BYTES
                ):
                    problem = (
                        f"{name} promises {'×'.join(map(str, shape))} numbers in {size:,} bytes"
                    )
                    raise DataError(problem, remedy=REMEDY, file=path)
            file.seek(0)
            arrays = mat.loadmat(file, variable_names=[images, labels])
            x, y = np.asarray(arrays[images]), np.asarray(arrays[labels]).reshape(-1)
        except DataError:
            raise
        except Exception as error:  # SciPy raises anything on a damaged file
            problem = (
                f"is not a MATLAB file ({str(error).splitlines()[0] if str(error) else error!r})"
            )
            raise DataError(problem, remedy=REMEDY, file=path) from error
    if x.dtype.kind not in "buif" or y.dtype.kind not in "buif":
        raise DataError("contains no numbers", remedy=REMEDY, file=path)
    return Stored(_images_first(x, len(y)), _words(y), path, path, images, labels)


def _names(found: list[tuple[str, tuple[int, ...]]], path: Path) -> tuple[str, str]:
    """Return the names of the images and of the labels."""
    large = [(name, shape) for name, shape in found if len(shape) > 2 or min(shape, default=0) > 1]
    for name, shape in sorted(large, key=lambda item: -math.prod(item[1])):
        for other, sizes in found:
            count = max(sizes, default=0)
            if other != name and math.prod(sizes) == count > 1 and count in (shape[-1], shape[0]):
                return name, other
    there = ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in found)
    raise DataError(
        f"contains {there or 'nothing'}, but not images and a label for each",
        remedy=REMEDY,
        file=path,
    )


def _images_first(x: NDArray[Any], count: int) -> NDArray[Any]:
    if x.shape[-1] == count and (x.ndim != 2 or x.shape[0] != count):
        return np.ascontiguousarray(np.moveaxis(x, -1, 0))
    return x


def _words(y: NDArray[Any]) -> list[str]:
    whole = np.rint(y).astype(np.int64)
    if not np.array_equal(whole, y):
        return [str(value) for value in y.tolist()]
    if set(np.unique(whole)) == set(range(1, 11)):
        whole %= 10
    return [str(value) for value in whole.tolist()]

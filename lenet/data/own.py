"""The user's own data sets: recognised and read, by path.

A new format is a reader, and one entry of :data:`READERS` and of the catalogue.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lenet.data.folder import EXTENSIONS, class_directories, read_folder, split_directories
from lenet.data.idx import GZIP_MAGIC, TYPES, read_idx
from lenet.data.lookup import listed, own_files
from lenet.data.npy import NPY_MAGIC, SAVEZ, read_npy, read_npz
from lenet.data.reader import Stored
from lenet.data.table import read_table
from lenet.errors import ConfigError, DataError

ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"}

Paths = Mapping[str, str | os.PathLike[str] | None]


def recognise(path: Path) -> str | None:
    """Return the format of the data at ``path``, one of ``FORMATS``, or None."""
    if path.is_dir():
        if len(own_files(path)) >= 2:
            return "idx"
        train, _ = split_directories(path)
        if class_directories(train or path):
            return "folder"
        return "csv" if _tables(path) else None
    if path.suffix.lower() in {".npz", ".csv", ".tsv"}:
        return "npz" if path.suffix.lower() == ".npz" else "csv"
    return None


def _tables(path: Path) -> list[Path]:
    return [p for p in listed(path) if p.suffix.lower() in {".csv", ".tsv"}]


def read_own(
    name: str,
    split: str,
    *,
    path: Path | None = None,
    files: Paths | None = None,
    directory: Path | None = None,
    size: tuple[int, int] | None = None,
) -> Stored:
    """Read one split of the user's own data set.

    Parameters
    ----------
    name
        One of ``FORMATS``.
    split
        ``train`` or ``test``.
    path
        The file or the directory; for ``idx``, a directory with files named as images and labels.
    files
        For ``idx``: the paths by role, such as ``train_images``.
    directory
        Searched first for the last part of a path, as the data may have moved. Without a path, the
        directory itself is the data set if it has the format.
    size
        For ``folder``: height and width that pictures are scaled to.

    Raises
    ------
    ConfigError
        No path is given.
    DataError, SystemFailure
        Something is missing, damaged or of another format, or cannot be read.
    """
    if name == "idx":
        images, labels = (
            _find_role(f"{split}_{what}", files or {}, path, directory)
            for what in ("images", "labels")
        )
        return Stored(read_array(images), read_array(labels), images, labels)
    place = _find_path(name, path, directory)
    if name == "folder":
        fits = place.is_dir()
    else:
        fits = not place.is_dir() or (name == "csv" and bool(_tables(place)))
    if not fits:
        kind = "directory" if place.is_dir() else "file"
        remedy = what_instead(place)
        raise DataError(f"is a {kind}, but data.name is {name}", remedy=remedy, file=place)
    if name == "folder":
        return read_folder(place, split, size)
    return read_npz(place, split) if name == "npz" else read_table(place, split)


def what_instead(path: Path) -> str:
    """Return what to do with a path that is no data set, or not one of the format expected.

    Examples
    --------
    >>> what_instead(Path("digits.h5"))
    'load it in Python and save it: numpy.savez(path, x_train=…, y_train=…, x_test=…, y_test=…)'
    """
    other = recognise(path)
    if other is not None:
        return f"set data.name to {other}, or name it with --data"
    if path.is_dir():
        if any(p.suffix.lower() in EXTENSIONS for p in listed(path)):
            return "move its pictures into directories, one per class"
        return "name a directory with IDX files or with pictures by class, a .npz or .csv file"
    if path.suffix.lower() in ARCHIVES:
        return "unpack it, and name the directory"
    if path.suffix.lower() in EXTENSIONS:
        return "name the directory that contains one directory of pictures per class"
    return f"load it in Python and save it: {SAVEZ}"


def read_array(path: Path) -> NDArray[Any]:
    """Read an array from an IDX or a .npy file, recognised by its content.

    Raises
    ------
    DataError, SystemFailure
        As for ``read_idx``; the remedy for another format explains how to use it.
    """
    if path.is_dir():
        raise DataError(
            "is a directory, a file with all images is needed",
            remedy="for a directory of pictures for every class set data.name to folder and "
            "data.path to their directory",
            file=path,
        )
    start = _start(path)
    if start.startswith(NPY_MAGIC):
        try:
            return read_npy(path)
        except DataError as error:
            error.file = str(path)
            raise
    if start.startswith(b"PK"):
        raise DataError(
            "is a zip archive, as .npz files are",
            remedy="set data.name to npz and data.path to this file, or unpack it",
            file=path,
        )
    idx = start[:2] == GZIP_MAGIC or (start[:2] == b"\0\0" and start[2:3] in map(_byte, TYPES))
    if start and not idx and not start.lstrip().startswith(b"<") and _is_text(start):
        raise DataError(
            "is a text file, not IDX",
            remedy="for comma-separated labels and pixels set data.name to csv and data.path to "
            "this file",
            file=path,
        )
    try:
        return read_idx(path)
    except DataError as error:
        if error.problem.startswith("is not an IDX file"):
            error.remedy = (
                "convert it with lenet.data.idx.write_idx(path, array), or set data.name to "
                "folder, npz or csv"
            )
        raise


def _start(path: Path) -> bytes:
    """Return the first bytes of a regular file, and no bytes of anything else."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(16)
    except OSError:
        return b""


def _byte(number: int) -> bytes:
    return bytes([number])


def _is_text(start: bytes) -> bool:
    return all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in start)


def _find_role(role: str, files: Paths, path: Path | None, directory: Path | None) -> Path:
    named = files.get(role)
    for folder in (directory, path):
        if folder is None:
            continue
        if named is not None and os.access(folder / Path(named).name, os.F_OK):
            return folder / Path(named).name
        found = own_files(folder)
        if role in found and (named is None or folder == directory):
            return found[role]
    if named is not None:
        return Path(named)
    if path is not None:
        _check_there(path)
    if path is not None and path.is_file():
        raise DataError(
            "is a file; IDX files are in a directory", remedy=what_instead(path), file=path
        )
    if path is not None or directory is not None:
        looked = path or directory
        raise DataError(
            f"contains no file of the {role.replace('_', ' ')}",
            remedy=f"name one {role.replace('_', '-')}, or set data.{role}",
            file=looked,
        )
    raise ConfigError("is not given", remedy="name an IDX file, or data.path", key=f"data.{role}")


def _find_path(name: str, path: Path | None, directory: Path | None) -> Path:
    if directory is not None:
        if path is not None and os.access(directory / path.name, os.F_OK):
            return directory / path.name
        if recognise(directory) == name:
            return directory
    if path is None:
        what = "directory" if name == "folder" else "file"
        raise ConfigError("is not given", remedy=f"name the {what}", key="data.path")
    _check_there(path)
    return path


def _check_there(path: Path) -> None:
    if not os.access(path, os.F_OK):
        raise DataError(
            "there is no such file or directory",
            remedy="check the path, or name the data with --data",
            file=path,
        )

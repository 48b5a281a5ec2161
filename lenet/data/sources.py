"""Which reader reads a data set: by its name, or recognised by what is at a path.

A new format is a module in ``formats/`` with a function ``parts``, a line in :data:`READERS` and in
:func:`recognise`, and an entry of the catalogue.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lenet.data.catalogue import CATALOGUE, FORMATS, find_source
from lenet.data.formats import folder, idx, labelled, matlab, npz, parquet, published, table
from lenet.data.formats.lookup import listed
from lenet.data.formats.stored import Note, Options, Parts
from lenet.errors import ConfigError, DataError

READERS: dict[str, Callable[[Path, Options, Note], Parts]] = {
    "idx": idx.parts,
    "folder": folder.parts,
    "labelled": labelled.parts,
    "npz": npz.parts,
    "csv": table.parts,
    "parquet": parquet.parts,
    "mat": matlab.parts,
}
ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"}
SUFFIXES = {".npz": "npz", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".mat": "mat"}


def find_parts(options: Options, note: Note) -> Parts:
    """Return the parts of the data set that the options name."""
    if options.name == "arrays":
        raise ConfigError(
            "is arrays: the network was trained on images given in Python, which are not stored",
            remedy="name a data set, or evaluate the images with lenet.Model",
            key="data.name",
        )
    if options.name not in FORMATS:
        find_source(options.name)
        return published.parts(options.name, options, note)
    if options.name == "idx":
        return idx.parts(_idx_directory(options), options, note)
    path = _find_path(options)
    if not _fits(options.name, path):
        kind = "directory" if path.is_dir() else "file"
        problem = f"is a {kind}, but data.name is {options.name}"
        raise DataError(problem, remedy=what_instead(path, options), file=path)
    return READERS[options.name](path, options, note)


def recognise(path: Path, options: Options | None = None) -> str | None:
    """Return the format of the data at ``path``, one of ``FORMATS``, or None."""
    if path.is_dir():
        if len(idx.role_files(path)) >= 2:
            return "idx"
        if (options and options.label_pattern) or labelled.has_labels(path):
            return "labelled"
        if parquet.parquet_files(path):
            return "parquet"
        if any(folder.class_directories(p) for p in folder.part_directories(path).values()):
            return "folder"
        if any(p.suffix.lower() == ".mat" for p in listed(path)):
            return "mat"
        if table.tables(path):
            return "csv"
        flat = any(p.suffix.lower() in folder.EXTENSIONS for p in listed(path))
        return "labelled" if flat else None
    name = SUFFIXES.get(path.suffix.lower())
    return "labelled" if name == "csv" and labelled.has_labels(path) else name


def unlabelled(path: Path) -> NDArray[Any] | None:
    """Return the images of a table or an archive, with or without labels; None for other files."""
    form = SUFFIXES.get(path.suffix.lower())
    if form == "npz":
        return npz.unlabelled(path)
    if form == "csv":
        stored = table.read_table(path, Options(), lambda _: None, labelled=False)
        return stored.images
    return parquet.unlabelled(path) if form == "parquet" else None


def resolve(target: str, options: Options | None = None) -> tuple[str, Path | None]:
    """Return the name of a data set and None, or the format of a path and the path.

    Examples
    --------
    >>> resolve("mnist")
    ('mnist', None)
    """
    named_as_path = os.sep in target or bool(Path(target).suffix)
    if target not in CATALOGUE and (named_as_path or os.access(target, os.F_OK)):
        return format_of(Path(target), options), Path(target)
    find_source(target)
    return target, None


def format_of(path: Path, options: Options | None = None) -> str:
    """Return the format of the data at ``path``, which must be a data set."""
    if not os.access(path, os.F_OK):
        problem = "there is no such file or directory"
        raise DataError(problem, remedy="check the path", file=path)
    name = recognise(path, options)
    if name is None:
        raise DataError("is not a data set", remedy=what_instead(path, options), file=path)
    return name


def what_instead(path: Path, options: Options | None = None) -> str:
    """Return what to do with a path that is not a data set, or not one of the format expected.

    Examples
    --------
    >>> what_instead(Path("digits.h5"))
    'load it in Python and save it: numpy.savez(path, x_train=…, y_train=…, x_test=…, y_test=…)'
    """
    other = recognise(path, options) if path.exists() else None
    if other is not None:
        return f"set data.name to {other}, or name it with --data"
    if path.is_dir():
        return "name a directory with IDX files or with pictures by class, a .npz or .csv file"
    if path.suffix.lower() in ARCHIVES:
        return "unpack it, and name the directory"
    if path.suffix.lower() in folder.EXTENSIONS:
        return "name the directory that contains one directory of pictures per class"
    return f"load it in Python and save it: {npz.SAVEZ}"


def _fits(name: str, path: Path) -> bool:
    """Return whether a path has the kind that a format needs, file or directory."""
    if name in ("folder", "labelled", "parquet", "mat"):
        return path.is_dir() or (name != "folder" and SUFFIXES.get(path.suffix.lower()) is not None)
    return not path.is_dir() or (name == "csv" and bool(table.tables(path)))


def _idx_directory(options: Options) -> Path | None:
    if options.path is None:
        return None
    path = Path(options.path)
    if not options.dir and not any(getattr(options, role) for role in idx.ROLES):
        _check_there(path)
    if path.is_file():
        raise DataError(
            "is a file; IDX files are in a directory", remedy=what_instead(path), file=path
        )
    return path


def _find_path(options: Options) -> Path:
    """Return the path of the data, which may have moved to the directory that is searched first."""
    path = None if options.path is None else Path(options.path)
    if options.dir is not None:
        directory = Path(options.dir)
        if path is not None and os.access(directory / path.name, os.F_OK):
            return directory / path.name
        if path is None and directory.is_dir() and recognise(directory, options) == options.name:
            return directory
    if path is None:
        what = "directory" if options.name == "folder" else "file"
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

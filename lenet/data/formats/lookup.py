"""Finding data files under common names and in common directory layouts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

PACKED = (".gz", "")
SUBFOLDERS = ("raw", "archive", "gzip", "data")  # where archives and libraries store files


def normalised(name: str) -> str:
    """Return a file name without the parts that differ between copies of the same file.

    Examples
    --------
    >>> normalised("Train-Images.idx3-ubyte (1).GZ")
    'train-images-idx3-ubyte'
    """
    stem = re.sub(r"(\.gz)+$", "", name.strip().lower())
    stem = re.sub(r"\s*\(\d+\)(?=$|\.)", "", stem)
    stem = re.sub(r"(\.gz)+$", "", stem)
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")


def squashed(name: str) -> str:
    """Return the letters and digits of a name, in lower case."""
    return re.sub(r"[^a-z0-9]+", "", name.lower())


def find_published(name: str, folder_name: str, places: Iterable[Path]) -> Path | None:
    """Return the first file in ``places`` with the name ``name`` or a similar one.

    A file may be compressed or not, and be in the place itself, in its folder ``folder_name``, in
    torchvision's ``FOLDER_NAME/raw``, or in a folder with the file's own name. Dots, dashes,
    capitals and the number of a repeated download are ignored; an exact match comes first.
    """
    for place in places:
        for folder in (place / folder_name, place):
            for suffix in PACKED:
                path = folder / f"{name}{suffix}"
                if os.access(path, os.F_OK) and not is_directory(path):
                    return path
        for folder in folders(place, folder_name):
            if (found := find_near(folder, name)) is not None:
                return found
    return None


def folders(place: Path, folder_name: str) -> Iterator[Path]:
    """Yield the folders of a place where the files of a data set may be."""
    own = [
        p for p in listed(place) if squashed(p.name) == squashed(folder_name) and is_directory(p)
    ]
    for folder in (*own, place):
        yield folder
        yield from (p for p in listed(folder) if p.name.lower() in SUBFOLDERS and is_directory(p))


def find_near(folder: Path, name: str) -> Path | None:
    """Return a file in ``folder`` with a similar name, or one in a folder with a similar name."""
    wanted = normalised(name)
    for path in listed(folder):
        if normalised(path.name) == wanted:
            if not is_directory(path):
                return path
            inside = [
                p for p in listed(path) if normalised(p.name) == wanted and not is_directory(p)
            ]
            if inside:
                return inside[0]
    return None


def similar(names: Iterable[str], places: Iterable[Path], folder_name: str) -> list[Path]:
    """Return files in ``places`` with names similar to ``names``, for an error message."""
    wanted = [normalised(name) for name in names]
    found: dict[Path, None] = {}
    for place in places:
        for folder in folders(place, folder_name):
            there = (p for p in listed(folder) if p.suffix != ".part" and not is_directory(p))
            files = {normalised(p.name): p for p in there}
            for name in wanted:
                found |= dict.fromkeys(files[near] for near in get_close_matches(name, files, 1))
    return list(found)


def listed(folder: Path) -> list[Path]:
    """Return the sorted contents of a folder; nothing if it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def is_directory(path: Path) -> bool:
    """Return whether this is a directory; False if that cannot be determined."""
    try:
        return path.is_dir()
    except OSError:
        return False

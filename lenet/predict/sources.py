"""The images that ``lenet predict`` is given: files, those of directories, names in a stream."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import IO

from lenet.data.formats.folder import EXTENSIONS
from lenet.data.formats.table import column
from lenet.errors import ImageError, LenetError

ENDINGS = EXTENSIONS | {".npy"}
BLOCK = 1 << 16  # bytes of standard input that are read at once


def image_files(path: Path) -> Iterator[Path]:
    """Yield the image files below a directory in the order of their names; a file is itself.

    Examples
    --------
    >>> list(map(str, image_files(Path("photo.jpg"))))
    ['photo.jpg']
    """
    if not path.is_dir():
        yield path
        return
    found = False
    for folder, below, files in os.walk(path):
        below.sort()
        for name in sorted(files):
            if name[0] != "." and Path(name).suffix.lower() in ENDINGS:
                found = True
                yield Path(folder, name)
    if not found:
        raise ImageError(
            "is a directory without image files",
            remedy=f"name the files; images end with {', '.join(sorted(ENDINGS))}",
            file=path,
        )


def names_in(
    stream: IO[bytes], failed: Callable[[LenetError], None], separator: bytes = b"\n"
) -> Iterator[Path]:
    """Yield the file names in a stream, in any encoding; ``failed`` takes those that are none."""
    rest = b""
    while block := stream.read1(BLOCK) if hasattr(stream, "read1") else stream.read(BLOCK):
        *names, rest = (rest + block).split(separator)
        yield from _usable(names, failed, separator)
    yield from _usable([rest], failed, separator)


def _usable(
    names: list[bytes], failed: Callable[[LenetError], None], separator: bytes
) -> Iterator[Path]:
    for name in names:
        name = name.rstrip(b"\r") if separator == b"\n" else name
        if b"\0" in name:
            failed(
                ImageError(
                    "names on standard input are separated by NUL",
                    remedy="add -0, or separate them by line ends",
                )
            )
        elif name:
            yield Path(os.fsdecode(name))


def identifiers(path: Path, columns: Sequence[str]) -> Iterator[str]:
    """Yield what identifies the images of a file in a submission, without end.

    The cells of the first of some columns that a table has; without one, and for stacks, numbers
    from 1; a picture's file name.
    """
    found = next(filter(None, (column(path, name) for name in columns)), None)
    if found is not None:
        yield from found
    if path.suffix.lower() in EXTENSIONS:
        yield path.name
    yield from map(str, count(1))

"""The image files of a directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lenet.data.formats.folder import EXTENSIONS
from lenet.errors import ImageError

ENDINGS = EXTENSIONS | {".npy"}


def image_files(path: Path) -> Iterator[Path]:
    """Yield the image files below a directory in the order of their names; a file is itself.

    Raises
    ------
    ImageError
        The directory contains no image files.

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

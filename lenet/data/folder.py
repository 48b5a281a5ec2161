"""Pictures in one directory per class, whose names are the class names.

    root/train/cat/1.png   root/test/cat/9.png      two splits, or
    root/cat/1.png                                  one set, which is divided

Pictures are decoded once, into the cache, and mapped from there: the second time they are as fast
to read as an IDX file, and take no more memory.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lenet.data.cache import Blocks, cached
from lenet.data.imagefile import read_images
from lenet.data.labels import first_names
from lenet.data.pixels import as_uint8, fitted
from lenet.data.reader import Stored
from lenet.errors import DataError
from lenet.system.text import supports_progress_bar

EXTENSIONS = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".ppm", ".pgm", ".pbm")
)
TRAIN = ("train", "training", "train_set", "training_set")
TEST = ("test", "testing", "test_set", "val", "valid", "validation")
VERSION = b"1"  # of what is in the cache
BLOCK = 256  # pictures decoded at once

Size = tuple[int, int]


def read_folder(path: Path, split: str, size: Size | None = None) -> Stored:
    """Read the pictures of one split.

    Parameters
    ----------
    path
        The directory.
    split
        ``train`` or ``test``.
    size
        Height and width that every picture is scaled to; its aspect ratio is kept and the rest is
        background. By default all pictures must have the same size.

    Returns
    -------
    uint8 (N,H,W) if all training pictures are grey, otherwise (N,3,H,W).

    Raises
    ------
    DataError
        There are no such directories or no pictures in them, the pictures differ in size, or a test
        class has no training pictures.
    ImageError
        A picture is damaged.
    SystemFailure
        Pillow is not installed.
    """
    train, test = split_directories(path)
    names = class_directories(train or path)
    if not names:
        raise DataError(
            "contains no directories with pictures",
            remedy="make a directory for every class, named as the class, with its pictures",
            file=path,
        )
    training = pictures(train or path, names)
    images = _decoded(train or path, training, size, None)
    whole = train is None or test is None
    if split == "test" and test is not None and train is not None:
        training = pictures(test, names)
        channels = 3 if images.ndim == 4 else 1
        images = _decoded(test, training, size or (images.shape[-2], images.shape[-1]), channels)
        path = test
    labels = np.array([label for _, label in training], np.uint16)
    return Stored(images, labels, path, path, class_names=tuple(names), whole=whole)


def split_directories(path: Path) -> tuple[Path | None, Path | None]:
    """Return the directories of the training and of the test pictures, if they are separate."""
    found = {p.name.lower().replace("-", "_"): p for p in _directories(path)}
    train = next((found[name] for name in TRAIN if name in found), None)
    test = next((found[name] for name in TEST if name in found), None)
    return (train, test) if train is not None else (None, None)


def class_directories(path: Path) -> list[str]:
    """Return the names of the directories with pictures: in numerical or alphabetical order."""
    names = [p.name for p in _directories(path) if next(_files(p), None) is not None]
    if all(name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def pictures(path: Path, names: list[str]) -> list[tuple[Path, int]]:
    """Return every picture below ``path`` with the index of its class, in order of class and name.

    Raises
    ------
    DataError
        There is a class that is not among ``names``, or no picture.
    """
    found = class_directories(path)
    unknown = [name for name in found if name not in names]
    if unknown:
        raise DataError(
            f"class {unknown[0]} has no training pictures",
            remedy=f"the classes are {first_names(names)}",
            file=path,
        )
    if not found:
        raise DataError(
            "contains no directories with pictures",
            remedy=f"it needs directories named {first_names(names)}",
            file=path,
        )
    return [(file, names.index(name)) for name in found for file in _files(path / name)]


def _directories(path: Path) -> list[Path]:
    try:
        entries = sorted(path.iterdir())
    except FileNotFoundError:
        raise DataError("there is no such directory", remedy="check the path", file=path) from None
    return [entry for entry in entries if entry.name[0] not in "._" and entry.is_dir()]


def _files(path: Path) -> Iterator[Path]:
    """Yield the pictures below a directory, in order of name."""
    for folder, below, files in os.walk(path):
        below.sort()
        for name in sorted(files):
            if name[0] != "." and Path(name).suffix.lower() in EXTENSIONS:
                yield Path(folder, name)


# --- Decoding ------------------------------------------------------------------------------------


class _InColour(Exception):
    """The picture that is the argument is in colour."""


def _decoded(
    path: Path, files: list[tuple[Path, int]], size: Size | None, channels: int | None
) -> NDArray[np.uint8]:
    """Return pictures as (N,H,W), or (N,3,H,W) if one is in colour or ``channels`` is 3."""
    key = str(path.resolve()).encode() + VERSION
    for file, _ in files:
        status = file.stat()
        key += f"\0{file.relative_to(path)}\0{status.st_size}\0{status.st_mtime_ns}".encode()
    paths = [file for file, _ in files]

    def decoded(channels: int) -> NDArray[np.uint8]:
        options = json.dumps([size, channels]).encode()
        return cached("folder", options + key, lambda: _decode(paths, size, channels))

    try:
        return decoded(channels or 1)
    except _InColour as error:
        if channels is None:
            return decoded(3)
        raise DataError(
            "is in colour, the training pictures are grey",
            remedy="convert it to grey",
            file=error.args[0],
        ) from None


def _decode(files: list[Path], size: Size | None, channels: int) -> Blocks:
    """Return the shape of the array of all pictures, and the pictures in blocks."""
    H, W = size or _read(files[0]).shape[:2]
    shape = (len(files), H, W) if channels == 1 else (len(files), 3, H, W)
    return shape, _blocks(files, shape, scaled=size is not None)


def _blocks(
    files: list[Path], shape: tuple[int, ...], *, scaled: bool
) -> Iterator[NDArray[np.uint8]]:
    from tqdm import tqdm

    H, W = shape[-2:]
    shown = supports_progress_bar(sys.stderr)
    with tqdm(total=len(files), desc="reading pictures", leave=False, disable=not shown) as bar:
        for start in range(0, len(files), BLOCK):
            some = files[start : start + BLOCK]
            block = np.empty((len(some), *shape[1:]), np.uint8)
            for k, file in enumerate(some):
                picture = _read(file, (H, W) if scaled else None)
                if picture.shape[:2] != (H, W):
                    h, w = picture.shape[:2]
                    raise DataError(
                        f"is of {h}×{w} pixels, others of {H}×{W}",
                        remedy=f"scale all to one size: set data.size to [{H}, {W}], say",
                        file=file,
                    )
                if len(shape) == 4:
                    block[k] = picture.transpose(2, 0, 1)
                elif (picture == picture[..., :1]).all():
                    block[k] = picture[..., 0]
                else:
                    raise _InColour(file)
            yield block
            bar.update(len(some))


def _read(file: Path, size: Size | None = None) -> NDArray[np.uint8]:
    """Return a picture as uint8 (H,W,3), scaled to fit ``size`` if given."""
    _, pixels = next(iter(read_images(file)))
    if size is None or pixels.shape[:2] == size:
        return as_uint8(pixels)
    return on_border(fitted(pixels, *size).transpose(1, 2, 0), *size)


def on_border(picture: NDArray[np.uint8], H: int, W: int) -> NDArray[np.uint8]:
    """Centre a picture (h,w,3) in H×W, which is filled with the median colour of its border.

    Examples
    --------
    >>> float(on_border(np.full((4, 8, 3), 9, np.uint8), 8, 8).mean())
    9.0
    """
    h, w = picture.shape[:2]
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    out = np.empty((H, W, 3), np.uint8)
    out[:] = np.median(border, axis=0).astype(np.uint8)
    top, left = (H - h) // 2, (W - w) // 2
    out[top : top + h, left : left + w] = picture
    return out

"""Data sets by name or path: found, downloaded if necessary, verified, and read as one split.

A published file is looked for in the directory that the user names, then in the cache, then on the
mirrors. Only the requested split is read. It is compared with its published checksum every time
that it is read: MNIST by the SHA-256 of its uncompressed content, so that any recompression passes,
the others by the MD5 of the archive. A wrong file in the user's directory is an error; a wrong file
in the cache is downloaded again.

    load_dataset(name, split)  ->  Split(images, labels, class_names)
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.data.cache import cache_directory
from lenet.data.catalogue import CATALOGUE, FORMATS, find_source
from lenet.data.labels import Labels, as_labels, check_labels, numbers
from lenet.data.levels import BYTES, Levels, as_bytes, channels_first, measured
from lenet.data.mapped import blocks
from lenet.data.own import Paths, read_own, recognise, what_instead
from lenet.data.published import read_published
from lenet.data.reader import Stored
from lenet.data.strokes import SIZE, load_strokes
from lenet.errors import ConfigError, DataError

TEST_FRACTION = 0.2
"""Share of each class that is the test set, if the data are one set."""


@dataclass(frozen=True)
class Split:
    """The training or the test set.

    Attributes
    ----------
    images
        uint8 (N,H,W), or (N,C,H,W) if they have several channels, 0 to 255; C-contiguous.
    labels
        uint8 or uint16 (N,), indices into ``class_names``.
    class_names
        One name a class.
    levels
        The two values in the file that became 0 and 255.
    """

    images: NDArray[np.uint8]
    labels: Labels
    class_names: tuple[str, ...]
    levels: Levels = BYTES


def load_dataset(
    name: str,
    split: str,
    *,
    directory: str | os.PathLike[str] | None = None,
    download: bool = True,
    files: Paths | None = None,
    path: str | os.PathLike[str] | None = None,
    classes: int | None = None,
    class_names: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    transpose: bool = False,
    invert: bool = False,
    test_fraction: float = TEST_FRACTION,
    warn: Callable[[str], None] = warnings.warn,
) -> Split:
    """Return one split of a data set; nothing of the other is read or downloaded.

    Parameters
    ----------
    name
        A name in the catalogue.
    split
        ``"train"`` or ``"test"``.
    directory
        Searched first; the files are in it or in its subdirectory ``name``. By default, the
        environment variable ``LENET_DATA_DIR``.
    download
        Whether missing files may be downloaded to the cache.
    files
        For ``idx``: the paths by role, ``train_images``, ``train_labels``, ``test_images``,
        ``test_labels``; those of the other split may be missing.
    path
        For ``folder``, ``npz``, ``csv``: the file or directory. For ``idx``: a directory with
        files named as images and labels.
    classes
        The number of classes; by default that of the data set or, for your own data, of the labels.
    class_names
        Names of the classes of your own data; by default those in the data, or their numbers.
    size
        For ``folder``: height and width that every picture is scaled to.
    transpose, invert
        Exchange rows and columns; exchange dark and light.
    test_fraction
        If your own data are one set for both splits: the share of each class that is the test set.
    warn
        Called with each warning, a line of text.

    Raises
    ------
    ConfigError
        No such data set, or a path is not given.
    DataError
        A file is missing, damaged or the wrong one, or images and labels do not match.
    SystemFailure
        A file can be neither found nor downloaded.
    """
    source = find_source(name)
    if name == "arrays":
        raise ConfigError(
            "is arrays: the network was trained on images given in Python, which are not stored",
            remedy="name a data set, or evaluate the images with lenet.Model",
            key="data.name",
        )
    directory = named_directory(directory)

    def read(which: str) -> Stored:
        if name == "strokes":
            images, labels = load_strokes(which, cache_dir=cache_directory())
            return Stored(images, labels, Path(name), Path(name))
        if name in FORMATS:
            place = None if path is None else Path(path)
            return read_own(name, which, path=place, files=files, directory=directory, size=size)
        return read_published(name, which, directory, download=download, warn=warn)

    stored = read(split)
    levels = _levels(stored, split, read)
    images = channels_first(stored.images, stored.images_file, stored.images_key)
    labels = as_labels(stored.labels, stored.labels_file, stored.labels_key)
    names = tuple(class_names or stored.class_names or source.class_names)
    known = len(names) or classes
    set_by = None
    if class_names or not names:
        set_by = "data.class_names" if class_names else "model.classes"
    check_labels(labels, stored.labels_file, len(images), known, stored.labels_key, set_by=set_by)
    if stored.whole:
        chosen = held_for_testing(labels, test_fraction) == (split == "test")
        if not chosen.any():
            raise DataError(
                f"has no test set, and a share of {test_fraction:g} contains no image",
                remedy="add images, or raise data.test_fraction",
                file=stored.images_file,
            )
        images, labels = images[chosen], labels[chosen]
    if transpose:
        images = np.swapaxes(images, -1, -2)
    pixels = as_bytes(images, levels)
    return Split(
        np.subtract(255, pixels) if invert else pixels,
        labels,
        names or numbers(classes or int(labels.max()) + 1),
        levels,
    )


def with_drawn(found: Split, count: int) -> Split:
    """Return training images of digits, followed by ``count`` built-in ones.

    Raises
    ------
    ConfigError
        The classes are not the digits, or the images are not 28×28.

    Examples
    --------
    >>> blank = Split(np.zeros((3, 28, 28), np.uint8), np.arange(3, dtype=np.uint8), numbers(10))
    >>> with_drawn(blank, 20).labels.size
    23
    """
    if found.class_names != numbers(10) or found.images.shape[1:] != (SIZE, SIZE):
        shape, classes = "×".join(map(str, found.images.shape[1:])), len(found.class_names)
        raise ConfigError(
            f"adds digits of 28×28, but the images are {shape}, of {classes} classes",
            remedy="set it to 0",
            key="data.drawn",
        )
    drawn, labels = load_strokes("train", cache_dir=cache_directory())
    return replace(
        found,
        images=np.concatenate([found.images, drawn[:count]]),
        labels=np.concatenate([found.labels, labels[:count].astype(found.labels.dtype)]),
    )


def load_path(
    path: str | os.PathLike[str],
    split: str,
    **options: Any,  # noqa: ANN401 - those of load_dataset
) -> Split:
    """Return one split of the data at a path, whose format is recognised.

    Parameters
    ----------
    path
        A directory with IDX files, a directory with pictures by class, a .npz or a .csv file.
    split
        ``"train"`` or ``"test"``.
    options
        Of ``load_dataset``.

    Raises
    ------
    DataError
        The path does not exist, or its format is not recognised.
    """
    return load_dataset(format_of(Path(path)), split, path=path, **options)


def resolve(target: str) -> tuple[str, Path | None]:
    """Return the name of a data set and None, or the format of a path and the path.

    Raises
    ------
    ConfigError
        It is neither a name in the catalogue nor a path.
    DataError
        The format of the path is not recognised.

    Examples
    --------
    >>> resolve("mnist")
    ('mnist', None)
    """
    named_as_path = os.sep in target or bool(Path(target).suffix)
    if target not in CATALOGUE and (named_as_path or os.access(target, os.F_OK)):
        return format_of(Path(target)), Path(target)
    find_source(target)
    return target, None


def format_of(path: Path) -> str:
    """Return the name in the catalogue of the format of the data at ``path``.

    Raises
    ------
    DataError
        The path does not exist, or its format is not recognised.
    """
    name = recognise(path)
    if name is None:
        there = os.access(path, os.F_OK)
        raise DataError(
            "is not a data set" if there else "there is no such file or directory",
            remedy=what_instead(path) if there else "check the path",
            file=path,
        )
    return name


def fingerprint(split: Split) -> str:
    """Return a digest of images, labels and class names, independent of where they are stored.

    Examples
    --------
    >>> split = Split(np.zeros((2, 3, 3), np.uint8), np.array([0, 1], np.uint8), ("a", "b"))
    >>> fingerprint(split)
    'c36dbe86b6d99085'
    """
    digest = hashlib.blake2b(digest_size=8)
    digest.update(repr((split.images.shape, split.class_names)).encode())
    digest.update(split.labels.astype("<u2").data)
    for block in blocks(split.images):
        digest.update(block.data)
    return digest.hexdigest()


def named_directory(directory: str | os.PathLike[str] | None) -> Path | None:
    """Return the given directory, that of ``LENET_DATA_DIR``, or None."""
    named = directory or os.environ.get("LENET_DATA_DIR")
    return Path(named) if named else None


def held_for_testing(labels: Labels, fraction: float) -> NDArray[np.bool_]:
    """Return a mask of the test images: the same share of each class, always the same images.

    Examples
    --------
    >>> labels = np.repeat([0, 1], [10, 20])
    >>> np.bincount(labels[held_for_testing(labels, 0.2)])
    array([2, 4])
    """
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = round(fraction * len(members))
        order = np.random.default_rng([0, int(label)]).permutation(members)
        chosen[order[:count]] = True
    return chosen


def _levels(stored: Stored, split: str, read: Callable[[str], Stored]) -> Levels:
    """Return the values that stand for 0 and 255, measured on the training images."""
    if stored.images.dtype == np.uint8:
        return BYTES
    if split == "test" and not stored.whole:
        with suppress(ConfigError, DataError):  # then the test images alone
            stored = read("train")
    return measured(stored.images, stored.images_file, stored.images_key)

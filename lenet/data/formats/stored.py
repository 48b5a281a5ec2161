"""What a reader of a format returns: the parts of a data set, and the arrays of one part.

A reader is a function ``parts(path, options, note)`` of one module in this folder. It lists the
parts that it finds, ``train``, ``validation``, ``test`` or :data:`WHOLE`, each with a function that
reads it. It decides nothing else: see :mod:`lenet.data.dataset`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

MAX_AXES = 64  # NumPy has no arrays of more
# The best that deflate can do is 258 bytes for two bits (RFC 1951, section 3.2.5).
MAX_INFLATION = 1032

WHOLE = "whole"
"""The name of the part of a data set that is not divided."""

Note: TypeAlias = Callable[[str], None]
"""Takes a line about what was left out, and why."""


@dataclass(frozen=True)
class Options:
    """How a data set is found, read and divided: the keys of ``data`` in a configuration.

    ``classes`` is the number of classes that the network states, ``within`` the height and the
    width of its input, ``channels`` those of the pictures that it was trained on; ``download`` is
    whether missing files may be downloaded; ``own`` is False for data that the network was not
    trained on, which are not divided.
    """

    name: str = "strokes"
    path: str | None = None
    dir: str | None = None
    train_images: str | None = None
    train_labels: str | None = None
    test_images: str | None = None
    test_labels: str | None = None
    validation_path: str | None = None
    label_column: str | int | None = None
    label_pattern: str | None = None
    labels: str | None = None
    damaged: str = "refuse"
    size: tuple[int, int] | str | None = "auto"
    transpose: bool = False
    invert: bool = False
    test_fraction: float = 0.2
    class_names: tuple[str, ...] | None = None
    validation: int | None = None
    validation_seed: int = 0
    drawn: int = 0
    limit: int | None = None
    classes: int | None = None
    within: tuple[int, int] = (32, 32)
    channels: int | None = None
    download: bool = True
    own: bool = True

    @property
    def title(self) -> str:
        """The path of the user's own data, or the name of the data set."""
        return self.path or self.name


@dataclass(frozen=True)
class Origin:
    """Where an image came from: a file, or a row of a file.

    Of a table the rows are its lines, counted from 1; of an array they are counted from 0.
    """

    file: str
    row: int | None = None

    def __str__(self) -> str:
        if not self.file:
            return f"number {self.row}"
        return self.file if self.row is None else f"{self.file}[{self.row}]"


@dataclass(frozen=True, eq=False)
class Origins:
    """Where the images of a part came from: for each the index of a file, and the row in it.

    Examples
    --------
    >>> print(Origins.rows_of("x.npz", 3)[2])
    x.npz[2]
    """

    files: Sequence[str] = ()
    file: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    row: NDArray[np.int64] | None = None

    @classmethod
    def files_of(cls, files: Sequence[str]) -> Origins:
        """Return the origins of pictures that are one file each."""
        return cls(files, np.arange(len(files)))

    @classmethod
    def rows_of(cls, file: object, rows: int | NDArray[np.int64]) -> Origins:
        """Return the origins of images that are rows of one file: their number, or the rows."""
        numbers = np.arange(rows) if isinstance(rows, int) else rows
        return cls((str(file),), np.zeros(len(numbers), np.intp), numbers)

    def __len__(self) -> int:
        return len(self.file)

    def __getitem__(self, k: int) -> Origin:
        row = None if self.row is None or self.row[k] < 0 else int(self.row[k])
        return Origin(self.files[int(self.file[k])], row)

    def take(self, rows: NDArray[Any]) -> Origins:
        """Return the origins of some images."""
        return Origins(self.files, self.file[rows], None if self.row is None else self.row[rows])

    def __add__(self, other: Origins) -> Origins:
        rows = [np.full(len(part), -1) if part.row is None else part.row for part in (self, other)]
        return Origins(
            (*self.files, *other.files),
            np.concatenate([self.file, other.file + len(self.files)]),
            np.concatenate(rows),
        )


@dataclass(frozen=True, eq=False)
class Stored:
    """The images and labels of a part as they are stored, of any type and layout.

    Attributes
    ----------
    images
        An array of numbers, in a layout of :func:`lenet.data.levels.channels_first`.
    labels
        Numbers in a form of :func:`lenet.data.labels.as_labels`, or one word per image, or None.
    file, labels_file
        The files that contain them.
    key, labels_key
        Their names in the file, if it has several arrays.
    origins
        Of each image; by default its row in ``file``.
    class_names
        The names of the classes that the numbers stand for, if the data contain them.
    identity
        A digest of each image by itself, uint64; by default of its stored numbers.
    """

    images: NDArray[Any]
    labels: NDArray[Any] | list[str] | None
    file: Path
    labels_file: Path | None = None
    key: str | None = None
    labels_key: str | None = None
    origins: Origins | None = None
    class_names: tuple[str, ...] = ()
    identity: NDArray[np.uint64] | None = None


Parts: TypeAlias = Mapping[str, Callable[[], Stored]]
"""The parts of a data set by name, each with the function that reads it."""

"""CSV tables with the label and the pixels of one image per row, as Kaggle publishes MNIST.

A header is optional. The label is the column called label (or class, target, y), or the first one;
all other columns are the pixels of a square image, grey or, three times as many, red, green, blue.
"""

from __future__ import annotations

import csv
import math
import warnings
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lenet.data.cache import Blocks, cached
from lenet.data.labels import first_names
from lenet.data.reader import Stored
from lenet.errors import DataError
from lenet.system.files import reading

LABEL_NAMES = ("label", "labels", "class", "target", "y", "digit")
DELIMITERS = ",;\t"
ROWS = 4096  # parsed at once
VERSION = 1  # of what is in the cache


def read_table(path: Path, split: str) -> Stored:
    r"""Read one split from a CSV file, or from a directory with two of them.

    Parameters
    ----------
    path
        A file with both splits, or a directory with a file for each: their names contain
        ``train`` and ``test``.
    split
        ``train`` or ``test``.

    Raises
    ------
    DataError
        The file is missing, has no labels, its rows differ in length, or a cell is not a number.
    SystemFailure
        It cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "digits.csv")
    ...     _ = path.write_text("label,p1,p2,p3,p4\n7,0,10,20,30\n1,5,5,5,5\n")
    ...     found = read_table(path, "train")
    >>> found.images.shape, found.labels
    ((2, 4), array([7., 1.]))
    """
    train, test = _files(path)
    whole = test is None or _label_column(test) is None
    file = train if whole or test is None or split == "train" else test
    images, words = _parse(file)
    if all(map(_is_number, set(words))):
        return Stored(images, np.array(words, np.float64), file, file, whole=whole)
    names = tuple(sorted(set(words if file == train else _parse(train)[1])))
    unknown = sorted(set(words) - set(names))
    if unknown:
        raise DataError(
            f"class {unknown[0]} has no training images",
            remedy=f"the classes are {first_names(names)}",
            file=file,
        )
    index = {name: k for k, name in enumerate(names)}
    labels = np.array([index[word] for word in words], np.uint16)
    return Stored(images, labels, file, file, class_names=names, whole=whole)


def _files(path: Path) -> tuple[Path, Path | None]:
    """Return the file of the training rows, and that of the test rows if there is one."""
    if not path.is_dir():
        return path, None
    tables = sorted(p for p in path.iterdir() if p.suffix.lower() in {".csv", ".tsv"})
    train = [p for p in tables if "train" in p.name.lower()]
    test = [p for p in tables if "test" in p.name.lower()]
    if len(tables) == 1:
        return tables[0], None
    if len(train) != 1 or len(test) > 1:
        raise DataError(
            f"contains {len(tables)} CSV files, {len(train)} of them named train",
            remedy="name one file, or have one with train in its name and one with test",
            file=path,
        )
    return train[0], test[0] if test else None


def _first_row(path: Path) -> tuple[list[str], str]:
    """Return the cells of the first row, and the delimiter."""
    try:
        with reading(path, DataError), path.open(encoding="utf-8-sig", newline="") as file:
            line = file.readline(1 << 22)
    except UnicodeDecodeError:
        remedy = "name a file of comma-separated numbers"
        raise DataError("is not a text file", remedy=remedy, file=path) from None
    if not line.strip():
        raise DataError("is empty", remedy="name a file with rows of numbers", file=path)
    delimiter = max(DELIMITERS, key=line.count)
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])], delimiter


def _label_column(path: Path) -> int | None:
    """Return the index of the column of labels, None if all columns are pixels."""
    cells, _ = _first_row(path)
    lower = [cell.lower() for cell in cells]
    for name in LABEL_NAMES:
        if name in lower:
            return lower.index(name)
    return None if _is_image(len(cells)) else 0


def _is_image(pixels: int) -> bool:
    return any(pixels == C * math.isqrt(pixels // C) ** 2 for C in (1, 3)) and pixels > 1


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _parse(path: Path) -> tuple[NDArray[Any], list[str]]:
    """Return the pixels of every row, and its label as a string.

    Pixels that are bytes are cached: the second time they are as fast to read as an IDX file.
    """
    with reading(path, DataError):
        status = path.stat()
    key = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\0{VERSION}".encode()
    fresh: list[tuple[NDArray[Any], list[str]]] = []

    def parsed() -> tuple[NDArray[Any], list[str]]:
        if not fresh:
            fresh.append(_parse_anew(path))
            if fresh[0][0].dtype != np.uint8:
                raise _NoBytes
        return fresh[0]

    def words() -> Blocks:
        text = np.frombuffer("\n".join(parsed()[1]).encode(), np.uint8)
        return text.shape, [text]

    try:
        labels = cached("table-labels", key, words).tobytes().decode().split("\n")
        images = cached("table", key, lambda: (parsed()[0].shape, [parsed()[0]]))
    except _NoBytes:
        return fresh[0]
    return images, labels


class _NoBytes(Exception):
    """The pixels are not integers from 0 to 255."""


def _parse_anew(path: Path) -> tuple[NDArray[Any], list[str]]:
    column = _label_column(path)
    if column is None:
        raise DataError(
            "has no column of labels: there are only pixels",
            remedy="name a file with a column called label",
            file=path,
        )
    cells, delimiter = _first_row(path)
    if not _is_image(len(cells) - 1):
        raise DataError(
            f"has {len(cells)} columns, which are not a label and the pixels of a square image",
            remedy="give these in every row; pictures in files belong into one directory per class",
            file=path,
        )
    words: list[str] = []
    blocks: list[NDArray[Any]] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        if sum(map(_is_number, cells)) < len(cells) - 1:
            file.readline()
        while len(rows := _rows(file, path, column, delimiter, words)):
            bytes_ = rows.astype(np.uint8)
            blocks.append(bytes_ if (bytes_ == rows).all() else rows)
    if not blocks:
        raise DataError("contains no rows", remedy="name a file with some", file=path)
    images = np.concatenate(blocks)
    if math.isqrt(images.shape[1]) ** 2 != images.shape[1]:
        side = math.isqrt(images.shape[1] // 3)
        images = images.reshape(len(images), 3, side, side)
    return images, words


@np.errstate(invalid="ignore")  # values that are not bytes wrap, and are then compared
def _rows(
    file: IO[str], path: Path, column: int, delimiter: str, words: list[str]
) -> NDArray[np.float32]:
    """Return the pixels of the next rows; append their labels to ``words``."""
    before = len(words)

    def keep(cell: str) -> float:
        words.append(cell.strip())
        return 0.0

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # when no rows are left
            table = np.loadtxt(
                file,
                np.float32,
                delimiter=delimiter,
                converters={column: keep},
                max_rows=ROWS,
                ndmin=2,
                comments=None,
                quotechar='"',
            )
    except ValueError as error:
        after = f" after {before:,} rows" if before else ""
        problem = f"is not a table of numbers{after} ({str(error).partition(';')[0]})"
        raise DataError(problem, remedy="correct or remove that row", file=path) from None
    return np.delete(table, column, axis=1) if table.size else np.empty((0, 0), np.float32)

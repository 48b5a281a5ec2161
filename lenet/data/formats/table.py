"""CSV tables with the pixels of one image per row and its label, as Kaggle publishes MNIST.

A header is optional, and may consist of numbers. The column of labels is the one that is named so,
or ``data.label_column``; without names it is the first or the last one, whichever has fewer values.
The other columns are the pixels of a square image, grey or, three times as many, red, green, blue.
"""

from __future__ import annotations

import csv
import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.data.cache import Blocks, Restart, cached_with_facts
from lenet.data.decode import file_state
from lenet.data.formats.lookup import listed
from lenet.data.formats.stored import WHOLE, Note, Options, Origins, Parts, Stored
from lenet.data.labels import first_names
from lenet.data.splits import part_of
from lenet.errors import ConfigError, DataError
from lenet.system.files import open_regular, reading

SUFFIXES = {".csv", ".tsv"}
LABEL_NAMES = (
    "label",
    "labels",
    "class",
    "target",
    "y",
    "digit",
    "classid",
    "class_id",
    "category",
)
INDEX = re.compile(r"|unnamed: ?\d+|index|id|row|image_?id|no|number")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
DELIMITERS = ",;\t"
MIN_NUMBERING = 9  # columns; fewer numbers in a row may be pixels
SAMPLE = 200  # rows that show what the columns are
ROWS = 4096  # parsed at once
MAX_LINE = 1 << 24
VERSION = 3  # of what is in the cache
REMEDY = "name a file of comma-separated numbers"


def is_number(cell: str) -> bool:
    """Return whether a cell is a number; ``1_0`` and ``nan`` are words."""
    return NUMBER.fullmatch(cell) is not None


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file that are not blank, with their numbers from 1."""
    number = 0
    with reading(path, DataError), open_regular(path, DataError) as file:
        while line := file.readline(MAX_LINE):
            number += 1
            if len(line) == MAX_LINE:
                problem = f"is longer than {MAX_LINE:,} bytes"
                raise DataError(problem, remedy=REMEDY, file=path, key=f"row {number}")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise DataError(
                    "is not text in UTF-8", remedy=REMEDY, file=path, key=f"row {number}"
                ) from None
            pieces = text.split("\r") if "\r" in text[:-2] else [text]  # of an old Macintosh
            for k, piece in enumerate(pieces):
                if piece.strip():
                    yield number + k, piece
            number += len(pieces) - 1


@dataclass(frozen=True)
class Table:
    """A table and the meaning of its columns.

    Attributes
    ----------
    path, delimiter, header
        The file; what separates its cells; the names of the columns, if the first row has names.
    columns
        The number of columns.
    sample
        The first rows.
    """

    path: Path
    delimiter: str
    header: tuple[str, ...] | None
    columns: int
    sample: tuple[tuple[str, ...], ...]

    def find(self, column: str | int) -> int:
        """Return the index of a column, given by its name or number."""
        names = [name.lower() for name in self.header or ()]
        if str(column).lower() in names:
            return names.index(str(column).lower())
        if re.fullmatch(r"-?\d+", str(column)) and -self.columns <= int(column) < self.columns:
            return int(column) % self.columns
        there = f"it has {first_names(self.header)}" if self.header else f"it has {self.columns}"
        raise ConfigError(
            f"{self.path} has no column {column}",
            remedy=f"name one, or give its number from 0: {there}",
            key="data.label_column",
        )

    def values(self, column: int) -> set[str]:
        """Return the different cells of a column in the sample."""
        return {row[column] for row in self.sample if column < len(row)}


def open_table(path: Path) -> Table:
    """Read the first rows of a table, and find out whether they begin with a header."""
    first = [line for _, line in islice(lines(path), SAMPLE)]
    if not first:
        raise DataError("is empty", remedy="name a file with rows of numbers", file=path)
    delimiter = max(DELIMITERS, key=first[0].count)
    try:
        rows = [
            tuple(cell.strip() for cell in row)
            for row in csv.reader(first, delimiter=delimiter, strict=False)
        ]
    except csv.Error as error:
        raise DataError(f"is not a table ({error})", remedy=REMEDY, file=path) from None
    header = rows[0] if _is_header(rows) else None
    return Table(path, delimiter, header, len(rows[0]), tuple(rows[header is not None :]))


def _is_header(rows: Sequence[Sequence[str]]) -> bool:
    cells = rows[0]
    words = [k for k, cell in enumerate(cells) if cell and not is_number(cell)]
    if len(words) > 1 or _numbers_columns(cells):
        return True
    others = [row[words[0]] for row in rows[1:] if words and words[0] < len(row)]
    return bool(others) and all(map(is_number, others))


def _numbers_columns(cells: Sequence[str]) -> bool:
    """Return whether cells, but for a first or last one, number the columns: 0, 1, 2, ….

    pandas numbers names that are repeated: 0, 0.1, 0.2, 17, 0.3, 17.1.
    """
    for some in (cells, cells[1:], cells[:-1]):
        if len(some) < MIN_NUMBERING or not all(
            re.fullmatch(r"\d{1,9}(\.\d{1,9})?", c) for c in some
        ):
            continue
        seen: Counter[str] = Counter()
        repeated = 0
        for cell in some:
            base, _, count = cell.partition(".")
            if count != (str(seen[base]) if seen[base] else ""):
                break
            seen[base] += 1
            repeated += bool(count)
        else:
            if repeated or [int(c) for c in some] == list(
                range(int(some[0]), int(some[0]) + len(some))
            ):
                return True
    return False


def is_image(pixels: int) -> bool:
    """Return whether a row has the pixels of a square image, grey or in colour."""
    return pixels > 1 and any(pixels == C * math.isqrt(pixels // C) ** 2 for C in (1, 3))


def meaning(table: Table, options: Options, note: Note) -> tuple[int | None, list[int]]:
    """Return the column of labels, None if there is none, and those of the pixels."""
    names = [name.lower() for name in table.header or [""] * table.columns]
    every = range(table.columns)
    empty = [k for k in every if not names[k] and table.values(k) <= {""}]
    label = None
    if options.label_column is not None:
        label = table.find(options.label_column)
    elif table.header:
        label = next((names.index(name) for name in LABEL_NAMES if name in names), None)
    rest = [k for k in every if k not in empty and k != label]
    if label is not None and is_image(len(rest)):
        return label, rest
    if table.header:
        kinds = Counter(re.sub(r"\d+", "#", names[k]) for k in rest)
        kind, count = kinds.most_common(1)[0]
        odd = [k for k in rest if re.sub(r"\d+", "#", names[k]) != kind] if count > 1 else []
        index = [k for k in odd if INDEX.fullmatch(names[k])]
        others = [k for k in odd if k not in index]
        if label is None and len(others) == 1:
            label = others.pop()
        if label is None and len(others) > 1:
            _refuse_columns(table, [table.header[k] for k in others])
        if odd:
            left = [table.header[k] or f"number {k}" for k in (*index, *others)]
            if left:
                note(f"{table.path}: neither label nor pixels, left out: {first_names(left)}")
            rest = [k for k in rest if k not in odd]
    elif not is_image(len(rest) - 1) and is_image(len(rest) - 2) and _counts(table):
        note(f"{table.path}: neither label nor pixels, left out: the first column")
        rest = rest[1:]
    if label is None and not is_image(len(rest)) and is_image(len(rest) - 1):
        label = _first_or_last(table, rest)
        rest = [k for k in rest if k != label]
    if not is_image(len(rest)):
        _refuse_columns(table, [])
    return label, rest


def _counts(table: Table) -> bool:
    """Return whether the first column numbers the rows, from 0 or 1."""
    numbers = [row[0] for row in table.sample]
    return len(numbers) > 2 and any(
        numbers == [str(k + first) for k in range(len(numbers))] for first in (0, 1)
    )


def column(path: Path, name: str) -> list[str]:
    """Return the cells of a column of a table; nothing if the file has no such column."""
    if path.suffix.lower() not in SUFFIXES:
        return []
    table = open_table(path)
    if table.header is None or name not in table.header:
        return []
    every = lines(path)
    next(every)
    place = table.header.index(name)
    rows = csv.reader((line for _, line in every), delimiter=table.delimiter)
    return [row[place].strip() for row in rows]


def _first_or_last(table: Table, columns: list[int]) -> int:
    """Return the column of labels of a table without names: the one that has fewer values."""
    first, last = (table.values(k) for k in (columns[0], columns[-1]))
    words = [not all(map(is_number, values)) for values in (first, last)]
    if words[0] != words[1]:
        return columns[0] if words[0] else columns[-1]
    is_last = 1 < len(last) < len(first) or (len(first) == 1 < len(last))
    return columns[-1] if is_last else columns[0]


def _refuse_columns(table: Table, others: list[str]) -> None:
    what = f": {first_names(others)} may be labels" if others else ""
    raise DataError(
        f"has {table.columns} columns, not a label and the pixels of a square image{what}",
        remedy="name the column of labels with data.label_column; pictures in files belong into "
        "one directory per class",
        file=table.path,
    )


def tables(path: Path) -> list[Path]:
    """Return the tables in a directory."""
    return [p for p in listed(path) if p.suffix.lower() in SUFFIXES]


def parts(path: Path, options: Options, note: Note) -> Parts:
    """Find the tables of the parts: one file, or a directory with one for each part."""
    if not path.is_dir():
        return {WHOLE: partial(_read, path, options, note)}
    found = tables(path)
    if len(found) == 1:
        return {WHOLE: partial(_read, found[0], options, note)}
    named = {
        part: [p for p in found if part_of(p.stem) == part]
        for part in ("train", "validation", "test")
    }
    if len(named["train"]) != 1 or max(map(len, named.values())) > 1:
        raise DataError(
            f"contains {len(found)} CSV files, {len(named['train'])} of them named train",
            remedy="name one file, or have one with train in its name and one with test",
            file=path,
        )
    result = {}
    for part, files in named.items():
        for file in files:
            if part != "train" and meaning(open_table(file), options, lambda _: None)[0] is None:
                note(f"{file}: left out: it has no column of labels")
            else:
                result[part] = partial(_read, file, options, note)
    return result


def read_table(path: Path, options: Options, note: Note, *, labelled: bool = True) -> Stored:
    """Read the images of a table, and the labels if it has any."""
    table = open_table(path)
    label, pixels = meaning(table, options, note)
    if label is None and labelled:
        raise DataError(
            "has no column of labels: there are only pixels",
            remedy="name a file with a column called label, or set data.label_column",
            file=path,
        )
    form = {"dtype": np.dtype(np.uint8)}
    key = json.dumps([VERSION, str(path.resolve()), label, pixels, table.header is None])

    def make() -> tuple[Blocks, dict[str, Any]]:
        facts: dict[str, Any] = {"words": [], "rows": []}
        return _blocks(table, label, pixels, form, facts), facts

    state = str(file_state(path)).encode()
    images, facts = cached_with_facts("table", key.encode(), make, state)
    if math.isqrt(images.shape[1]) ** 2 != images.shape[1]:
        side = math.isqrt(images.shape[1] // 3)
        images = images.reshape(len(images), 3, side, side)
    words = facts["words"]
    labels: NDArray[Any] | list[str] | None = words if label is not None else None
    if words and all(map(is_number, set(words))):
        labels = np.array(words, np.float64)
    origins = Origins.rows_of(path, np.array(facts["rows"], np.int64))
    return Stored(images, labels, path, path, origins=origins)


_read = read_table


def _blocks(
    table: Table,
    label: int | None,
    pixels: list[int],
    form: dict[str, np.dtype[Any]],
    facts: dict[str, Any],
) -> Iterator[NDArray[Any]]:
    """Yield the pixels of some rows; restart when they are not bytes, as those before were."""
    every = lines(table.path)
    if table.header is not None:
        next(every)
    while rows := _some(every):
        values, words = _parse(table, rows, label, pixels)
        if "" in words:
            raise DataError(
                "has no label",
                remedy="give it one, or remove the row",
                file=table.path,
                key=f"row {rows[words.index('')][0]}",
            )
        with np.errstate(invalid="ignore"):  # values that are not bytes wrap, and are compared
            bytes_ = values.astype(np.uint8)
        if form["dtype"] == np.uint8 and not (bytes_ == values).all():
            form["dtype"] = np.dtype(np.float32)
            raise Restart
        facts["words"] += words
        facts["rows"] += [number for number, _ in rows]
        yield bytes_ if form["dtype"] == np.uint8 else values
    if not facts["rows"]:
        raise DataError("contains no rows", remedy="name a file with some", file=table.path)


def _some(every: Iterator[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return the next lines, up to a number of rows and of characters."""
    rows: list[tuple[int, str]] = []
    size = 0
    for number, line in every:
        rows.append((number, line))
        size += len(line)
        if len(rows) == ROWS or size > MAX_LINE:
            break
    return rows


def _parse(
    table: Table, rows: list[tuple[int, str]], label: int | None, pixels: list[int]
) -> tuple[NDArray[np.float32], list[str]]:
    """Return the pixels and the labels of some rows."""
    words: list[str] = []

    def keep(cell: str) -> float:
        words.append(cell.strip())
        return 0.0

    used = pixels if label is None else [*pixels, label]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            values = np.loadtxt(
                [line for _, line in rows],
                np.float32,
                delimiter=table.delimiter,
                converters=None if label is None else {label: keep},
                usecols=used,
                ndmin=2,
                comments=None,
                quotechar='"',
            )
        for number, line in rows:
            if line.count(table.delimiter) >= table.columns and '"' not in line:
                raise _WrongRow(number, f"it has more than {table.columns} cells")
        if len(values) != len(rows):
            raise _WrongRow(rows[0][0], "a quoted cell contains a line break")
    except (ValueError, OverflowError) as error:
        at = re.search(r"at row (\d+)", str(error))
        k = int(at[1]) - ("convert" not in str(error)) if at else 0  # NumPy counts in two ways
        number = error.number if isinstance(error, _WrongRow) else rows[min(k, len(rows) - 1)][0]
        reason = re.sub(r" at row \d+", "", str(error)).partition(";")[0].rstrip(".")
        raise DataError(
            f"is not a row of numbers ({reason})",
            remedy="correct or remove that row",
            file=table.path,
            key=f"row {number}",
        ) from None
    return values[:, : len(pixels)], words


class _WrongRow(ValueError):
    """A row that cannot be read: its number, and why."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(why)
        self.number = number

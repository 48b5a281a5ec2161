"""Pictures whose labels are in a table beside them, or in their names.

The table is a CSV file with a column of file names, in the directory or named itself. Its labels
are in the column that is called so or, where that is plain, in another one; several columns of 0
and 1 are one class each. ``data.label_pattern`` is a regular expression for labels in names, such
as ``^(.*?)_`` for ``cat_012.png``.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from lenet.data.formats.folder import EXTENSIONS, find_pictures, read_pictures, summary
from lenet.data.formats.stored import WHOLE, Note, Options, Parts, Stored
from lenet.data.formats.table import LABEL_NAMES, Table, lines, open_table, tables
from lenet.data.labels import first_names
from lenet.data.splits import part_of
from lenet.errors import ConfigError, DataError

SPLIT_NAMES = ("split", "set", "subset", "partition", "usage", "dataset", "data set")
MAX_COLUMNS = 50  # of a table of file names; one of pixels has more
Labelled = list[tuple[Path, str]]


def has_labels(path: Path) -> bool:
    """Return whether a path is a table of file names, or a directory with one beside pictures."""
    return any(_column_of_names(table) is not None for table in _openable(path))


def _openable(path: Path) -> Iterator[Table]:
    """Yield the tables that can be opened; a first row with a file name is not a header."""
    for file in tables(path) if path.is_dir() else [path]:
        with suppress(DataError):
            table = open_table(file)
            if table.header and any(map(_is_name, table.header)):
                table = replace(table, header=None, sample=(table.header, *table.sample))
            yield table


def _is_name(cell: str) -> bool:
    return Path(cell).suffix.lower() in EXTENSIONS


def _column_of_names(table: Table) -> int | None:
    """Return the index of the column of file names, with or without suffixes; None without one."""
    if table.columns > MAX_COLUMNS:
        return None
    columns = [
        {row[k] for row in table.sample if k < len(row) and row[k]} for k in range(table.columns)
    ]
    for k, cells in enumerate(columns):
        if cells and all(map(_is_name, cells)):
            return k
    there = {p.stem for p in find_pictures(table.path.parent)[0]}
    known = [len({cell for cell in cells if Path(cell).name in there}) for cells in columns]
    best = int(np.argmax(known))
    return best if known[best] > max(1, len(columns[best]) / 2) else None


class _Index:
    """Finds the pictures below a directory by what a table calls them."""

    def __init__(self, root: Path) -> None:
        self.pictures, self.left_out = find_pictures(root)
        self.by_name: dict[str, list[Path]] = {}
        for path in self.pictures:
            relative = unicodedata.normalize("NFC", path.relative_to(root).as_posix())
            pieces = relative.split("/")
            for k in range(len(pieces)):
                name = "/".join(pieces[k:])
                for key in (name, name.removesuffix(path.suffix)):
                    self.by_name.setdefault(key, []).append(path)

    def find(self, name: str, part: str | None) -> Path | None:
        """Return the picture of a name, which may be a path; of several, that of the part."""
        name = unicodedata.normalize("NFC", name).replace("\\", "/").removeprefix("./")
        pieces = name.split("/")
        for k in range(len(pieces)):
            found = self.by_name.get("/".join(pieces[k:]), [])
            if len(found) > 1:
                found = [p for p in found if part and part in map(part_of, p.parts)]
            if len(found) == 1:
                return found[0]
        return None


def parts(path: Path, options: Options, note: Note) -> Parts:
    """Find the labels of pictures: in a table, or by the pattern for their names."""
    if options.label_pattern is not None:
        root = path
        found = _by_pattern(path, options.label_pattern, note)
    else:
        root = path if path.is_dir() else path.parent
        found = _by_tables(path, root, options, note)
    if not found and options.label_pattern is None:
        raise DataError(
            "contains pictures without labels",
            remedy="move them into directories, one per class, add a labels.csv with the columns "
            "filename and label, or set data.label_pattern if the names contain the labels",
            file=path,
        )
    if not found:
        raise DataError(
            f"no name of its pictures matches {options.label_pattern}",
            remedy="correct data.label_pattern, such as ^(.*?)_ for cat_012.png",
            file=path,
        )

    @cache
    def read(part: str) -> Stored:
        like = None if part in ("train", WHOLE) or "train" not in found else read("train")
        pictures, words = zip(*found[part], strict=True)
        return read_pictures(root, list(pictures), list(words), options, note, like, path)

    return {part: partial(read, part) for part in found}


def _by_pattern(root: Path, pattern: str, note: Note) -> dict[str, Labelled]:
    """Return the pictures whose names match a pattern, with the part of the name that it finds."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"is not a regular expression: {error}",
            remedy=r"give one such as ^(.*?)_ or (\d+)\.png$",
            key="data.label_pattern",
        ) from None
    if expression.groups < 1:
        raise ConfigError(
            f"has no group: {pattern}",
            remedy="put the label into parentheses, such as ^(.*?)_",
            key="data.label_pattern",
        )
    pictures, left_out = find_pictures(root)
    found: dict[str, Labelled] = {}
    without = []
    for path in pictures:
        match = expression.search(path.name)
        if match is None or not match[1]:
            without.append(path)
            continue
        part = part_of(path.relative_to(root).parts[0]) if path.parent != root else None
        word = unicodedata.normalize("NFC", match[1])
        found.setdefault(part or WHOLE, []).append((path, word))
    if without:
        note(f"{root}: left out, as data.label_pattern finds no label: {summary(without)}")
    if left_out:
        note(f"{root}: left out: {summary(left_out)}")
    return found


def _by_tables(path: Path, root: Path, options: Options, note: Note) -> dict[str, Labelled]:
    """Return the pictures that the tables name, by part."""
    index = _Index(root)
    found: dict[str, Labelled] = {}
    missing: list[str] = []
    tables_found = [(t, k) for t in _openable(path) if (k := _column_of_names(t)) is not None]
    labels = {}
    for table, names in tables_found:
        columns = _label_columns(table, names, options)
        if columns:
            labels[table.path] = columns
        elif len(tables_found) == 1:
            others = [name for k, name in enumerate(table.header or ()) if k != names]
            raise DataError(
                f"has file names, but {first_names(others) or 'no column'} may be labels",
                remedy="name the column of labels with data.label_column",
                file=table.path,
            )
        else:
            note(f"{table.path}: left out: it has no column of labels")
    for table, names in tables_found:
        if table.path not in labels:
            continue
        for number, row in _rows(table):
            word, part = _label(table, row, labels[table.path], number), _part(table, row)
            picture = index.find(row[names], part) if names < len(row) else None
            if picture is None:
                missing.append(f"{table.path}: row {number}: {row[names]}")
                continue
            if part is None and picture.parent != root:
                part = part_of(picture.relative_to(root).parts[0])
            found.setdefault(part if part != "unlabelled" and part else WHOLE, []).append(
                (picture, word)
            )
    used = {picture for pictures in found.values() for picture, _ in pictures}
    without = [picture for picture in index.pictures if picture not in used]
    if found or missing:
        _report(path, missing, without, index.left_out, options, note)
    return found


def _report(
    path: Path,
    missing: list[str],
    without: list[Path],
    left_out: list[Path],
    options: Options,
    note: Note,
) -> None:
    problems = []
    if missing:
        problems.append(
            f"{len(missing):,} rows name pictures that do not exist ({first_names(missing)})"
        )
    if without:
        names = first_names([p.name for p in without])
        problems.append(f"{len(without):,} pictures have no label ({names})")
    if missing and options.damaged != "skip":
        raise DataError(
            "; ".join(problems),
            remedy="correct the table, or set data.damaged to skip, which leaves them out",
            file=path,
        )
    if problems:
        note(f"{path}: left out: {'; '.join(problems)}")
    others = [p for p in left_out if p.suffix.lower() not in (".csv", ".tsv", ".txt", ".md")]
    if others:
        note(f"{path}: left out: {summary(others)}")


def _rows(table: Table) -> Iterator[tuple[int, list[str]]]:
    every = lines(table.path)
    if table.header is not None:
        next(every)
    for number, line in every:
        try:
            yield number, [c.strip() for c in next(csv.reader([line], delimiter=table.delimiter))]
        except csv.Error as error:
            raise DataError(
                f"is not a row of a table ({error})",
                remedy="correct or remove that row",
                file=table.path,
                key=f"row {number}",
            ) from None


def _label_columns(table: Table, names: int, options: Options) -> list[int]:
    """Return the column of labels, or those of classes that are 0 or 1; none if it is not plain."""
    if options.label_column is not None:
        return [table.find(options.label_column)]
    header = [name.lower() for name in table.header or ()]
    for name in LABEL_NAMES:
        if name in header:
            return [header.index(name)]
    others = [k for k in range(table.columns) if k != names]
    others = [k for k in others if not header or header[k] not in SPLIT_NAMES]
    if len(others) > 1 and header:
        numbers = [k for k in others if table.values(k) <= {"0", "1", "0.0", "1.0"}]
        ones = [sum(row[k].startswith("1") for k in numbers) for row in table.sample]
        if len(numbers) > 1 and set(ones) == {1}:
            return numbers
        rest = [
            k
            for k in others
            if not header[k].startswith("unnamed") and header[k] not in ("", "id", "index")
        ]
        others = rest or others
    return others if len(others) == 1 else []


def _label(table: Table, row: list[str], columns: list[int], number: int) -> str:
    cells = [row[k] if k < len(row) else "" for k in columns]
    word = cells[0]
    if len(columns) > 1 and table.header is not None:
        ones = [table.header[k] for k, cell in zip(columns, cells, strict=True) if cell[:1] == "1"]
        word = ones[0] if len(ones) == 1 else ""
    if not word:
        raise DataError(
            "has no label",
            remedy="give it one, or remove the row",
            file=table.path,
            key=f"row {number}",
        )
    return unicodedata.normalize("NFC", word)


def _part(table: Table, row: list[str]) -> str | None:
    """Return the part of a row: of a column that names parts, or of the table's name."""
    header = [name.lower() for name in table.header or ()]
    for name in SPLIT_NAMES:
        if name in header:
            column = header.index(name)
            part = part_of(row[column]) if column < len(row) else None
            if part is not None:
                return part
    return part_of(table.path.stem)

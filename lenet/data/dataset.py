"""The data set: whoever needs images gets them here, and nowhere else.

    data = open_dataset(Options(name="folder", path="shapes"))
    data.training, data.test      ->  Split(images, labels, class_names, levels, origins)
    data.split("validation")

It knows which images belong to training, validation and test, where each came from, the names of
the classes and their order, the levels as stored, and what was left out. Readers of formats
(:mod:`lenet.data.formats`) only list what is there; what is decided about it is decided here and in
:mod:`lenet.data.splits`. A part is read when it is needed.
"""

from __future__ import annotations

import csv
import hashlib
import os
import unicodedata
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.data.cache import cache_directory
from lenet.data.catalogue import FORMATS, find_source
from lenet.data.formats.stored import WHOLE, Options, Origin, Origins, Stored
from lenet.data.labels import Labels, as_labels, check_labels, first_names, numbers
from lenet.data.levels import BYTES, Levels, as_bytes, channels_first, measured
from lenet.data.mapped import blocks, take
from lenet.data.sources import find_parts, resolve
from lenet.data.splits import (
    balanced,
    held_for_testing,
    identities,
    others,
    validation_rows,
)
from lenet.data.strokes import SIZE, load_strokes
from lenet.errors import ConfigError, DataError

Rows = NDArray[np.int64] | None
"""Sorted indices of some images; None for all."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one part of a data set.

    Attributes
    ----------
    images
        uint8 (N,H,W), or (N,C,H,W) if they have several channels, 0 to 255; C-contiguous.
    labels
        uint8 or uint16 (N,), indices into ``class_names``.
    class_names
        One name per class.
    levels
        The two values in the file that became 0 and 255.
    origins
        Where each image came from: a file, or a row of a file.
    """

    images: NDArray[np.uint8]
    labels: Labels
    class_names: tuple[str, ...]
    levels: Levels = BYTES
    origins: Origins = field(default_factory=Origins)

    def take(self, rows: Rows) -> Split:
        """Return some of the images, copied; all of them as they are."""
        if rows is None:
            return self
        origins = self.origins.take(rows) if len(self.origins) else self.origins
        return replace(
            self, images=take(self.images, rows), labels=self.labels[rows], origins=origins
        )

    def origin(self, k: int) -> Origin:
        """Return where an image came from; its number, if that is not known."""
        return self.origins[k] if len(self.origins) else Origin("", k)


class Dataset:
    """The images of a data set by part, read when they are needed.

    Parameters
    ----------
    options
        Which data, and how they are read and divided.
    warn
        Takes each line about what was left out, or what may be a mistake, once.
    """

    def __init__(self, options: Options, warn: Callable[[str], None]) -> None:
        self.options, self.title = options, options.title
        self.notes: list[str] = []
        self._warn = warn
        self._stored: dict[str, Stored] = {}
        self._parts = find_parts(options, self._note)

    def _note(self, line: str) -> None:
        if line not in self.notes:
            self.notes.append(line)
            self._warn(line)

    # --- The parts ------------------------------------------------------------------------------

    @property
    def divided(self) -> bool:
        """Whether the test images are chosen here, as the data have no test part."""
        return "test" not in self._parts and self.options.own

    @cached_property
    def training(self) -> Split:
        """All images to train on; those for validation too, unless they are a part."""
        options = self.options
        found, chosen = self._read_train()
        if chosen is not None:
            found = found.take(np.flatnonzero(~chosen))
        if options.limit is not None and options.limit < len(found.labels):
            found = found.take(balanced(found.labels, options.limit))
        return with_drawn(found, options.drawn) if options.drawn else found

    @cached_property
    def test(self) -> Split:
        """The images to test on: those of the test part, or chosen among the others."""
        if "test" in self._parts:
            return self._converted("test")
        if not self.options.own:
            return self._everything()
        found, chosen = self._read_train()
        return found.take(None if chosen is None else np.flatnonzero(chosen))

    @cached_property
    def validation(self) -> Split | None:
        """The validation images, if they are a part of the data or at another path."""
        if self.options.validation == 0:
            return None
        if self.options.validation_path is not None and self.options.own:
            return self._from_path(self.options.validation_path)
        if "validation" in self._parts:
            if "test" not in self._parts and self.options.own:
                self._note(
                    f"{self.title}: has validation images and no test images: "
                    f"{self.options.test_fraction:.0%} of its training images are the test set"
                )
            return self._converted("validation")
        return None

    @cached_property
    def validation_rows(self) -> NDArray[np.int64]:
        """The sorted indices of the training images that are for validation, if no part is."""
        options = self.options
        if self.validation is not None or not options.own:
            return np.empty(0, np.int64)
        return validation_rows(options, len(self.training.labels))

    def part(self, name: str) -> tuple[Split, Rows]:
        """Return images and the indices of those of a part: ``train``, ``validation`` or ``test``.

        Nothing is copied; training images without those for validation are indices.
        """
        if name == "test":
            return self.test, None
        if name == "train":
            rows = self.validation_rows
            count = len(self.training.labels)
            return self.training, others(count, rows) if rows.size else None
        if self.validation is not None:
            return self.validation, None
        if self.validation_rows.size:
            return self.training, self.validation_rows
        raise ConfigError(
            "is 0, so there are no validation images"
            if self.options.own
            else f"{self.title} has no validation images",
            remedy="use --split test or train",
            key="data.validation" if self.options.own else None,
        )

    def split(self, name: str) -> Split:
        """Return the images of ``train``, ``validation`` or ``test``, and no others."""
        found, rows = self.part(name)
        return found.take(rows)

    # --- Names and levels -----------------------------------------------------------------------

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes in their order: those of the training images."""
        options, stored = self.options, self._naming()
        known = stored.class_names or find_source(options.name).class_names
        if isinstance(stored.labels, list):
            known = tuple(set(stored.labels))
            decimal = all(name.isdecimal() for name in known)
            known = tuple(sorted(known, key=lambda name: (int(name) if decimal else 0, name)))
        known = known or self._numbered(stored)
        if options.class_names is None:
            self._known = known
            return known
        wanted = tuple(unicodedata.normalize("NFC", name) for name in options.class_names)
        unknown = [name for name in wanted if name not in known]
        if unknown and known == numbers(len(known)) and not isinstance(stored.labels, list):
            known = wanted  # the numbers' names
        elif unknown:
            raise ConfigError(
                f"names {first_names(unknown)}, but the classes of {self.title} are "
                f"{first_names(known)}",
                remedy="name some or all of these, in the order that you want",
                key="data.class_names",
            )
        self._known = known
        return wanted

    def _naming(self) -> Stored:
        """Return the part that names the classes; of numbers, another one if that is not there."""
        try:
            return self._read(self._first)
        except (ConfigError, DataError):
            numbered = [s for s in self._stored.values() if not isinstance(s.labels, list)]
            if not numbered:
                raise
            return numbered[0]

    def _numbered(self, stored: Stored) -> tuple[str, ...]:
        labels = as_labels(np.asarray(stored.labels), self._labels_file(stored), stored.labels_key)
        return numbers(max(self.options.classes or 0, int(labels.max()) + 1))

    @cached_property
    def levels(self) -> Levels:
        """The two numbers that stand for 0 and 255, measured on the training images."""
        stored = self._read(self._first)
        return measured(stored.images, stored.file, stored.key)

    @property
    def _first(self) -> str:
        """The part that determines names and levels; of a published set, any one does."""
        if self.options.name not in FORMATS and self._stored:
            return next(iter(self._stored))
        order = ("train", WHOLE, "validation", "test")
        return next(part for part in order if part in self._parts)

    # --- Reading --------------------------------------------------------------------------------

    def _read(self, part: str) -> Stored:
        if part not in self._stored:
            self._stored[part] = self._parts[part]()
        return self._stored[part]

    def _labels_file(self, stored: Stored) -> Path:
        return stored.labels_file or stored.file

    def _read_train(self) -> tuple[Split, NDArray[np.bool_] | None]:
        """Return the training images, and a mask of those to test on if the data are divided."""
        part = "train" if "train" in self._parts else WHOLE
        if part not in self._parts:
            raise DataError(
                "has no training images",
                remedy="name data with a part for training",
                file=self.title,
            )
        found = self._converted(part)
        if not self.divided:
            return found, None
        return found, held_for_testing(self._identity, found.labels, self.options.test_fraction)

    def _everything(self) -> Split:
        """Return the images of all parts of data that have no test part."""
        found = [
            self._converted(part) for part in ("train", WHOLE, "validation") if part in self._parts
        ]
        count = sum(len(part.labels) for part in found)
        self._note(f"{self.title}: has no test part: all of its {count:,} images are evaluated")
        if len(found) == 1:
            return found[0]
        first, second = found
        return replace(
            first,
            images=np.concatenate([first.images, second.images]),
            labels=np.concatenate([first.labels, second.labels]),
            origins=first.origins + second.origins,
        )

    def _from_path(self, path: str) -> Split:
        """Return all images at another path, with the classes and the form of the training ones."""
        name, _ = resolve(path, self.options)
        images = self._read(self._first).images
        unset: dict[str, Any] = dict.fromkeys((*ROLES, "validation_path", "dir"))
        options = replace(
            self.options,
            **unset,
            name=name,
            path=path,
            size=images.shape[-2:] if name in PICTURES else self.options.size,
            channels=3 if images.ndim == 4 else 1,
            own=False,
        )
        other = Dataset(options, self._note)
        other.__dict__["class_names"] = self.class_names
        part = next(p for p in ("validation", WHOLE, "test", "train") if p in other._parts)
        return other._converted(part)

    def _converted(self, part: str) -> Split:
        """Return a part as bytes and class indices."""
        options, stored = self.options, self._read(part)
        images = channels_first(stored.images, stored.file, stored.key)
        labels, kept = self._indices(stored, part, len(images))
        levels = BYTES
        if images.dtype != np.uint8:
            levels = measured(images, stored.file, stored.key)
            with suppress(ConfigError, DataError):  # then of these images alone
                levels = self.levels
        if stored.origins is not None:
            origins = stored.origins
        else:
            key = f":{stored.key}" if stored.key else ""
            origins = Origins.rows_of(f"{stored.file}{key}", len(images))
        if self.divided and part in ("train", WHOLE):
            identity = stored.identity if stored.identity is not None else identities(images)
            self._identity = identity if kept is None else identity[kept]
        if kept is not None:
            images, labels, origins = images[kept], labels[kept], origins.take(kept)
        if options.transpose:
            images = np.swapaxes(images, -1, -2)
        pixels = as_bytes(images, levels)
        found = Split(
            np.subtract(255, pixels) if options.invert else pixels,
            labels,
            self.class_names,
            levels,
            origins,
        )
        return corrected(found, Path(options.labels)) if options.labels else found

    def _indices(self, stored: Stored, part: str, count: int) -> tuple[Labels, Rows]:
        """Return class indices, and the rows whose classes were chosen if some were not."""
        file, names = self._labels_file(stored), self.class_names
        if isinstance(stored.labels, list):
            index = {name: k for k, name in enumerate(names)}
            found = np.array([index.get(word, -1) for word in stored.labels], np.int64)
            if (found < 0).any() and self.options.class_names is None:
                word = stored.labels[int(np.argmin(found))]
                raise DataError(
                    f"class {word} has no training images",
                    remedy=f"the classes are {first_names(names)}",
                    file=stored.file,
                )
            check_labels(found, file, count, None, stored.labels_key)
        else:
            numbered = as_labels(np.asarray(stored.labels), file, stored.labels_key)
            self._check(numbered, file, count, stored)
            if self._known == names:
                return numbered, None
            place = {name: k for k, name in enumerate(names)}
            found = np.array([place.get(name, -1) for name in self._known], np.int64)[numbered]
        kept: Rows = None
        if (found < 0).any():
            kept = np.flatnonzero(found >= 0)
            if not kept.size:
                raise DataError(
                    f"has no {part} images of {first_names(names)}",
                    remedy="name other classes in data.class_names",
                    file=stored.file,
                )
            self._note(
                f"{stored.file}: left out: {count - kept.size:,} images of classes that "
                "data.class_names does not name"
            )
        return found.astype(np.uint8 if len(names) <= 256 else np.uint16), kept

    def _check(self, labels: Labels, file: Path, count: int, stored: Stored) -> None:
        """Check labels that are numbers."""
        options, classes, set_by = self.options, len(self._known), None
        if options.class_names and self._known == options.class_names:
            set_by = "data.class_names"
        elif not stored.class_names and not find_source(options.name).class_names:
            set_by = "model.classes"
            classes = options.classes or classes
        check_labels(labels, file, count, classes, stored.labels_key, set_by=set_by)


PICTURES = ("folder", "labelled", "parquet")
ROLES = ("train_images", "train_labels", "test_images", "test_labels")


def open_dataset(options: Options, *, warn: Callable[[str], None] = warnings.warn) -> Dataset:
    """Return a data set.

    Parameters
    ----------
    options
        Which, and how it is read and divided. Without ``dir``, the directory that the environment
        variable ``LENET_DATA_DIR`` names is searched first.
    warn
        Takes each line about what was left out, or what may be a mistake, once.

    Raises
    ------
    ConfigError
        There is no such data set, or a path is not given.
    DataError
        A file is missing, damaged or the wrong one, or images and labels do not match; also when a
        part is read.
    SystemFailure
        A file can be neither found nor downloaded.
    """
    named = options.dir or os.environ.get("LENET_DATA_DIR") or None
    return Dataset(replace(options, dir=named), warn)


def load_dataset(
    target: str,
    split: str,
    *,
    warn: Callable[[str], None] = warnings.warn,
    **options: Any,  # noqa: ANN401
) -> Split:
    """Return the ``train`` (with those for validation) or ``test`` images of a name or path.

    ``options`` are those of :class:`lenet.data.formats.stored.Options`.
    """
    given = {key: value for key, value in options.items() if value is not None or key == "size"}
    unknown = set(given) - {option.name for option in fields(Options)}
    if unknown:
        raise TypeError(f"no such options of a data set: {', '.join(sorted(unknown))}")
    for name in ("path", "dir"):
        if name in given:
            given[name] = os.fspath(given[name])
    if "path" not in given and target not in FORMATS:
        name, path = resolve(os.fspath(target), Options(**given))
        given |= {"name": name} | ({} if path is None else {"path": str(path)})
    data = open_dataset(Options(**({"name": target} | given)), warn=warn)
    return data.training if split == "train" else data.split(split)


def with_drawn(found: Split, count: int) -> Split:
    """Return training images of digits, followed by ``count`` built-in ones.

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
        origins=found.origins + Origins.rows_of("strokes", count),
    )


def corrected(found: Split, file: Path) -> Split:
    """Return images with the labels of a table of corrections: ``path``, ``label``.

    The path is that of a picture, or of a file with the row in brackets, as ``lenet data check``
    prints it.
    """
    from lenet.data.formats.table import lines

    rows = [(number, next(csv.reader([line]))) for number, line in lines(file)]
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    if "path" not in header or "label" not in header:
        remedy = "give a CSV file with the columns path and label"
        raise DataError("has no columns path and label", remedy=remedy, file=file)
    path, label = header.index("path"), header.index("label")
    place = {str(found.origins[k]): k for k in range(len(found.origins))}
    real = {os.path.realpath(name): k for name, k in place.items()}
    labels = found.labels.copy()
    for number, cells in rows[1:]:
        name, word = (cells[k].strip() if k < len(cells) else "" for k in (path, label))
        k = place.get(name, real.get(os.path.realpath(name)))
        if k is not None and unicodedata.normalize("NFC", word) not in found.class_names:
            raise DataError(
                f"{word or 'an empty label'} is not a class",
                remedy=f"the classes are {first_names(found.class_names)}",
                file=file,
                key=f"row {number}",
            )
        if k is not None:
            labels[k] = found.class_names.index(unicodedata.normalize("NFC", word))
    return replace(found, labels=labels)


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

"""Parquet files of pictures as the Hugging Face Hub writes them (needs the extra ``parquet``).

A column of images, each encoded as in a file, and one of labels, whose names may be in the
metadata; or columns of pixels. One file, or a directory with files for each part
(``data/train-00000-of-00002.parquet``).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.data.decode import Pictures, decode, file_state
from lenet.data.formats.stored import WHOLE, Note, Options, Origins, Parts, Stored
from lenet.data.formats.table import LABEL_NAMES
from lenet.data.labels import first_names
from lenet.data.splits import part_of
from lenet.errors import ConfigError, DataError, SystemFailure
from lenet.system.extras import require
from lenet.system.files import open_regular, reading

IMAGE_NAMES = ("image", "img", "picture", "jpg", "png", "pixel_values")
REMEDY = "download it again, or name the directory of parquet files"
SUFFIX = ".parquet"


def parquet_files(path: Path) -> list[Path]:
    """Return the parquet files in a directory and in those below it, in order of name."""
    if not path.is_dir():
        return [path]
    return sorted(
        p
        for p in (*path.glob(f"*{SUFFIX}"), *path.glob(f"*/*{SUFFIX}"))
        if not any(piece.startswith(".") for piece in p.relative_to(path).parts)
    )


def parts(path: Path, options: Options, note: Note) -> Parts:
    """Find the parts by the names of files, or of the directories that they are in."""
    found: dict[str, list[Path]] = {}
    for file in parquet_files(path):
        part = part_of(file.stem.split("-")[0])
        if part is None and file.parent != path and path.is_dir():
            part = part_of(file.parent.name)
        found.setdefault(part if part and part != "unlabelled" else WHOLE, []).append(file)
    if len(found) > 1 and WHOLE in found:
        note(f"{path}: left out: {first_names([p.name for p in found.pop(WHOLE)])}: of no part")

    @cache
    def read(part: str) -> Stored:
        first = "train" if "train" in found else next(iter(found))
        like = None if part == first else read(first)
        return _read(path, found[part], options, note, like)

    return {part: partial(read, part) for part in found}


def _read(
    place: Path, paths: Sequence[Path], options: Options, note: Note, like: Stored | None
) -> Stored:
    """Read the pictures and labels of some files, a few rows at a time."""
    files = [_open(path) for path in paths]
    schema = files[0].schema_arrow
    image, label = _columns(schema, options, paths[0])
    counts = [file.metadata.num_rows for file in files]
    starts = np.cumsum([0, *counts])
    labels: list[Any] = []
    for file, path in zip(files, paths, strict=True):
        with _reading(path):
            labels += file.read(columns=[label]).column(label).to_pylist()
    if None in labels:
        k = labels.index(None)
        at = int(np.searchsorted(starts, k, "right")) - 1
        raise DataError(
            "has no label", remedy="remove the row", file=paths[at], key=f"row {k - starts[at]}"
        )
    rows = _Rows(files, paths, starts, image)
    names = [f"{paths[at]}[{k}]" for at, count in enumerate(counts) for k in range(count)]
    state = hashlib.sha256(repr([(str(p), file_state(p)) for p in paths]).encode()).digest()
    pictures = Pictures(
        names, lambda k: nullcontext(io.BytesIO(rows[k])), str(place.resolve()), state
    )
    decoded = decode(pictures, options, note, None if like is None else like.images)
    origins = Origins(
        tuple(map(str, paths)),
        np.repeat(np.arange(len(paths)), counts),
        np.concatenate([np.arange(count) for count in counts]),
    )
    kept = [labels[k] for k in decoded.rows.tolist()]
    words = all(isinstance(value, str) for value in kept)
    return Stored(
        decoded.images,
        kept if words else np.array(kept),
        place,
        paths[0],
        labels_key=label,
        origins=origins.take(decoded.rows),
        class_names=() if words else _class_names(schema, label),
        identity=decoded.identity,
    )


def unlabelled(path: Path) -> NDArray[Any]:
    """Return the pictures of a file, which may have no labels."""
    file = _open(path)
    image, _ = _columns(file.schema_arrow, Options(), path, labelled=False)
    rows = _Rows([file], [path], np.array([0]), image)
    names = [f"{path}[{k}]" for k in range(file.metadata.num_rows)]
    state = repr(file_state(path)).encode()
    pictures = Pictures(names, lambda k: nullcontext(io.BytesIO(rows[k])), str(path), state)
    images = decode(pictures, Options(size=None), lambda _: None).images
    return np.moveaxis(images, 1, 3) if images.ndim == 4 else images


class _Rows:
    """The encoded pictures by number; the row group that was read last is kept."""

    def __init__(self, files: list[Any], paths: Sequence[Path], starts: Any, image: str) -> None:  # noqa: ANN401
        self.groups = []
        for file, path, start in zip(files, paths, starts, strict=False):
            first = int(start)
            for k in range(file.num_row_groups):
                count = file.metadata.row_group(k).num_rows
                self.groups.append((first, first + count, file, k, path))
                first += count
        self.image, self.at = image, -1
        self.content: Any = None

    def __getitem__(self, number: int) -> bytes:
        at = next(k for k, group in enumerate(self.groups) if group[0] <= number < group[1])
        first, _, file, k, path = self.groups[at]
        if at != self.at:
            with _reading(path):
                self.content = file.read_row_group(k, columns=[self.image]).column(0)
            self.at = at
        value = self.content[number - first].as_py()
        value = value.get("bytes") if isinstance(value, dict) else value
        return value if isinstance(value, bytes) else b""


def _open(path: Path) -> Any:  # noqa: ANN401 - pyarrow is optional
    parquet = require("pyarrow.parquet", "parquet")
    with reading(path, DataError), open_regular(path, DataError):
        pass
    with _reading(path):
        return parquet.ParquetFile(path)


class _reading:  # noqa: N801 - as a function
    """Convert the errors of pyarrow in reading a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, MemoryError):
            raise SystemFailure(
                "is too large for the memory", remedy="give a part of it", file=self.path
            )
        if isinstance(error, Exception):
            problem = (
                f"is not a parquet file, or is damaged ({str(error).splitlines()[0].rstrip('.')})"
            )
            raise DataError(problem, remedy=REMEDY, file=self.path) from error


def _columns(
    schema: Any,  # noqa: ANN401
    options: Options,
    path: Path,
    *,
    labelled: bool = True,
) -> tuple[str, str]:
    """Return the names of the columns of images and of labels."""
    names = list(schema.names)
    kinds = {name: str(schema.field(name).type) for name in names}
    encoded = [name for name in names if "binary" in kinds[name]]
    image = next((name for name in IMAGE_NAMES if name in encoded), encoded[0] if encoded else None)
    if image is None:
        raise DataError(
            f"has the columns {first_names(names)}, none of them encoded images",
            remedy="give a data set of images, or convert it to .npz",
            file=path,
        )
    wanted = options.label_column if labelled else image
    if wanted is not None:
        if str(wanted) in names:
            return image, str(wanted)
        raise ConfigError(
            f"{path} has no column {wanted}",
            remedy=f"name one of {first_names(names)}",
            key="data.label_column",
        )
    plain = [
        name for name in names if kinds[name] in ("string", "large_string") or "int" in kinds[name]
    ]
    label = next((name for name in (*LABEL_NAMES, "fine_label") if name in plain), None)
    if label is None and len(plain) == 1:
        label = plain[0]
    if label is None:
        raise DataError(
            f"has the columns {first_names(names)}, none of them called label",
            remedy="name the column of labels with data.label_column",
            file=path,
        )
    return image, label


def _class_names(schema: Any, label: str) -> tuple[str, ...]:  # noqa: ANN401
    """Return the class names in the metadata of the library datasets, if there are any."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
        return tuple(map(str, names)) if isinstance(names, list) else ()
    except (KeyError, TypeError, ValueError):
        return ()

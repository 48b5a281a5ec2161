"""Pictures decoded to one array of one size, once: the second time they are mapped from the cache.

They are decoded one by one and scaled at once, so that memory does not depend on their size. All
damaged ones are found in one pass.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lenet.data.cache import Blocks, Restart, cached_with_facts
from lenet.data.formats.stored import Note, Options
from lenet.data.imagefile import picture_size, read_picture
from lenet.errors import DataError, ImageError, LenetError, SystemFailure
from lenet.system.files import open_regular
from lenet.system.text import supports_progress_bar

VERSION = 2  # of what is in the cache
BLOCK = 256  # pictures decoded at once
MAX_FILE = 1 << 28  # bytes
MAX_NAMED = 20  # damaged pictures that one line names


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures of a data set, one after another, and how to open each.

    ``names`` are those of their files, or of the rows they are in; ``place`` and ``state`` say
    where they are, and what distinguishes them from other pictures in the same place.
    """

    names: Sequence[str]
    open: Callable[[int], AbstractContextManager[IO[bytes]]]
    place: str
    state: bytes


@dataclass(frozen=True, eq=False)
class Decoded:
    """Pictures (N,H,W) or (N,3,H,W): those that could be decoded, and their digests."""

    images: NDArray[Any]
    rows: NDArray[np.intp]
    """Their numbers among all."""
    identity: NDArray[np.uint64]


def file_state(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is written: its times, size and number.

    The time of modification may be set by a copy or an archive, the time of change cannot.
    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def files(paths: Sequence[Path], place: Path) -> Pictures:
    """Return pictures in files."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path}\0{file_state(path)}\0".encode("utf-8", "surrogateescape"))

    names = [str(path) for path in paths]
    opened = lambda k: open_regular(paths[k], ImageError)  # noqa: E731
    return Pictures(names, opened, str(place.resolve()), digest.digest())


def decode(
    pictures: Pictures, options: Options, note: Note, like: NDArray[Any] | None = None
) -> Decoded:
    """Decode pictures to one array, in the size that the options state."""
    size, channels = options.size, options.channels or 0
    if like is not None:
        size = like.shape[-2], like.shape[-1]
        channels = 3 if like.ndim == 4 else 1
    colour, dtype = channels == 3, np.dtype(np.uint8) if like is None else like.dtype
    key = [VERSION, size, options.within, colour, dtype.str, like is None, pictures.place]
    form = _Form(size, colour, dtype, fixed=like is not None)

    def make() -> tuple[Blocks, dict[str, Any]]:
        if form.size == "auto":
            form.size = _auto_size(pictures, options.within)
        facts: dict[str, Any] = {"rows": [], "identity": [], "damaged": []}
        return _blocks(pictures, form, facts), facts

    images, facts = cached_with_facts("pictures", json.dumps(key).encode(), make, pictures.state)
    _report(facts["damaged"], len(pictures.names), options.damaged, note)
    rows = np.array(facts["rows"], np.intp)
    return Decoded(images, rows, np.array(facts["identity"], np.uint64))


def _report(damaged: list[list[str]], count: int, rule: str, note: Note) -> None:
    """Report damaged pictures: the name of each, with what is wrong."""
    names = [f"{name} ({problem})" for name, problem in damaged]
    if rule == "skip" and len(damaged) < count:
        for name in names:
            note(f"left out: {name}")
    elif len(damaged) == 1:
        name, problem = damaged[0]
        remedy = "replace or remove it, or set data.damaged to skip"
        raise ImageError(problem, remedy=remedy, file=name)
    elif damaged:
        more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
        problem = f"{len(names):,} of {count:,} pictures are damaged"
        raise DataError(
            f"{problem}: {', '.join(names[:MAX_NAMED])}{more}",
            remedy="replace or remove them, or set data.damaged to skip; `lenet data check` names "
            "all",
        )


@dataclass(eq=False)
class _Form:
    """The form of the array: it grows with the pictures, unless it is fixed."""

    size: Any
    """Height and width, None as long as no picture was seen, or ``auto``."""
    colour: bool
    dtype: np.dtype[Any]
    fixed: bool
    scaled: bool = field(init=False)

    def __post_init__(self) -> None:
        self.scaled = self.size is not None


def _auto_size(pictures: Pictures, within: tuple[int, int]) -> tuple[int, int] | None:
    """Return the median size, reduced to fit the network; None if all fit as they are."""
    sizes = []
    for k in range(len(pictures.names)):
        with suppress(LenetError, OSError), pictures.open(k) as file:
            sizes.append(picture_size(file))
    if not sizes:
        return None
    H, W = (int(np.median(side)) for side in zip(*sizes, strict=True))
    scale = min(1.0, within[0] / H, within[1] / W)
    size = max(1, round(scale * H)), max(1, round(scale * W))
    return None if set(sizes) == {size} else size


def _blocks(pictures: Pictures, form: _Form, facts: dict[str, Any]) -> Iterator[NDArray[Any]]:
    """Yield pictures decoded and scaled; restart when one needs another form of the array."""
    from tqdm import tqdm

    shown = supports_progress_bar(sys.stderr)
    numbers = range(len(pictures.names))
    with tqdm(total=len(numbers), desc="reading pictures", leave=False, disable=not shown) as bar:
        for start in numbers[::BLOCK]:
            block = []
            for k in numbers[start : start + BLOCK]:
                try:
                    with pictures.open(k) as file:
                        data = file.read(MAX_FILE)
                    picture = read_picture(data, form.size if form.scaled else None)
                    block.append(_fitting(picture, form, pictures.names[k]))
                except SystemFailure:
                    raise
                except (ImageError, OSError) as error:
                    problem = error.problem if isinstance(error, ImageError) else str(error)
                    facts["damaged"].append((pictures.names[k], problem))
                    continue
                facts["rows"].append(k)
                digest = hashlib.blake2b(data, digest_size=8).digest()
                facts["identity"].append(int.from_bytes(digest, "big"))
            if block:
                yield np.stack(block)
            bar.update(min(BLOCK, len(numbers) - start))


def _fitting(picture: NDArray[Any], form: _Form, name: str) -> NDArray[Any]:
    """Return a picture in the form of the array, (H,W) or (3,H,W)."""
    if form.size is None:
        form.size = picture.shape[:2]
    if picture.shape[:2] != form.size:
        (h, w), (H, W) = picture.shape[:2], form.size
        raise DataError(
            f"is of {h}×{w} pixels, others of {H}×{W}",
            remedy="set data.size to auto, or to the height and width that all are scaled to",
            file=name,
        )
    rank = {np.dtype(t): k for k, t in enumerate((np.uint8, np.uint16, np.float32))}
    dtype = picture.dtype if picture.dtype in rank else np.dtype(np.float32)
    deeper, colour = rank[dtype] > rank[form.dtype], picture.ndim == 3
    if colour and not form.colour and form.fixed:
        raise DataError(
            "is in colour, the training pictures are grey", remedy="convert it to grey", file=name
        )
    if (deeper and not form.fixed) or (colour and not form.colour):
        form.colour |= colour
        form.dtype = dtype if deeper else form.dtype
        raise Restart
    if picture.dtype == np.uint8 and form.dtype != np.uint8:
        picture = picture.astype(form.dtype) * form.dtype.type(257)
    elif picture.dtype != form.dtype:
        small = picture / 257 if form.dtype == np.uint8 else picture
        picture = np.clip(small, 0, None).astype(form.dtype)
    if not form.colour:
        return picture
    return np.repeat(picture[None], 3, axis=0) if picture.ndim == 2 else picture.transpose(2, 0, 1)

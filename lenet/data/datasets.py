"""MNIST and its family by name, one's own IDX files by path: found, fetched, checked.

A file is looked for in the directory that the user names, then in the cache, then on the mirrors
that publish it. Only the split asked for is touched. What is published is held against its
published checksum every time that it is read: MNIST by the SHA-256 of its uncompressed content, so
that any recompression passes, the others by the MD5 of the archive. A wrong file of the user's is
an error; a wrong file in the cache is fetched again.

    load_dataset(name, split)  ->  Split(images, labels, class_names)
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lenet.data.idx import GZIP_MAGIC, header, read_idx
from lenet.data.strokes import load_strokes
from lenet.system.errors import ConfigError, DataError, LenetError, SystemFailure
from lenet.system.files import replacing
from lenet.system.terminal import supports_progress_bar

T = TypeVar("T")

SECONDS_PER_WAIT = 10.0  # to connect, and for every answer
SECONDS_IN_ALL = 60.0  # for all files from all mirrors
MAX_DOWNLOAD = 1 << 26  # bytes; the largest archive has 26 million


@dataclass(frozen=True)
class Split:
    """The training or the test set.

    Attributes
    ----------
    images
        uint8 (N, H, W), 0 to 255.
    labels
        uint8 (N,), indices into ``class_names``.
    class_names
        One name a class.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Archive:
    """A published file: its name without ``.gz`` and the checksum it was published with."""

    name: str
    content_sha256: str | None = None
    gzip_md5: str | None = None


@dataclass(frozen=True)
class Source:
    """Where a data set comes from. One that is not downloaded has neither archives nor mirrors."""

    description: str
    class_names: tuple[str, ...] = ()
    archives: Mapping[str, Archive] = field(default_factory=dict)
    mirrors: tuple[str, ...] = ()


ROLES = ("train_images", "train_labels", "test_images", "test_labels")
NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def _by_sha256(*sums: str) -> dict[str, Archive]:
    return {r: Archive(n, content_sha256=s) for r, n, s in zip(ROLES, NAMES, sums, strict=True)}


def _by_md5(*sums: str) -> dict[str, Archive]:
    return {r: Archive(n, gzip_md5=s) for r, n, s in zip(ROLES, NAMES, sums, strict=True)}


DATASETS = {
    "mnist": Source(
        "handwritten digits, 60,000 + 10,000 images of 28×28 (12 MB)",
        tuple("0123456789"),
        _by_sha256(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        (
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
    ),
    "fashion-mnist": Source(
        "clothes, 60,000 + 10,000 images of 28×28 (31 MB)",
        (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        _by_md5(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
    ),
    "kmnist": Source(
        "cursive Japanese, 60,000 + 10,000 images of 28×28 (21 MB)",
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        _by_md5(
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
        (
            "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        ),
    ),
    "strokes": Source("built-in digits drawn from a seed, 60,000 + 10,000", tuple("0123456789")),
    "idx": Source("IDX files of your own: data.train_images and so on"),
}


def load_dataset(
    name: str,
    split: str,
    *,
    directory: str | os.PathLike[str] | None = None,
    download: bool = True,
    files: Mapping[str, str | os.PathLike[str] | None] | None = None,
    classes: int | None = None,
) -> Split:
    """Return one split of a data set, reading and fetching nothing of the other.

    Parameters
    ----------
    name
        A key of ``DATASETS``.
    split
        ``"train"`` or ``"test"``.
    directory
        Where to look first; the files are in it or in its subdirectory ``name``.
    download
        Whether what is not found may be fetched into the cache.
    files
        For ``idx``: the paths by role, ``train_images``, ``train_labels``, ``test_images``,
        ``test_labels``; those of the other split may be missing.
    classes
        How many classes the labels may name; the data set's own number by default, and for
        ``idx`` as many as the labels do.

    Raises
    ------
    ConfigError
        No such data set, or a path is not given.
    DataError
        A file is missing, damaged, the wrong one, or does not fit its partner.
    SystemFailure
        A file can be neither found nor fetched.
    """
    source = find_source(name)
    roles = (f"{split}_images", f"{split}_labels")
    if name == "idx":
        paths = [_own_path(files or {}, role) for role in roles]
        (images_path, images), (labels_path, labels) = [(path, read_idx(path)) for path in paths]
    elif name == "strokes":
        images_path = labels_path = Path(name)
        images, labels = load_strokes(split, cache_dir=cache_directory())
    else:
        held, _ = _hold(name, roles, _places(directory), download=download)
        (images_path, images), (labels_path, labels) = (held[role] for role in roles)
    _check_shape(images, images_path, "images", "(N, H, W)", axes=3)
    _check_shape(labels, labels_path, "labels", "(N,)", axes=1)
    _check_labels(labels, labels_path, len(images), classes or len(source.class_names) or 256)
    names = source.class_names or tuple(map(str, range(classes or int(labels.max()) + 1)))
    return Split(images, labels, names)


def fetch(name: str, directory: str | os.PathLike[str] | None = None) -> dict[Path, bool]:
    """Have all files of ``name`` in ``directory``, by default the cache, fetching what is missing.

    Returns
    -------
    dict of Path to bool
        Every file, and whether it was fetched now.

    Raises
    ------
    ConfigError
        No such data set, or one that is not downloaded.
    DataError
        A file of that name is in the directory, and is not the right one.
    SystemFailure
        The network or the disk fails.
    """
    if not find_source(name).archives:
        published = ", ".join(key for key, source in DATASETS.items() if source.archives)
        raise ConfigError("is not downloaded", remedy=f"choose one of {published}", key=name)
    place = cache_directory() if directory is None else Path(directory)
    held, fetched = _hold(name, ROLES, [place])
    return {held[role][0]: role in fetched for role in ROLES}


def locate(name: str, directory: str | os.PathLike[str] | None = None) -> dict[str, Path | None]:
    """Return by role where the files of ``name`` are, ``None`` where none is or it is not right."""
    found: dict[str, Path | None] = {}
    for role, archive in find_source(name).archives.items():
        found[role] = _find(name, archive, _places(directory))
        if (path := found[role]) is not None:
            try:
                _read(archive, path)
            except DataError:
                found[role] = None
    return found


def find_source(name: str) -> Source:
    """Return the entry of ``DATASETS``; an unknown name is a :class:`ConfigError`."""
    if name not in DATASETS:
        from difflib import get_close_matches

        near = get_close_matches(name, DATASETS, 1)
        remedy = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(DATASETS)}"
        raise ConfigError(f"there is no data set {name}", remedy=remedy, key="data.name")
    return DATASETS[name]


def cache_directory() -> Path:
    """Return where downloads are kept; it need not exist, nor HOME."""
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named, "lenet")
    if sys.platform == "win32" and (named := os.environ.get("LOCALAPPDATA")):
        return Path(named, "lenet")
    try:
        home = Path.home()
    except RuntimeError:
        import tempfile

        return Path(tempfile.gettempdir(), "lenet")
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "lenet"


# --- found on disk -------------------------------------------------------------------------------

Held = dict[str, tuple[Path, NDArray[Any]]]  # by role


def _hold(
    name: str, roles: Iterable[str], places: list[Path], *, download: bool = True
) -> tuple[Held, Held]:
    """Return the files of ``roles``, and those of them that had to be fetched, into the last place.

    What is wrong in the cache is fetched again; what is wrong elsewhere is the user's.
    """
    held: Held = {}
    wanting = {}
    for role in roles:
        archive = DATASETS[name].archives[role]
        path = _find(name, archive, places)
        if path is None:
            wanting[role] = "missing"
            continue
        try:
            held[role] = path, _read(archive, path)
        except DataError as error:
            if not path.is_relative_to(cache_directory()):
                raise
            wanting[role] = f"damaged: {error.problem}"
    fetched = _download(name, wanting, places, download=download) if wanting else {}
    return held | fetched, fetched


def _places(directory: str | os.PathLike[str] | None) -> list[Path]:
    return [*([] if directory is None else [Path(directory)]), cache_directory()]


def _find(name: str, archive: Archive, places: Iterable[Path]) -> Path | None:
    for place in places:
        for folder in (place / name, place):
            for suffix in (".gz", ""):
                path = folder / f"{archive.name}{suffix}"
                if os.access(path, os.F_OK):  # Path.exists raises where a folder is closed to us
                    return path
    return None


def _read(archive: Archive, path: Path) -> NDArray[Any]:
    """Read a published file and hold it against its checksum."""
    array = read_idx(path)
    content = hashlib.sha256(header(array))
    content.update(array.data)
    sha256 = content.hexdigest()
    if archive.content_sha256 is not None and sha256 != archive.content_sha256:
        found, published = sha256[:12], archive.content_sha256[:12]
        raise _wrong(path, f"SHA-256 of its content is {found}…, should be {published}…")
    if archive.gzip_md5 is not None:
        with path.open("rb") as file:
            packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
            file.seek(0)
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        # An unpacked file has no published sum; it can only be told from those that have.
        if packed and md5 != archive.gzip_md5:
            raise _wrong(path, f"MD5 is {md5[:12]}…, should be {archive.gzip_md5[:12]}…")
        for name, source in DATASETS.items():
            if sha256 in (other.content_sha256 for other in source.archives.values()):
                raise _wrong(path, f"it is that of {name}")
    return array


def _wrong(path: Path, why: str) -> DataError:
    remedy = "replace it, or use it as your own with data.name: idx"
    return DataError(f"is not the published file: {why}", remedy=remedy, file=path)


# --- held against each other ---------------------------------------------------------------------


def _own_path(files: Mapping[str, str | os.PathLike[str] | None], role: str) -> Path:
    path = files.get(role)
    if path is None:
        raise ConfigError("is not given", remedy="name an IDX file", key=f"data.{role}")
    return Path(path)


def _check_shape(array: NDArray[Any], path: Path, what: str, shape: str, axes: int) -> None:
    if array.ndim == axes and array.dtype == np.uint8:
        return
    swapped = array.ndim == (1 if axes == 3 else 3)
    raise DataError(
        f"holds {array.dtype} of shape {array.shape}, {what} are uint8 of shape {shape}",
        remedy="exchange images and labels" if swapped else f"name the file of the {what}",
        file=path,
    )


def _check_labels(labels: NDArray[Any], path: Path, count: int, classes: int) -> None:
    if len(labels) != count:
        raise DataError(
            f"holds {len(labels):,} labels for {count:,} images",
            remedy="name files that belong together",
            file=path,
        )
    if labels.max() >= classes:
        index = int(np.argmax(labels >= classes))
        raise DataError(
            f"is {labels[index]}, the {classes} classes are 0 to {classes - 1}",
            remedy="correct it, or say how many classes there are",
            file=path,
            key=f"label {index}",
        )


# --- fetched -------------------------------------------------------------------------------------


def _download(name: str, wanting: Mapping[str, str], places: list[Path], *, download: bool) -> Held:
    """Fetch the files that are ``wanting``, checked, from the first mirrors that have them."""
    from http.client import HTTPException
    from urllib.parse import urlsplit

    source = DATASETS[name]
    folder = places[-1] / name
    deadline = time.monotonic() + SECONDS_IN_ALL
    fetched: Held = {}
    failures = []
    for mirror in source.mirrors if download else ():
        try:
            for role in wanting:
                if role not in fetched:
                    archive = source.archives[role]
                    fetched[role] = _fetch_one(archive, mirror, folder, deadline)
        except (OSError, HTTPException, ValueError) as error:
            failures.append(f"{urlsplit(mirror).hostname}: {getattr(error, 'reason', error)}")
        except DataError as error:
            failures.append(f"{urlsplit(mirror).hostname}: {error.problem}")
        else:
            return fetched
    raise _not_to_be_had(name, wanting, places, failures)


def _fetch_one(
    archive: Archive, mirror: str, folder: Path, deadline: float
) -> tuple[Path, NDArray[Any]]:
    from tqdm import tqdm

    file_name = f"{archive.name}.gz"
    content = bytearray()
    shown = supports_progress_bar(sys.stderr)
    with tqdm(desc=file_name, unit="B", unit_scale=True, leave=False, disable=not shown) as bar:
        for total, chunk in _with_time_limits(_answer(mirror + file_name), deadline):
            content += chunk
            bar.total = total
            bar.update(len(chunk))
    path = folder / file_name
    with replacing(path) as file:
        file.write(content)
        file.flush()
        return path, _read(archive, Path(file.name))


def _answer(url: str) -> Iterator[tuple[int | None, bytes]]:
    """Yield the length announced, and a piece of the answer, until its end."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    request = Request(url, headers={"User-Agent": "lenet"})  # noqa: S310 - from our own list
    try:
        with urlopen(request, timeout=SECONDS_PER_WAIT) as answer:  # noqa: S310
            total = int(answer.headers.get("Content-Length", 0)) or None
            received = 0
            while chunk := answer.read1():
                received += len(chunk)
                if received > MAX_DOWNLOAD:
                    raise OSError("sends more than any archive has")
                yield total, chunk
    except HTTPError as error:
        with error:
            raise OSError(f"HTTP {error.code} {error.reason}") from None


def _with_time_limits(parts: Iterator[T], deadline: float) -> Iterator[T]:
    """Yield the ``parts``, waiting for none too long, for all no longer than ``deadline``.

    They are taken in a thread: a look-up of a host name, and an answer that comes byte by byte,
    know no time limit of their own.
    """
    from queue import Empty, SimpleQueue
    from threading import Thread

    taken: SimpleQueue[T | Exception | None] = SimpleQueue()

    def take() -> None:
        try:
            for part in parts:
                taken.put(part)
                if time.monotonic() > deadline:
                    return
            taken.put(None)
        except Exception as error:  # raised again where the parts are wanted
            taken.put(error)

    Thread(target=take, daemon=True).start()
    while (left := deadline - time.monotonic()) > 0:
        try:
            part = taken.get(timeout=min(SECONDS_PER_WAIT, left))
        except Empty:
            break
        if isinstance(part, Exception):
            raise part
        if part is None:
            return
        yield part
    raise TimeoutError("timed out")


def _not_to_be_had(
    name: str, wanting: Mapping[str, str], places: list[Path], failures: list[str]
) -> LenetError:
    """Say in one line which files, where they were looked for, and how to get them by hand."""
    archives = [DATASETS[name].archives[role] for role in wanting]
    files = ", ".join(
        f"{a.name}.gz ({why})" for a, why in zip(archives, wanting.values(), strict=True)
    )
    kind = "SHA-256 of the content" if archives[0].content_sha256 else "MD5"
    sums = ", ".join(f"{(a.content_sha256 or a.gzip_md5 or '')[:12]}…" for a in archives)
    looked = " and ".join(map(str, places))
    fetching = f"; not fetched ({'; '.join(failures)})" if failures else ""
    return (SystemFailure if failures else DataError)(
        f"{files}: not found in {looked}{fetching}",
        remedy=f"put them into {places[-1] / name} ({kind} {sums}), or name their directory with "
        "--data-dir; `lenet train` without a configuration needs no files",
        file=name,
    )

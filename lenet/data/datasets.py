"""MNIST and its family by name, one's own IDX files by path: found, fetched, checked.

A file is looked for in the directory that the user names, then in the cache, then on the mirrors
that publish it. Only the split asked for is touched. A published file is compared with its
published checksum every time that it is read: MNIST by the SHA-256 of its uncompressed content, so
that any recompression passes, the others by the MD5 of the archive. A wrong file of the user's is
an error; a wrong file in the cache is fetched again.

    load_dataset(name, split)  ->  Split(images, labels, class_names)
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.data.catalogue import CATALOGUE, ROLES, Archive, find_source
from lenet.data.download import NotFetched
from lenet.data.download import download as fetch_files
from lenet.data.idx import GZIP_MAGIC, header, read_idx
from lenet.data.strokes import load_strokes
from lenet.system.errors import ConfigError, DataError, LenetError, SystemFailure


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
        A name in the catalogue.
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
        found, _ = _find_or_fetch(name, roles, _places(directory), download=download)
        (images_path, images), (labels_path, labels) = (found[role] for role in roles)
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
        published = ", ".join(key for key, source in CATALOGUE.items() if source.archives)
        raise ConfigError("is not downloaded", remedy=f"choose one of {published}", key=name)
    place = cache_directory() if directory is None else Path(directory)
    found, fetched = _find_or_fetch(name, ROLES, [place])
    return {found[role][0]: role in fetched for role in ROLES}


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

Files = dict[str, tuple[Path, NDArray[Any]]]  # path and content, by role


def _find_or_fetch(
    name: str, roles: Iterable[str], places: list[Path], *, download: bool = True
) -> tuple[Files, Files]:
    """Return the files of ``roles``, and those of them that had to be fetched, into the last place.

    What is wrong in the cache is fetched again; what is wrong elsewhere is the user's.
    """
    found: Files = {}
    wanting = {}
    for role in roles:
        archive = CATALOGUE[name].archives[role]
        path = _find(name, archive, places)
        if path is None:
            wanting[role] = "missing"
            continue
        try:
            found[role] = path, _read(archive, path)
        except DataError as error:
            if not path.is_relative_to(cache_directory()):
                raise
            wanting[role] = f"damaged: {error.problem}"
    fetched = _download(name, wanting, places, download=download) if wanting else {}
    return found | fetched, fetched


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
    """Read a published file and compare it with its checksum."""
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
        # An unpacked file has no published sum; it can only be recognised as another set's.
        if packed and md5 != archive.gzip_md5:
            raise _wrong(path, f"MD5 is {md5[:12]}…, should be {archive.gzip_md5[:12]}…")
        for name, source in CATALOGUE.items():
            if sha256 in (other.content_sha256 for other in source.archives.values()):
                raise _wrong(path, f"it is that of {name}")
    return array


def _wrong(path: Path, why: str) -> DataError:
    remedy = "replace it, or use it as your own with data.name: idx"
    return DataError(f"is not the published file: {why}", remedy=remedy, file=path)


# --- images and labels, compared with each other --------------------------------------------------


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


def _download(
    name: str, wanting: Mapping[str, str], places: list[Path], *, download: bool
) -> Files:
    """Fetch the files of the roles that are ``wanting`` into the last place."""
    source, folder = CATALOGUE[name], places[-1] / name
    files = {role: f"{source.archives[role].name}.gz" for role in wanting}
    checks = {files[role]: partial(_read, source.archives[role]) for role in wanting}
    try:
        fetched = fetch_files(source.mirrors if download else (), folder, checks)
    except NotFetched as error:
        raise _not_to_be_had(name, wanting, places, error.args) from None
    return {role: (folder / file, fetched[file]) for role, file in files.items()}


def _not_to_be_had(
    name: str, wanting: Mapping[str, str], places: Sequence[Path], failures: Sequence[str]
) -> LenetError:
    """Say in one line which files, where they were looked for, and how to get them by hand."""
    archives = [CATALOGUE[name].archives[role] for role in wanting]
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

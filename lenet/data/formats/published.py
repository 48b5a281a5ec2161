"""Published data sets: found or downloaded, verified by checksum, and decoded."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import operator
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, reduce
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from lenet.data.cache import Blocks, cache_directory, cached
from lenet.data.catalogue import CATALOGUE, Archive, Bundle, find_source
from lenet.data.decode import file_state
from lenet.data.download import MAX_BUNDLE, NotFetched, download_files
from lenet.data.formats.idx import GZIP_MAGIC, REMEDY, header, read_idx
from lenet.data.formats.lookup import find_published, folders, similar
from lenet.data.formats.stored import Note, Options, Origins, Parts, Stored
from lenet.data.strokes import load_strokes
from lenet.errors import ConfigError, DataError, LenetError, SystemFailure
from lenet.system.files import replacing

Files = dict[str, tuple[Path, NDArray[Any]]]  # path and content, by role
COPY = 1 << 20
IMAGES = 4096  # turned at once


def parts(name: str, options: Options, note: Note) -> Parts:
    """Return the parts of a published data set; only what is read is looked for or downloaded."""
    read: Callable[[str], Stored] = (
        _drawn if name == "strokes" else partial(_read, name, options, note)
    )
    return {part: partial(read, part) for part in ("train", "test")}


def _drawn(part: str) -> Stored:
    images, labels = load_strokes(part, cache_dir=cache_directory())
    return Stored(images, labels, Path("strokes"))


def _read(name: str, options: Options, note: Note, part: str) -> Stored:
    source = find_source(name)
    directory = Path(options.dir) if options.dir else None
    roles = [role for role in source.archives if role.startswith(part)]
    found, _ = find_or_fetch(name, roles, places(directory), download=options.download)
    if directory is not None and not any(_inside(found[role][0], directory) for role in roles):
        there = "contains no file of" if directory.is_dir() else "does not exist: no file of"
        note(f"{directory} {there} {name}; read from {found[roles[0]][0].parent}")
    return LAYOUTS[source.layout](found, part)


def fetch(name: str, directory: str | os.PathLike[str] | None = None) -> dict[Path, bool]:
    """Download the missing files of ``name`` to ``directory``, by default the cache."""
    roles = find_source(name).archives
    if not roles:
        published = ", ".join(key for key, source in CATALOGUE.items() if source.archives)
        raise ConfigError("is not downloaded", remedy=f"choose one of {published}", key=name)
    place = cache_directory() if directory is None else Path(directory)
    found, fetched = find_or_fetch(name, roles, [place])
    return {found[role][0]: role in fetched for role in roles}


def locate(name: str, directory: str | os.PathLike[str] | None = None) -> dict[str, Path | None]:
    """Return the paths of the files of ``name`` by role; None if missing or wrong."""
    source = find_source(name)
    where = places(None if directory is None else Path(directory))
    found: dict[str, Path | None] = {}
    for role, archive in source.archives.items():
        path = find_published(archive.name, source.folder or name, where)
        if path is not None:
            try:
                read(archive, path)
            except DataError:
                path = None
        found[role] = path
    return found


def places(directory: Path | None) -> list[Path]:
    """Return the directories to search: the given one, and the cache."""
    return [*([] if directory is None else [directory]), cache_directory()]


def _inside(path: Path, directory: Path) -> bool:
    return path.absolute().is_relative_to(directory.absolute())


# --- Found on disk -------------------------------------------------------------------------------


def find_or_fetch(
    name: str, roles: Iterable[str], where: list[Path], *, download: bool = True
) -> tuple[Files, Files]:
    """Return the files of ``roles``, and those of them that were downloaded.

    Downloads go to the last of the places. A wrong file in the cache is downloaded again; a
    wrong file elsewhere is never replaced.
    """
    source = CATALOGUE[name]
    found: Files = {}
    wanting = {}
    for role in roles:
        archive = source.archives[role]
        path = find_published(archive.name, source.folder or name, where)
        if path is None:
            wanting[role] = "missing"
            continue
        try:
            found[role] = path, read(archive, path)
        except DataError as error:
            if not path.is_relative_to(cache_directory()):
                raise
            wanting[role] = f"damaged: {error.problem}"
    fetched = _fetch(name, wanting, where, download=download) if wanting else {}
    return found | fetched, fetched


def read(archive: Archive, path: Path) -> NDArray[Any]:
    """Read a published file and compare it with its checksum."""
    if archive.md5 is not None:
        _check_md5(path, archive.md5)
    if archive.name.rpartition("-")[2] not in {"ubyte", "int"}:
        if not path.stat().st_size:
            raise DataError("is empty", remedy=REMEDY, file=path)
        return np.fromfile(path, np.uint8)
    array = read_idx(path)
    if archive.bundle is not None:
        return array  # the bundle was checked when it was unpacked
    content = hashlib.sha256(header(array))
    content.update(array.astype(array.dtype.newbyteorder(">"), copy=False).data)
    sha256 = content.hexdigest()
    if archive.content_sha256 is not None and sha256 != archive.content_sha256:
        found, published = sha256[:12], archive.content_sha256[:12]
        raise _wrong(path, f"SHA-256 of its content is {found}…, should be {published}…")
    if archive.gzip_md5 is not None:
        with path.open("rb") as file:
            packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        if packed:
            _check_md5(path, archive.gzip_md5)
            return array
        # An unpacked file has no published checksum; but it may be known to be that of another set.
        for name, source in CATALOGUE.items():
            if sha256 in (other.content_sha256 for other in source.archives.values()):
                raise _wrong(path, f"it is that of {name}")
    return array


def _check_md5(path: Path, published: str) -> None:
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if md5 != published:
        raise _wrong(path, f"MD5 is {md5[:12]}…, should be {published[:12]}…")


def _wrong(path: Path, why: str) -> DataError:
    remedy = "replace it, or name its directory, to use it as your own data"
    return DataError(f"is not the published file: {why}", remedy=remedy, file=path)


# --- Fetched -------------------------------------------------------------------------------------


def _fetch(name: str, wanting: Mapping[str, str], where: list[Path], *, download: bool) -> Files:
    """Download the files of the roles ``wanting`` to the last of the places."""
    source = CATALOGUE[name]
    folder = where[-1] / (source.folder or name)
    mirrors = source.mirrors if download else ()
    archives = {role: source.archives[role] for role in wanting}
    (bundle,) = {archive.bundle for archive in archives.values()}
    try:
        if bundle is not None:
            return _unpack_bundle(bundle, archives, source.folder or name, where, mirrors)
        files = {role: _file_name(archive) for role, archive in archives.items()}
        checks = {files[role]: partial(read, archive) for role, archive in archives.items()}
        fetched = download_files(mirrors, folder, checks)
    except NotFetched as error:
        raise _unavailable(name, wanting, where, error.args) from None
    return {role: (folder / file, fetched[file]) for role, file in files.items()}


def _file_name(archive: Archive) -> str:
    """Return the name of the published file: IDX files are packed."""
    return archive.name if archive.md5 else f"{archive.name}.gz"


def _unpack_bundle(
    bundle: Bundle,
    archives: Mapping[str, Archive],
    folder_name: str,
    where: list[Path],
    mirrors: tuple[str, ...],
) -> Files:
    """Extract files from a bundle, which is found or downloaded, to the last of the places.

    They are stored uncompressed, so that they can be mapped.
    """
    folder = where[-1] / folder_name
    path = _find_bundle(bundle.name, folder_name, where)
    if path is not None:
        try:
            _check_md5(path, bundle.md5)
        except DataError:
            if not path.is_relative_to(cache_directory()):
                raise
            path = None
    if path is None:
        check = {bundle.name: lambda file: _check_md5(file, bundle.md5)}
        download_files(mirrors, folder, check, MAX_BUNDLE)
        path = folder / bundle.name
    unpacked: Files = {}
    for role, archive in archives.items():
        file = folder / archive.name
        with _member(path, archive.name) as stream, replacing(file) as target:
            while chunk := stream.read(COPY):
                target.write(chunk)
        unpacked[role] = file, read(archive, file)
    return unpacked


def _find_bundle(name: str, folder_name: str, where: Iterable[Path]) -> Path | None:
    for place in where:
        for folder in folders(place, folder_name):
            if os.access(folder / name, os.F_OK):
                return folder / name
    return None


@contextmanager
def _member(path: Path, wanted: str) -> Iterator[IO[bytes]]:
    """Open the file ``wanted`` of a bundle, compressed or not, in any of its folders."""

    def unpacked(name: str, stream: IO[bytes]) -> IO[bytes]:
        return cast(IO[bytes], gzip.GzipFile(fileobj=stream)) if name != wanted else stream

    names = {wanted, f"{wanted}.gz"}
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as bundle:
                for info in bundle.infolist():
                    name = info.filename.rpartition("/")[2]
                    if name in names:
                        with bundle.open(info) as stream:
                            yield unpacked(name, stream)
                        return
        else:
            with tarfile.open(path) as tar:
                for entry in tar:
                    name = entry.name.rpartition("/")[2]
                    if name in names and entry.isfile() and (data := tar.extractfile(entry)):
                        yield unpacked(name, data)
                        return
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise DataError(f"is damaged ({error})", remedy=REMEDY, file=path) from error
    raise DataError(f"contains no {wanted}", remedy=REMEDY, file=path)


def _unavailable(
    name: str, wanting: Mapping[str, str], where: Sequence[Path], failures: Sequence[str]
) -> LenetError:
    """Return the error: which files, the directories searched, and how to get the files."""
    source = CATALOGUE[name]
    archives = [source.archives[role] for role in wanting]
    folder_name = source.folder or name
    bundle = archives[0].bundle
    if bundle is not None:
        files, sums, kind = f"{bundle.name} (missing)", f"{bundle.md5[:12]}…", "MD5"
        wanted = [bundle.name]
    else:
        wanted = [_file_name(a) for a in archives]
        files = ", ".join(f"{f} ({why})" for f, why in zip(wanted, wanting.values(), strict=True))
        kind = "SHA-256 of the content" if archives[0].content_sha256 else "MD5"
        published = (a.content_sha256 or a.gzip_md5 or a.md5 or "" for a in archives)
        sums = ", ".join(f"{digest[:12]}…" for digest in published)
    looked = " and ".join(map(str, where))
    near = ", ".join(map(str, similar(wanted, where, folder_name)[:3]))
    there = f" (similar: {near})" if near else ""
    fetching = f"; not fetched ({'; '.join(failures)})" if failures else ""
    address = f" from {source.mirrors[0]}{wanted[0]}" if failures else ""
    return (SystemFailure if failures else DataError)(
        f"{files}: not found in {looked}{there}{fetching}",
        remedy=f"put them into {where[-1] / folder_name} ({kind} {sums}){address}, or name their "
        "directory with --data-dir; `lenet train` without a configuration needs no files",
        file=name,
    )


# --- Decoded -------------------------------------------------------------------------------------


def _idx(found: Files, split: str) -> Stored:
    (images_file, images), (labels_file, labels) = (
        found[f"{split}_{what}"] for what in ("images", "labels")
    )
    return Stored(images, labels, images_file, labels_file)


def _transposed(found: Files, split: str) -> Stored:
    """Decode EMNIST, which stores every image column by column."""
    stored = _idx(found, split)
    lying, file = stored.images, stored.file
    if lying.ndim != 3 or lying.dtype != np.uint8:
        return stored

    def upright() -> Blocks:
        return (lying[k : k + IMAGES].transpose(0, 2, 1) for k in range(0, len(lying), IMAGES))

    key, state = str(file.resolve()).encode(), str(file_state(file)).encode()
    return replace(stored, images=cached("upright", key, upright, state))


def _transposed_from_one(found: Files, split: str) -> Stored:
    """Decode EMNIST's letters, which are numbered from 1."""
    stored = _transposed(found, split)
    return replace(stored, labels=np.asarray(stored.labels, np.int16) - 1)


CIFAR_RECORD = 1 + 3 * 32 * 32


def _cifar(found: Files, split: str) -> Stored:
    """Decode records of a label and the red, the green and the blue pixels of a 32×32 image.

    The format is described at https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    batches = [found[role] for role in sorted(found) if role.startswith(split)]
    for path, content in batches:
        if content.size % CIFAR_RECORD:
            problem = f"is of {content.size:,} bytes, not records of {CIFAR_RECORD:,}"
            raise DataError(problem, remedy=REMEDY, file=path)
    records = [content.reshape(-1, CIFAR_RECORD) for _, content in batches]
    images = np.concatenate([record[:, 1:] for record in records]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([record[:, 0] for record in records])
    rows = [Origins.rows_of(path, len(r)) for (path, _), r in zip(batches, records, strict=True)]
    origins = reduce(operator.add, rows)
    return Stored(images, labels, batches[0][0], batches[0][0], origins=origins)


def _libsvm(found: Files, split: str) -> Stored:
    """Decode lines of a label from 1 and ``index:value`` pairs from −1 to 1, bz2-compressed."""
    path, content = found[split]
    try:
        lines = bz2.decompress(content.tobytes()).decode("ascii").splitlines()
        labels = np.array([int(float(line.split(None, 1)[0])) - 1 for line in lines])
        images = np.full((len(lines), 256), -1.0, np.float32)
        for image, line in zip(images, lines, strict=True):
            for pair in line.split()[1:]:
                index, _, value = pair.partition(":")
                image[int(index) - 1] = float(value)
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"is damaged ({error})", remedy=REMEDY, file=path) from error
    # Fixed levels, so that training and test images are scaled alike.
    levels = np.rint((images + 1) * 127.5).astype(np.uint8)
    return Stored(levels.reshape(-1, 16, 16), labels, path, path)


LAYOUTS: Mapping[str, Callable[[Files, str], Stored]] = {
    "idx": _idx,
    "transposed": _transposed,
    "transposed, labels from 1": _transposed_from_one,
    "cifar": _cifar,
    "libsvm": _libsvm,
}

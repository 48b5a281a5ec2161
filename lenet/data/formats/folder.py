"""Pictures in one directory per class, whose names are the class names.

    root/train/cat/1.png   root/val/cat/5.png   root/test/cat/9.png      parts, or
    root/cat/1.png                                                       one set

A name is that of a part if one of its words is (``Training Data``, ``seg_train``) and the directory
contains directories of classes; so a class may be called *train*.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path

from lenet.data.decode import decode, files
from lenet.data.formats.stored import WHOLE, Note, Options, Origins, Parts, Stored
from lenet.data.imagefile import is_picture
from lenet.data.labels import first_names
from lenet.data.splits import is_part, part_of
from lenet.errors import DataError
from lenet.system.files import reading

EXTENSIONS = frozenset(
    (
        *(".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".tif", ".tiff", ".gif", ".bmp"),
        *(".ppm", ".pgm", ".pbm", ".pnm"),
    )
)
FOREIGN = {".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".pdf", ".psd", ".raw", ".dng"}
UNSEEN = {"@eadir", "__macosx", "lost+found", "thumbs.db", "desktop.ini"}


def parts(path: Path, options: Options, note: Note) -> Parts:
    """Find the directories of the parts, and the classes in them."""
    directories = part_directories(path)
    classes = {part: class_directories(folder) for part, folder in directories.items()}
    train = directories.get("train") or directories.get(WHOLE) or next(iter(directories.values()))
    if not any(classes.values()):
        raise DataError(
            "contains no directories with pictures",
            remedy="make a directory for every class, named as the class, with its pictures",
            file=path,
        )
    _question(path, directories, classes, options, note)
    read = cache(lambda part: _read(directories[part], classes[part], options, note, like(part)))

    def like(part: str) -> Stored | None:
        return None if directories[part] == train else read_train()

    def read_train() -> Stored:
        return read(next(part for part, folder in directories.items() if folder == train))

    return {part: partial(read, part) for part in directories}


def part_directories(path: Path) -> dict[str, Path]:
    """Return the directories of the parts by part; the directory itself is one set otherwise."""
    found: dict[str, Path] = {}
    for folder in visible(path):
        part = part_of(folder.name)
        if part not in (None, "unlabelled") and class_directories(folder):
            if part in found:
                raise DataError(
                    f"contains both {found[part].name} and {folder.name}",
                    remedy="rename or move one of them",
                    file=path,
                )
            found[part] = folder
    return found or {WHOLE: path}


def class_directories(path: Path) -> dict[str, list[Path]]:
    """Return the directories with pictures by class, in numerical or alphabetical order.

    Names that only differ in how their accents are encoded are one class.
    """
    found: dict[str, list[Path]] = {}
    for folder in visible(path):
        if next(_pictures(folder, []), None) is not None:
            found.setdefault(unicodedata.normalize("NFC", folder.name), []).append(folder)
    numbers = all(name.isdecimal() for name in found)
    order = sorted(found, key=lambda name: (int(name) if numbers else 0, name))
    return {name: found[name] for name in order}


def visible(path: Path) -> list[Path]:
    """Return the directories in a directory that are not hidden, in order of name."""
    with reading(path, DataError):
        entries = sorted(path.iterdir())
    return [p for p in entries if p.name[0] not in "._" and not _unseen(p.name) and p.is_dir()]


def _question(
    path: Path,
    directories: dict[str, Path],
    classes: dict[str, dict[str, list[Path]]],
    options: Options,
    note: Note,
) -> None:
    """Refuse what may be parts or classes, and report directories that are left out."""
    if WHOLE not in directories:
        for folder in visible(path):
            if folder in directories.values():
                continue
            if part_of(folder.name) is None and class_directories(path).get(folder.name):
                raise DataError(
                    f"contains {first_names([p.name for p in directories.values()])} with classes "
                    f"in them, and {folder.name} with pictures",
                    remedy=f"move {folder.name} into one of them, or out of the directory",
                    file=path,
                )
            note(f"{folder}: left out: no directories of classes in it")
    else:
        _question_classes(path, list(classes[WHOLE]), options, note)
    for folder in directories.values():
        _note_directories(folder, note)


def _question_classes(path: Path, names: list[str], options: Options, note: Note) -> None:
    if options.class_names is None:
        parts = [name for name in names if is_part(name)]
        if len(parts) > 1 or (parts and part_of(parts[0]) != "train"):
            raise DataError(
                f"contains {first_names(names)} with pictures: {first_names(parts)} may be "
                "parts or classes",
                remedy="put directories of classes into the parts, or name the classes with "
                "data.class_names",
                file=path,
            )
    below = [
        {unicodedata.normalize("NFC", p.name) for p in visible(folder)}
        for folders in class_directories(path).values()
        for folder in folders
    ]
    common = sorted(set.intersection(*below)) if below else []
    if len(names) == 1 and len(below[0]) > 1:
        raise DataError(
            f"contains one directory with pictures, {names[0]}, and in it {first_names(common)}",
            remedy=f"name {path / names[0]}",
            file=path,
        )
    if len(names) > 1 and len(common) > 1:
        note(
            f"{path}: the classes are {first_names(names)}, and each contains "
            f"{first_names(common)}: are these the classes?"
        )


def _note_directories(path: Path, note: Note) -> None:
    """Report the directories beside the classes that have no pictures, or are not read."""
    with reading(path, DataError):
        entries = sorted(p for p in path.iterdir() if p.is_dir() and p.name[0] != ".")
    classes = [p for folders in class_directories(path).values() for p in folders]
    for folder in entries:
        if _unseen(folder.name) or folder in classes:
            continue
        left_out: list[Path] = []
        pictures = sum(1 for _ in _pictures(folder, left_out))
        if folder.name[0] == "_":
            note(f"{folder}: left out, as its name begins with _ (pictures: {pictures:,})")
        elif left_out:
            note(f"{folder}: not a class, as none of its files is read: {summary(left_out)}")
        elif not part_of(folder.name):
            note(f"{folder}: not a class, as it contains no pictures")


def _read(
    path: Path,
    classes: dict[str, list[Path]],
    options: Options,
    note: Note,
    like: Stored | None,
) -> Stored:
    """Read the pictures of a part, in order of class and name."""
    paths: list[Path] = []
    words: list[str] = []
    for name, folders in classes.items():
        left_out: list[Path] = []
        found = [picture for folder in folders for picture in _pictures(folder, left_out)]
        if left_out:
            note(f"{folders[0]}: left out: {summary(left_out)}")
        paths += found
        words += [name] * len(found)
    return read_pictures(path, paths, words, options, note, like)


def read_pictures(
    place: Path,
    paths: list[Path],
    words: list[str],
    options: Options,
    note: Note,
    like: Stored | None,
    labels_file: Path | None = None,
) -> Stored:
    """Return pictures in files with their labels; those that are damaged are left out."""
    decoded = decode(files(paths, place), options, note, None if like is None else like.images)
    rows = decoded.rows.tolist()
    return Stored(
        decoded.images,
        [words[k] for k in rows],
        place,
        labels_file,
        origins=Origins.files_of([str(paths[k]) for k in rows]),
        identity=decoded.identity,
    )


def find_pictures(path: Path) -> tuple[list[Path], list[Path]]:
    """Return the pictures below a directory in order of name, and the files that are not read."""
    left_out: list[Path] = []
    return list(_pictures(path, left_out)), left_out


def _pictures(path: Path, left_out: list[Path]) -> Iterator[Path]:
    """Yield the pictures below a directory, in order of name; collect the other files."""
    for folder, below, names in os.walk(path):
        below[:] = sorted(name for name in below if name[0] != "." and not _unseen(name))
        aside = any(part[0] == "_" for part in Path(folder).relative_to(path).parts)
        for name in sorted(names):
            file = Path(folder, name)
            if name[0] == "." or _unseen(name):
                continue
            if name[0] != "_" and not aside and _is_picture(file):
                yield file
            else:
                left_out.append(file)


def _unseen(name: str) -> bool:
    return name.lower() in UNSEEN


def _is_picture(file: Path) -> bool:
    """Return whether a file has the name of a picture or, if its name says nothing, the content."""
    suffix = file.suffix.lower()
    if suffix in EXTENSIONS or suffix in FOREIGN:
        return suffix in EXTENSIONS
    try:
        if not file.is_file():
            return False
        with file.open("rb") as opened:
            return is_picture(opened.read(16))
    except OSError:
        return False


def summary(paths: Sequence[Path]) -> str:
    """Return how many files there are of each suffix, with an example.

    Examples
    --------
    >>> summary([Path("a.heic"), Path("b.heic"), Path("_c.png")])
    '2 files .heic (such as a.heic), 1 file _… (such as _c.png)'
    """
    kind = {
        p: "_…" if "_" in (p.name[0], p.parent.name[:1]) else p.suffix.lower() or "without a suffix"
        for p in paths
    }
    example = {name: path.name for path, name in reversed(kind.items())}
    return ", ".join(
        f"{n:,} file{'s' * (n > 1)} {name} (such as {example[name]})"
        for name, n in Counter(kind.values()).items()
    )

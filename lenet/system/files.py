"""Opening regular files only, and replacing files atomically.

A new file is written beside the old one under a temporary name, synced, and renamed: at every
moment there is the complete old file or the complete new one. Temporary files that killed processes
left behind are recognised by their names.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO

from lenet.errors import ConfigError, LenetError, SystemFailure, missing

ATTEMPTS, PAUSE = 20, 0.05  # to rename a file on Windows; seconds
MARKS = (b"lenet", b"Matplotlib")  # in the pages and plots that lenet writes


@contextmanager
def open_regular(
    path: Path,
    failure: type[LenetError],
    *,
    remedy: str = "name a regular file",
    directory_remedy: str | None = None,
) -> Iterator[BufferedReader]:
    """Open a file for reading in binary, unless it is a directory, pipe, socket or device.

    Opening a FIFO would wait for its writer, so the kind is checked first; the file is then opened
    without blocking and checked again, in case a FIFO has taken its place meanwhile.
    """

    def check(mode: int) -> None:
        if stat.S_ISDIR(mode):
            raise failure("is a directory", remedy=directory_remedy or remedy, file=path)
        if not stat.S_ISREG(mode):
            raise failure("is a pipe, socket or device", remedy=remedy, file=path)

    check(path.stat().st_mode)
    nonblocking = getattr(os, "O_NONBLOCK", 0)
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | nonblocking)) as file:
        check(os.fstat(file.fileno()).st_mode)
        yield file


@contextmanager
def reading(path: Path, failure: type[LenetError]) -> Iterator[None]:
    """Convert the system's errors in reading ``path``, inside the block, to one-line errors."""
    try:
        yield
    except LenetError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        problem = "there is no such file"
        raise missing(failure)(problem, remedy="check the path", file=path) from None
    except OSError as error:
        reason = error.strerror or error
        remedy = "check its permissions and the disk"
        raise SystemFailure(f"cannot be read: {reason}", remedy=remedy, file=path) from error


def default_output(name: str) -> Path:
    """Return the output of a command without ``--out``; a file that lenet did not write is kept."""
    path = Path(name)
    remedy = "give --out FILE to choose the file that is written"
    try:
        with reading(path, ConfigError), open_regular(path, ConfigError, remedy=remedy) as file:
            if not any(mark in file.read() for mark in MARKS):
                raise ConfigError("was not written by lenet", remedy=remedy, file=path)
    except FileNotFoundError:
        pass
    return path


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces ``path`` if the block ends without an error.

    A missing directory is created. Whatever happens, ``path`` is the old file or the complete new
    one, and the temporary file is removed. A symbolic link is replaced, not followed.
    """
    _refuse_device(path)
    with _beside(path) as temporary:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _rename(temporary, path)
        _sync_directory(path.parent)


def keep_as(path: Path, other: Path) -> None:
    """Copy ``path`` to ``other`` atomically, by a link where the file system has links."""
    with _beside(other) as temporary:
        try:
            os.link(path, temporary)
        except OSError:  # a file system without links
            shutil.copyfile(path, temporary)
        _rename(temporary, other)


def clean_leftovers(directory: str | os.PathLike[str]) -> None:
    """Remove the temporary files of killed processes; nothing may be writing to the directory."""
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            ours = re.fullmatch(r"\..+\.[0-9a-f]{16}\.part", entry.name)
            if ours and entry.is_file(follow_symlinks=False):
                Path(entry.path).unlink()


def _refuse_device(path: Path) -> None:
    """Refuse a pipe, socket or device, or a link to one, which the rename would replace by a file.

    Everything in /dev itself is refused, too: /dev/stdout links to wherever the output goes.
    """
    special = os.path.realpath(path.parent) == "/dev"
    with suppress(OSError):
        mode = path.stat().st_mode
        special |= not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
    if special:
        raise SystemFailure(
            "is a pipe, socket or device", remedy="name a regular file to write", file=path
        )


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; a file of that name is removed at the end."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        yield temporary
    except OSError as error:
        reason = error.strerror or error
        raise SystemFailure(
            f"cannot be written: {reason}",
            remedy="free space, or choose a directory that can be written",
            file=path,
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _rename(temporary: Path, path: Path) -> None:
    """Rename a file to ``path``, which it replaces.

    Windows refuses this while another program has the old file open, as a virus scanner or a backup
    does for a moment: it is tried again for a second.
    """
    for _ in range(ATTEMPTS if sys.platform == "win32" else 0):
        try:
            temporary.replace(path)
        except PermissionError:
            time.sleep(PAUSE)
        else:
            return
    temporary.replace(path)


def _sync_directory(directory: Path) -> None:
    """Sync a directory, so that a new name is on the disk; some systems cannot."""
    with suppress(OSError):  # Windows does not open directories, some file systems do not sync them
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""A lock on a directory: one process at a time writes there.

The operating system releases the lock when the process ends, however it ends. The file ``.lock``
stays behind and means nothing.

References
----------
POSIX.1-2024, ``open`` and ``fcntl``; Linux manual pages, ``flock(2)`` and ``nfs(5)``.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from lenet.errors import SystemFailure
from lenet.system.files import clean_leftovers

LOCK_FILE = ".lock"
WINDOWS_BYTE = 2**31 - 2  # what is locked there: far behind the content, which others must read
BUSY = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}
"""The errors that mean that another process has the lock (the last two on Windows)."""


def lock_directory(directory: Path, *, user: str, warn: Callable[[str], None]) -> IO[bytes]:
    """Create a directory if it is missing, lock it, and remove temporary files left in it.

    On a file system without locks (some of NFS, FUSE and network drives) it only warns, and leaves
    temporary files alone: another process may be writing them.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / LOCK_FILE).open("a+b")
    except OSError as error:
        raise SystemFailure(
            f"cannot be written to: {error.strerror}",
            remedy="choose another --output",
            file=directory,
        ) from error
    try:
        lock(file)
    except OSError as error:
        if error.errno in BUSY:
            file.close()
            raise SystemFailure(
                f"{user} is in this directory right now",
                remedy="wait for it or choose another --output",
                file=directory,
            ) from None
        warn(
            f"{directory}: cannot be locked on this file system ({error.strerror}); make sure that "
            "nothing else writes there"
        )
    else:
        clean_leftovers(directory)
    return file


def lock(file: IO[bytes]) -> None:
    """Lock an open file for this process without waiting, or raise the system's OSError."""
    if sys.platform == "win32":
        import msvcrt

        place = file.tell()
        file.seek(WINDOWS_BYTE)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        finally:
            file.seek(place)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

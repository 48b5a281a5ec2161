"""Downloads of published files, from several mirrors: verified, and resumed when interrupted.

A file is received into ``NAME.part`` beside its destination. If the connection breaks, the part
remains, and the next attempt requests the rest (HTTP's ``Range``). There is no limit on the total
time, only on the time without progress. After a slow mirror the next one is tried, and the slow one
again if that is not faster.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from typing import IO, TypeVar

from lenet.errors import DataError, SystemFailure
from lenet.system.lock import lock
from lenet.system.text import supports_progress_bar

T = TypeVar("T")

SECONDS_PER_WAIT = 10.0
"""Time limit for connecting, and for the time without new bytes."""

MIN_RATE = 1000
"""Bytes per second; a lower rate over ``SECONDS_PER_WAIT`` counts as no progress."""

SECONDS_PER_MIRROR = 15.0
"""After this time a mirror that needs as long again is left for the next one, if any."""

MAX_DOWNLOAD = 1 << 26
"""Maximum bytes of a file that is not a bundle; the largest has 26 million."""

MAX_BUNDLE = 1 << 30
"""Maximum bytes of a bundle; the largest has 562 million."""


class NotFetched(Exception):
    """No mirror delivers a file; the arguments are the reasons, one per mirror."""


class _TooLong(OSError):
    """A mirror sends more bytes than the file can have."""


class _Slow(Exception):
    """A mirror would need much longer; the argument is its rate in bytes a second."""


def download_files(
    mirrors: tuple[str, ...],
    folder: Path,
    checks: Mapping[str, Callable[[Path], T]],
    limit: int | None = None,
) -> dict[str, T]:
    """Download files to ``folder``, each from the first mirror that delivers it."""
    if not mirrors:
        raise NotFetched
    fetched: dict[str, T] = {}
    for name, check in checks.items():
        mirror, fetched[name] = _fetch(mirrors, folder / name, check, limit or MAX_DOWNLOAD)
        mirrors = (mirror, *(other for other in mirrors if other != mirror))
    return fetched


def _fetch(
    mirrors: tuple[str, ...], path: Path, check: Callable[[Path], T], limit: int
) -> tuple[str, T]:
    """Return the mirror that delivered the file, and what the check returned."""
    from urllib.parse import urlsplit

    failures: dict[str, str] = {}
    later: dict[str, float] = {}  # mirrors that were slow or broke off, with their rates
    with _part_file(path) as part:
        for mirror in mirrors:
            patience = SECONDS_PER_MIRROR if mirror != mirrors[-1] or later else None
            try:
                return mirror, _attempt(mirror + path.name, path, part, check, limit, patience)
            except _Slow as error:
                later[mirror] = error.args[0]
            except _Failed as error:
                failures[mirror] = str(error)
                if error.received:
                    later[mirror] = 0.0
        for mirror in sorted(later, key=lambda mirror: -later[mirror]):
            while True:  # as long as every attempt brings more of the file
                try:
                    return mirror, _attempt(mirror + path.name, path, part, check, limit, None)
                except _Failed as error:
                    failures[mirror] = str(error)
                    if not error.received:
                        break
    raise NotFetched(*(f"{urlsplit(mirror).hostname}: {why}" for mirror, why in failures.items()))


class _Failed(Exception):
    """An attempt that did not end with the file.

    Attributes
    ----------
    received
        Whether more of the file was received, so that another attempt may complete it.
    """

    def __init__(self, why: str, *, received: bool) -> None:
        super().__init__(why)
        self.received = received


def _attempt(
    url: str,
    path: Path,
    part: IO[bytes],
    check: Callable[[Path], T],
    limit: int,
    patience: float | None,
) -> T:
    """Receive the rest of a file and check it, or raise ``_Slow`` or ``_Failed``."""
    from http.client import HTTPException

    before = _size(part)
    try:
        _receive(url, path.name, part, limit, patience)
    except _TooLong as error:
        part.truncate(0)
        raise _Failed(str(error), received=False) from error
    except (OSError, HTTPException, ValueError) as error:
        why = str(getattr(error, "reason", error))
        raise _Failed(why, received=_size(part) > before) from error
    _size(part)  # all of it is on the disk
    try:
        result = check(Path(part.name))
    except DataError as error:
        part.truncate(0)
        # If it was joined from two attempts, one from the beginning may succeed.
        raise _Failed(error.problem, received=before > 0) from error
    with _naming(path):
        os.fsync(part.fileno())
        part.close()
        Path(part.name).replace(path)
    return result


def _size(part: IO[bytes]) -> int:
    with _naming(Path(part.name)):
        part.flush()
    return os.fstat(part.fileno()).st_size


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Convert a system error in writing to an error that names the file."""
    try:
        yield
    except OSError as error:
        raise SystemFailure(
            f"cannot be written: {error.strerror or error}",
            remedy="free space, or choose a directory that can be written",
            file=path,
        ) from error


@contextmanager
def _part_file(path: Path) -> Iterator[IO[bytes]]:
    """Open the partial file; if another process is using it, open a different one."""
    folders = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    shared = name = path.with_name(f"{path.name}.part")
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = name.open("a+b")
        try:
            lock(file)
        except OSError:
            file.close()
            name = path.with_name(f"{path.name}.{os.getpid()}.part")
            file = name.open("a+b")
    try:
        yield file
    finally:
        with suppress(OSError):
            file.close()
        with suppress(OSError):
            if name != shared or not name.stat().st_size:
                name.unlink()
        with suppress(OSError):  # nothing was received
            for folder in folders:
                folder.rmdir()


# --- Receiving -----------------------------------------------------------------------------------


def _receive(url: str, name: str, part: IO[bytes], limit: int, patience: float | None) -> None:
    """Append the rest of a file to ``part``, or rewrite it if the mirror has no ranges."""
    from tqdm import tqdm

    shown = supports_progress_bar(sys.stderr)
    start = time.monotonic()
    received = 0
    parts = _with_time_limits(_answer(url, _size(part), limit))
    with tqdm(desc=name, unit="B", unit_scale=True, leave=False, disable=not shown) as bar:
        for first, total, chunk in parts:
            with _naming(Path(part.name)):
                if not received and first < _size(part):
                    part.truncate(first)
                part.write(chunk)
            received += len(chunk)
            bar.total = total
            bar.update(first + received - bar.n)
            taken = time.monotonic() - start
            if patience is not None and taken > patience:
                left = None if total is None else total - first - received
                if left is None or left * taken > received * patience:
                    raise _Slow(received / taken)


def _answer(url: str, have: int, limit: int) -> Iterator[tuple[int, int | None, bytes]]:
    """Yield the offset of the answer in the file, the length of the file, and a piece of it.

    The pieces follow one another from ``have`` on, or from 0 if the server sends the whole file.
    """
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    headers = {"User-Agent": "lenet"} | ({"Range": f"bytes={have}-"} if have else {})
    request = Request(url, headers=headers)  # noqa: S310 - from our own list
    try:
        with urlopen(request, timeout=SECONDS_PER_WAIT) as answer:  # noqa: S310
            if answer.headers.get_content_type() == "text/html":  # a log-in page or a portal
                raise OSError("is an HTML page")
            length = int(answer.headers.get("Content-Length", 0)) or None
            first = have if answer.status == HTTPStatus.PARTIAL_CONTENT else 0
            expected = f"bytes {have}-"
            if first and not answer.headers.get("Content-Range", "").startswith(expected):
                raise OSError("answers with another part of the file")
            total = None if length is None else first + length
            received = 0
            while chunk := answer.read1():
                received += len(chunk)
                if first + received > limit:
                    raise _TooLong("sends more than any archive has")
                yield first, total, chunk
            if length is not None and received < length:
                raise OSError(f"broke off after {first + received:,} of {total:,} bytes")
    except HTTPError as error:
        with error:
            if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                yield from _answer(url, 0, limit)
                return
            raise OSError(f"HTTP {error.code} {error.reason}") from None


def _with_time_limits(
    parts: Iterator[tuple[int, int | None, bytes]],
) -> Iterator[tuple[int, int | None, bytes]]:
    """Yield the ``parts`` while they keep arriving.

    They are read in a thread, because the look-up of a host name and an answer that arrives byte by
    byte have no separate time limit.
    """
    taken: Queue[tuple[int, int | None, bytes] | Exception | None] = Queue(64)
    over = Event()

    def take() -> None:
        try:
            for part in parts:
                taken.put(part)
                if over.is_set():
                    return
            taken.put(None)
        except Exception as error:  # raised again in the thread that uses the parts
            taken.put(error)

    Thread(target=take, daemon=True).start()
    mark, since = time.monotonic(), 0
    try:
        while True:
            try:
                part = taken.get(timeout=SECONDS_PER_WAIT)
            except Empty:
                raise TimeoutError("timed out") from None
            if isinstance(part, Exception):
                raise part
            if part is None:
                return
            yield part
            since += len(part[2])
            now = time.monotonic()
            if now - mark > SECONDS_PER_WAIT:
                if since < MIN_RATE * (now - mark):
                    raise TimeoutError(f"timed out: {since:,} bytes in {now - mark:.0f} s")
                mark, since = now, 0
    finally:
        over.set()
        with suppress(Empty):
            while True:
                taken.get_nowait()

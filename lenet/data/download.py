"""Downloads of published files: from the first mirror that has them, checked before they are kept.

Every wait is limited, the whole too, and no more is received than any archive contains.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from lenet.system.errors import DataError
from lenet.system.files import replacing
from lenet.system.terminal import supports_progress_bar

T = TypeVar("T")

SECONDS_PER_WAIT = 10.0  # to connect, and for every answer
SECONDS_IN_ALL = 60.0  # for all files from all mirrors
MAX_DOWNLOAD = 1 << 26  # bytes; the largest archive has 26 million


class NotFetched(Exception):
    """No mirror has the files; its arguments say why, one for each mirror."""


def download(
    mirrors: tuple[str, ...], folder: Path, checks: Mapping[str, Callable[[Path], T]]
) -> dict[str, T]:
    """Fetch files into ``folder``, each from the first mirror that has it.

    Parameters
    ----------
    mirrors
        Addresses of directories, each ending in a slash.
    folder
        Created if need be.
    checks
        By file name, what reads the file, given the path of a temporary copy; a ``DataError``
        means that this is not the file.

    Returns
    -------
    By file name, what its check returned.

    Raises
    ------
    NotFetched
        The mirrors are exhausted.
    SystemFailure
        The folder cannot be written.
    """
    from http.client import HTTPException
    from urllib.parse import urlsplit

    deadline = time.monotonic() + SECONDS_IN_ALL
    fetched: dict[str, T] = {}
    failures = []
    for mirror in mirrors:
        try:
            for name, check in checks.items():
                if name not in fetched:
                    fetched[name] = _fetch(mirror + name, folder / name, check, deadline)
        except (OSError, HTTPException, ValueError) as error:
            failures.append(f"{urlsplit(mirror).hostname}: {getattr(error, 'reason', error)}")
        except DataError as error:
            failures.append(f"{urlsplit(mirror).hostname}: {error.problem}")
        else:
            return fetched
    raise NotFetched(*failures)


def _fetch(url: str, path: Path, check: Callable[[Path], T], deadline: float) -> T:
    from tqdm import tqdm

    content = bytearray()
    shown = supports_progress_bar(sys.stderr)
    with tqdm(desc=path.name, unit="B", unit_scale=True, leave=False, disable=not shown) as bar:
        for total, chunk in _with_time_limits(_answer(url), deadline):
            content += chunk
            bar.total = total
            bar.update(len(chunk))
    with replacing(path) as file:
        file.write(content)
        file.flush()
        return check(Path(file.name))


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

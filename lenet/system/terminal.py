"""Where output goes: what can be shown there, and whether a progress bar can move."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import TextIO


def escape_unencodable() -> None:
    """Let stdout and stderr escape the characters that their encoding does not have.

    An output whose encoding is a code page, such as cp1252 of a pipe on Windows, would else raise
    ``UnicodeEncodeError`` at the first name in another script, and all after it would be lost.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # there may be none
            stream.reconfigure(errors="backslashreplace")


def supports_progress_bar(file: TextIO | None) -> bool:
    """Return whether ``file`` is a terminal that can draw a bar anew in its place.

    Examples
    --------
    >>> import io
    >>> supports_progress_bar(io.StringIO())  # a file
    False
    >>> supports_progress_bar(None)  # a process without stderr
    False
    """
    return file is not None and file.isatty() and os.environ.get("TERM") != "dumb"

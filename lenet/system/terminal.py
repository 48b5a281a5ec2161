"""The terminal: characters that it cannot show, and progress bars."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import TextIO


def escape_unencodable() -> None:
    """Let stdout and stderr escape the characters that their encoding does not have.

    Otherwise a stream in a code page, such as a pipe on Windows in cp1252, would raise
    ``UnicodeEncodeError`` at the first name in another script, and all output after it be lost.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a process may have no stdout
            stream.reconfigure(errors="backslashreplace")


def supports_progress_bar(file: TextIO | None) -> bool:
    """Return whether ``file`` is a terminal, or a notebook's, that can redraw a progress bar.

    Examples
    --------
    >>> import io
    >>> supports_progress_bar(io.StringIO())  # a file
    False
    >>> supports_progress_bar(None)  # a process without stderr
    False
    """
    if type(file).__module__.startswith("ipykernel."):
        return True
    return file is not None and file.isatty() and os.environ.get("TERM") != "dumb"

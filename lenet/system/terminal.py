"""Whether a progress bar can move where output goes."""

from __future__ import annotations

import os
from typing import TextIO


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

"""Whether a progress bar can move where output goes."""

from __future__ import annotations

import os
from typing import TextIO


def moves_bars(file: TextIO | None) -> bool:
    """Return whether ``file`` is a terminal that can draw a bar anew in its place.

    Examples
    --------
    >>> import io
    >>> moves_bars(io.StringIO()), moves_bars(None)  # a file; a process without stderr
    (False, False)
    """
    return file is not None and file.isatty() and os.environ.get("TERM") != "dumb"

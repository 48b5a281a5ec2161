"""Output for people: printable text, aligned tables, the terminal, and colours."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import TextIOWrapper
from itertools import chain, repeat
from types import MappingProxyType
from typing import Final, TextIO, TypeVar

T = TypeVar("T")

# The colours of signed numbers. The lightness falls from one end to the other, so that the sign can
# be read in grey too.
NEGATIVE: Final = (255, 198, 96)
ZERO: Final = (138, 141, 147)
POSITIVE: Final = (8, 42, 122)
WORDS: Final = "orange is negative, grey is zero, blue is positive"


def printable(text: object, sink: str = "terminal") -> str:
    r"""Return ``text`` on one line, safe for a sink: every string from a file goes through this.

    Control and other unprintable characters are escaped for all sinks; in addition, for ``html``
    and ``markdown`` what would be markup, and for ``csv`` what a spreadsheet would take for a
    formula. XML writers escape markup themselves: for them, ``terminal`` is enough.

    Examples
    --------
    >>> printable("digit\x1b[2J.png")
    'digit\\x1b[2J.png'
    >>> printable("<b>|", "html"), printable("<b>|", "markdown"), printable("=1+1", "csv")
    ('&lt;b&gt;|', '\\<b>\\|', "'=1+1")
    """
    return SINKS[sink](
        "".join(
            c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii")
            for c in str(text)
        )
    )


def _in_markdown(text: str) -> str:
    return re.sub(r"[\\|<\[]", r"\\\g<0>", text)


def _in_html(text: str) -> str:
    from html import escape  # its table of entities takes time to import

    return escape(text)


def _in_csv(text: str) -> str:
    formula = text[:1] in ("=", "+", "-", "@") and not NUMBER.fullmatch(text)
    return f"'{text}" if formula else text


NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
SINKS: Final[Mapping[str, Callable[[str], str]]] = MappingProxyType(
    {"terminal": str, "html": _in_html, "markdown": _in_markdown, "csv": _in_csv}
)


def table(
    rows: Iterable[Sequence[object]],
    align: str = "<",
    *,
    gap: str = "  ",
    min_widths: Sequence[int] = (0,),
) -> str:
    """Return rows of cells as aligned text, each column as wide as its longest cell.

    Examples
    --------
    >>> print(table([("layer", "weights"), ("conv1", "156"), ("fc2", "10,164")], "<>"))
    layer  weights
    conv1      156
    fc2     10,164
    """
    return "\n".join(gap.join(line).rstrip() for line in _padded(rows, align, min_widths))


def markdown_table(rows: Iterable[Sequence[object]], align: str = "<") -> str:
    r"""Return rows of cells as a Markdown table that is aligned as text, too.

    Examples
    --------
    >>> print(markdown_table([("layer", "weights"), ("conv1", 156), ("fc2", 10164)], "<>"))
    | layer | weights |
    | ----- | ------: |
    | conv1 |     156 |
    | fc2   |   10164 |
    """
    escaped = ([printable(cell, "markdown") for cell in row] for row in rows)
    head, *body = _padded(escaped, align, (3,))
    rule = [
        "-" * (len(cell) - 1) + (":" if side == ">" else "-")
        for cell, side in zip(head, _extended(align), strict=False)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *body))


def _padded(
    rows: Iterable[Sequence[object]], align: str, min_widths: Sequence[int]
) -> list[list[str]]:
    if not align or set(align) - set("<>"):
        raise ValueError(f"align is {align!r}; use < and >, one for each column")
    cells = [list(map(printable, row)) for row in rows]
    widths = [
        max(least, *map(len, column))
        for column, least in zip(zip(*cells, strict=True), _extended(min_widths), strict=False)
    ]
    return [
        [
            cell.ljust(width) if side == "<" else cell.rjust(width)
            for cell, width, side in zip(row, widths, _extended(align), strict=False)
        ]
        for row in cells
    ]


def _extended(values: Sequence[T]) -> Iterable[T]:
    """Return ``values``, then the last one without end."""
    return chain(values, repeat(values[-1]))


def clipped(text: str) -> str:
    """Cut ``text`` to a length that fits in an error message."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def listed(names: Iterable[str], conjunction: str) -> str:
    """Join names with commas, and the last one with a conjunction.

    Examples
    --------
    >>> listed(["max", "average", "none"], "or")
    'max, average or none'
    """
    *most, last = names
    return f"{', '.join(most)} {conjunction} {last}" if most else last


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word most similar to ``word``, if one is similar enough."""
    from difflib import get_close_matches  # needed for an error only

    return next(iter(get_close_matches(clipped(word), list(known), n=1)), None)


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

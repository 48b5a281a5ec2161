"""Parts of the page that several sections use: tables, notes and columns, as HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape

from lenet.report.page import scrolling
from lenet.report.run_summary import RunSummary


def columns(runs: Sequence[RunSummary], content: Callable[[RunSummary], str]) -> str:
    """Return the ``content`` of every run, side by side."""
    several = len(runs) > 1
    return '<div class="grid">' + "".join(
        f"<article>{f'<h3>{escape(run.name)}</h3>' if several else ''}{content(run)}</article>"
        for run in runs
    ) + "</div>"  # fmt: skip


def table(runs: Sequence[RunSummary], rows: Iterable[tuple[str, Sequence[str], str]]) -> str:
    """Return a table with a column for every run; a row is a heading, cells and a CSS class."""
    heads = "".join(f'<th scope="col">{escape(run.name)}</th>' for run in runs)
    body = "".join(
        f'<tr class="{style}"><th scope="row">{escape(heading)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for heading, cells, style in rows
    )
    return scrolling(
        "table",
        f'<table class="facts"><thead><tr><td></td>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table>",
    )


def note(text: str) -> str:
    """Return a remark."""
    return f'<p class="note">{escape(text)}</p>'


def percent(share: float | None) -> str:
    """Return a share in per cent."""
    return "–" if share is None else f"{100 * share:.2f} %"

"""The elements of the page that several sections use: the frame, tables, notes and columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files

from lenet.report.run_summary import RunSummary
from lenet.system.text import printable
from lenet.version import __version__

CONTENT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def escape(text: object) -> str:
    """Return a text as HTML."""
    return printable(text, "html")


def html_page(
    title: str,
    subtitle: str,
    sections: Iterable[tuple[str, str]],
    *,
    summary: str = "",
    layout: str = "stacked",
) -> str:
    """Return a page in the style of ``report.css``."""
    style = files("lenet.report").joinpath("report.css").read_text(encoding="utf-8")
    body = "\n".join(
        f'<section class="{name}" aria-labelledby="{name}">\n<h2 id="{name}">{escape(heading)}</h2>'
        f"\n{content}\n</section>"
        for heading, content in sections
        for name in [heading.lower().replace(" ", "-")]
    )
    lead = f'<p class="summary">{escape(summary)}</p>\n' if summary else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>
<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}"/>
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p>{subtitle} · lenet {__version__}</p>
{lead}</header>
<main class="{layout}">
{body}
</main>
</body>
</html>
"""


def scrolling(label: str, content: str) -> str:
    """Return ``content`` in a box that scrolls, by keyboard too, where it is wider than a phone."""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">'
        f"{content}</div>"
    )


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

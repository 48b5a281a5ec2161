"""A self-contained HTML page: no script, no other file, and valid XML too."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files

from lenet.version import __version__

CONTENT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def html_page(
    title: str,
    subtitle: str,
    sections: Iterable[tuple[str, str]],
    *,
    summary: str = "",
    layout: str = "stacked",
) -> str:
    """Return a page in the style of ``report.css``.

    Parameters
    ----------
    title
        Text.
    subtitle
        HTML, shown below the title before the version of the package.
    sections
        The heading of each section, as text, and its content, as HTML. A section's anchor and
        class in the style are its heading, in lower case and with hyphens.
    summary
        Text below the title.
    layout
        The class in the style that places the sections on a wide screen.
    """
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

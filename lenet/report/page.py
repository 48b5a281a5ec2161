"""A self-contained HTML page: no script, no other file, and valid XML too."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files

from lenet.version import __version__

CONTENT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def html_page(title: str, subtitle: str, sections: Iterable[tuple[str, str]]) -> str:
    """Return a page in the style of ``report.css``.

    Parameters
    ----------
    title
        Text.
    subtitle
        HTML, shown below the title before the version of the package.
    sections
        The heading of each section, as text, and its content, as HTML.
    """
    style = files("lenet.report").joinpath("report.css").read_text(encoding="utf-8")
    body = "\n".join(
        f'<section aria-labelledby="s{k}">\n<h2 id="s{k}">{escape(heading)}</h2>\n{content}\n'
        "</section>"
        for k, (heading, content) in enumerate(sections)
    )
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
</header>
<main>
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

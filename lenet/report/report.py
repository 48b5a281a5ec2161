"""A report on one training run, or on several side by side, as a single HTML page.

The page contains its images and needs no script and no other file. It is also valid XML; its style
is ``report.css`` beside this file.

In order: the page, configuration and machine. The other sections have files of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from operator import attrgetter

from lenet.config.schema import SETTINGS, Config
from lenet.report.classes import ABOUT_MISTAKES, class_tables, worst_mistakes
from lenet.report.curves import curves
from lenet.report.filters import ABOUT_FILTERS, filters
from lenet.report.page import html_page
from lenet.report.parts import columns, note, table
from lenet.report.results import results, summary
from lenet.report.run_summary import RunSummary
from lenet.system.text import printable

MAX_LISTED = 6  # parts of a value in the table of the configuration
LAYOUTS = ((2, "beside"), (4, "below"))  # of runs up to these numbers, classes of the style


def to_html(runs: Sequence[RunSummary]) -> str:
    """Return the page about ``runs``."""
    sets = ", ".join(dict.fromkeys(run.data for run in runs))
    names = ", ".join(f"<code>{escape(run.name)}</code>" for run in runs)
    sections = (
        ("Results", results(runs)),
        ("Training", curves(runs)),
        ("Classes", columns(runs, lambda run: class_tables(run, runs.index(run)))),
        ("Worst mistakes", note(ABOUT_MISTAKES) + columns(runs, worst_mistakes)),
        ("Filters", note(ABOUT_FILTERS) + columns(runs, filters)),
        ("Configuration", _configuration(runs)),
        ("Machine", _machine(runs)),
    )
    return html_page(
        f"Training on {sets}",
        names,
        sections,
        summary=summary(runs),
        layout=next((name for most, name in LAYOUTS if len(runs) <= most), "stacked"),
    )


# --- Configuration and machine ------------------------------------------------------------------


def _configuration(runs: Sequence[RunSummary]) -> str:
    """Return the keys that are not the default or differ, and below them, folded, all keys."""
    default, rows, rest = Config(), [], []
    for key in SETTINGS:
        read = attrgetter(key)
        values = [read(run.checkpoint.config) for run in runs]
        differs = any(value != values[0] for value in values)
        row = key, [printable(_written(value)) for value in values], "differs" if differs else ""
        rest.append(row)
        if differs or any(value != read(default) for value in values):
            rows.append(row)
    chosen = table(runs, rows) if rows else "<p>All keys have their defaults.</p>"
    return (
        f'<div class="card fit">{note("Keys that are not the default, or differ.")}{chosen}'
        f"<details><summary>All keys</summary>{table(runs, rest)}</details></div>"
    )


def _written(value: object) -> str:
    match value:
        case None:
            return "null"
        case tuple() if len(value) > MAX_LISTED:
            first = ", ".join(map(str, value[:MAX_LISTED]))
            return f"{first}, … ({len(value)} in all)"
        case tuple():
            return ", ".join(map(str, value))
        case float():
            return f"{value:g}"
    return str(value)


def _machine(runs: Sequence[RunSummary]) -> str:
    keys = dict.fromkeys(key for run in runs for key in run.checkpoint.facts)
    rows = [
        (key, [printable(run.checkpoint.facts.get(key, "–")) for run in runs], "") for key in keys
    ]
    return f'<div class="card fit">{table(runs, rows)}</div>'

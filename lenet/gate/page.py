"""The gate's verdict as an HTML page, with the trend over the recorded runs as figures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from lenet.gate.trend import Trend
from lenet.gate.verdict import COLUMNS, Verdict, cells
from lenet.report.charts import Line, line_chart
from lenet.report.page import html_page, scrolling


def to_html(verdict: Verdict, trends: Sequence[Trend]) -> str:
    """Return the page; without trends it has no figures."""
    sections = [("Checks", _checks(verdict))]
    if trends:
        sections.append(("Trend", f'<div class="grid">{"".join(map(_figure, trends))}</div>'))
    return html_page("Regression gate", escape(verdict.summary), sections)


def _checks(verdict: Verdict) -> str:
    heads = "".join(f'<th scope="col">{column}</th>' for column in COLUMNS)
    rows = ""
    for check in verdict.checks:
        name, *others = map(escape, cells(check))
        style = ' class="differs"' if check.passed is False else ""
        columns = "".join(f"<td>{cell}</td>" for cell in others)
        rows += f'<tr{style}><th scope="row">{name}</th>{columns}</tr>'
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="card fit">{scrolling("checks", table)}</div>'


def _figure(trend: Trend) -> str:
    line = Line(trend.metric, int(trend.drift() is not None), trend.values)
    chart = line_chart(trend.metric, [line], "{:.4g}".format, log=False, x="run", from_zero=False)
    check = trend.check()
    caption = f"{trend.metric}: {check.measured}, tolerance {check.tolerance}"
    return f'<figure class="card"><figcaption>{escape(caption)}</figcaption>{chart}</figure>'

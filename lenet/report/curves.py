"""The learning curves of the runs: what is plotted, the charts of the page, and the numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from lenet.report.charts import Line, line_chart
from lenet.report.page import scrolling
from lenet.report.parts import percent
from lenet.report.run_summary import RunSummary

COLOURS = 6  # colours of runs in the style; the seventh run has the first again
SWATCH = '<svg viewBox="0 0 28 10" aria-hidden="true">{}</svg>'
LINE = '<line class="{}" x1="0" x2="28" y1="5" y2="5"/>'
BEST = '<circle class="plain best" cx="14" cy="5" r="4.5"/>'


@dataclass(frozen=True)
class Chart:
    """A quantity over the epochs, a line or two for each run.

    Attributes
    ----------
    title
        The quantity.
    lines
        At least one number in all of them.
    form
        The format of a value.
    log
        Whether the axis is logarithmic.
    """

    title: str
    lines: Sequence[Line]
    form: str
    log: bool


def charts(runs: Sequence[RunSummary]) -> list[Chart]:
    """Return loss, error, learning rate and speed of the runs."""
    several = len(runs) > 1

    def lines(what: str, column: str, dashed: bool, show: Callable[[float], float]) -> list[Line]:
        return [
            Line(
                f"{run.name} {what}" if several else what,
                k % COLOURS,
                [None if (y := getattr(e, column)) is None else show(y) for e in run.log],
                dashed,
                best=run.checkpoint.epoch,
                number=k + 1 if several else None,
            )
            for k, run in enumerate(runs)
        ]

    def both(column: str, show: Callable[[float], float]) -> list[Line]:
        found = lines("validation", f"val_{column}", False, show)
        return [
            *lines("training", f"train_{column}", True, show),
            *(line for line in found if any(y is not None for y in line.y)),
        ]

    rate = lines("learning rate", "lr", False, float)
    speed = lines("images/s", "images_per_second", False, float)
    return [
        Chart("Loss", both("loss", float), "{:.2g}", True),
        Chart("Error, %", both("accuracy", lambda share: 100 * (1 - share)), "{:.3g}", True),
        Chart("Learning rate", rate, "{:.3g}", False),
        Chart("Images per second", speed, "{:,.0f}", False),
    ]


def curves(runs: Sequence[RunSummary]) -> str:
    """Return the charts, their legend, and the numbers as tables."""
    several = len(runs) > 1
    figures = "".join(
        f'<figure class="card"><figcaption>{chart.title}</figcaption>'
        f"{line_chart(chart.title, chart.lines, chart.form.format, chart.log)}</figure>"
        for chart in charts(runs)
    )
    styles = [("plain", "validation"), ("plain dashed", "training")]
    if several:
        styles += [(f"run{k % COLOURS}", f"{k + 1} {run.name}") for k, run in enumerate(runs)]
    entries = [*((LINE.format(style), words) for style, words in styles), (BEST, "best epoch")]
    legend = "".join(f"<li>{SWATCH.format(drawn)}{escape(words)}</li>" for drawn, words in entries)
    return (
        f'<ul class="legend">{legend}</ul><div class="grid charts">{figures}</div>'
        f"{_log_table(runs)}"
    )


def _log_table(runs: Sequence[RunSummary]) -> str:
    """Return the numbers of the curves as a table."""
    heads = "".join(
        f'<th scope="col">{head}</th>'
        for head in ("Epoch", "Loss", "Accuracy", "Validation loss", "Validation accuracy")
    )
    tables = ""
    for run in runs:
        rows = "".join(
            f'<tr><th scope="row">{e.epoch}</th><td>{e.train_loss:.4f}</td>'
            f"<td>{percent(e.train_accuracy)}</td>"
            f"<td>{'–' if e.val_loss is None else f'{e.val_loss:.4f}'}</td>"
            f"<td>{percent(e.val_accuracy)}</td></tr>"
            for e in run.log
        )
        tables += scrolling(
            f"epochs of {run.name}",
            f"<table><caption>{escape(run.name)}</caption><thead><tr>{heads}</tr></thead>"
            f"<tbody>{rows}</tbody></table>",
        )
    return f'<details><summary>The numbers</summary><div class="grid">{tables}</div></details>'

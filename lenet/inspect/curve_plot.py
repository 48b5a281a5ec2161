"""A plot of learning curves: the charts of ``lenet report`` as one figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lenet.inspect.figures import new_figure, plain_text
from lenet.inspect.plots import CLASS_COLOURS
from lenet.report.charts import Line, epoch_ticks, linear_ticks, log_ticks
from lenet.report.curves import Chart

COLUMNS = 2


def curves(charts: Sequence[Chart], title: str) -> Any:  # noqa: ANN401
    """Draw charts over the epochs, a colour for each run; a dot marks the best epoch."""
    rows = -(-len(charts) // COLUMNS)
    figure = new_figure(9, 3.1 * rows + 0.8, f"{title}; dots: the best epoch")
    for axes, chart in zip(
        figure.subplots(rows, COLUMNS, squeeze=False).flat, charts, strict=False
    ):
        for line in chart.lines:
            _draw(axes, line)
        axes.set_title(chart.title, loc="left")
        axes.set_xlabel("epoch")
        _set_ticks(axes, chart)
        axes.grid(axis="y", color="0.85", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    handles = [drawn for drawn in figure.axes[0].lines if not drawn.get_label().startswith("_")]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _draw(axes: Any, line: Line) -> None:  # noqa: ANN401
    known = [(epoch, y) for epoch, y in enumerate(line.y, start=1) if y is not None]
    if not known:
        return
    colour = CLASS_COLOURS[line.run % len(CLASS_COLOURS)]
    number = "" if line.number is None else f"{line.number} "
    axes.plot(
        *zip(*known, strict=True), "--" if line.dashed else "-", color=colour,
        linewidth=1.1 if line.dashed else 1.6, label=number + plain_text(line.label),
    )  # fmt: skip
    for epoch, y in known:
        if epoch == line.best:
            axes.plot(epoch, y, "o", color=colour, markersize=6)
    if line.number is not None and not line.dashed:
        epoch, y = known[-1]
        axes.annotate(str(line.number), (epoch, y), (4, 0), textcoords="offset points", va="center")


def _set_ticks(axes: Any, chart: Chart) -> None:  # noqa: ANN401
    """Set the round ticks that the page has too."""
    values = [y for line in chart.lines for y in line.y if y is not None]
    axes.set_xticks(epoch_ticks(max(len(line.y) for line in chart.lines)))
    if chart.log and min(values) > 0:
        axes.set_yscale("log")
        low, high = min(values) / 1.1, max(values) * 1.1
        ticks = log_ticks(low, high)
    else:
        ticks = linear_ticks(max(values))
        low, high = 0, ticks[-1]
    axes.set_ylim(low, high)
    axes.set_yticks(ticks, [f"{tick:,g}" for tick in ticks])
    axes.set_yticks([], minor=True)

"""The charts of the report as SVG: learning curves over the epochs."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from lenet.report.elements import escape, percent, scrolling
from lenet.report.run_summary import RunSummary

WIDTH, HEIGHT = 360, 230
LEFT, RIGHT, TOP, BOTTOM = 48, 18, 10, 34  # margins around the plot
MAX_MARKERS = 40  # points of a line up to which each has a marker


@dataclass(frozen=True)
class Line:
    """A line of a chart: y at x = 1, 2, …, which are epochs or runs; None leaves a gap.

    Attributes
    ----------
    label
        What the line shows.
    run
        The number of its colour.
    y
        A number for each epoch or run.
    dashed
        Whether it is dashed, to tell training from validation.
    best
        The epoch that is marked, if any.
    number
        Written at the end of the line, so that runs can be told apart in grey.
    """

    label: str
    run: int
    y: Sequence[float | None]
    dashed: bool = False
    best: int | None = None
    number: int | None = None


SMALLEST, LARGEST = 1e-300, 1e300  # of the numbers of an axis, whatever a log contains


def line_chart(
    title: str,
    lines: Sequence[Line],
    show: Callable[[float], str],
    log: bool,
    *,
    x: str = "epoch",
    from_zero: bool = True,
) -> str:
    """Return a chart over epochs or runs as SVG."""
    values = [min(max(y, -LARGEST), LARGEST) for line in lines for y in line.y if y is not None]
    epochs = max(len(line.y) for line in lines)
    if log:
        positive = [y for y in values if y > SMALLEST] or [1.0]
        low, high = min(positive) / 1.1, max(positive) * 1.1
        ticks = log_ticks(low, high)
    else:
        base = 0.0 if from_zero else min(values)
        ticks = linear_ticks(max(max(values), base + SMALLEST), base)
        low, high = ticks[0], ticks[-1]

    def px(epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (epoch - 1) / max(1, epochs - 1)

    def py(y: float) -> float:
        y = min(max(y, low), high)
        part = math.log(y / low) / math.log(high / low) if log else (y - low) / (high - low)
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * part

    label = escape(f"{title} by {x}: " + "; ".join(_description(line, show) for line in lines))
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">']
    for tick in ticks:
        y = py(tick)
        parts.append(
            f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:,g}</text>')
    parts += [
        f'<text x="{px(epoch):.1f}" y="{HEIGHT - 16}" text-anchor="middle">{epoch}</text>'
        for epoch in epoch_ticks(epochs)
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{HEIGHT - 2}" text-anchor="middle">{x}</text>'
    )
    parts += [_polyline(line, px, py, show, x) for line in lines]
    return "".join([*parts, "</svg>"])


def _polyline(
    line: Line,
    px: Callable[[float], float],
    py: Callable[[float], float],
    show: Callable[[float], str],
    x: str,
) -> str:
    known = [(epoch, y) for epoch, y in enumerate(line.y, start=1) if y is not None]
    style = f"run{line.run}{' dashed' if line.dashed else ''}"
    points = " ".join(f"{px(epoch):.1f},{py(y):.1f}" for epoch, y in known)
    drawn = f'<polyline class="{style}" points="{points}"/>'
    for epoch, y in known:
        if epoch != line.best and len(known) > MAX_MARKERS:
            continue
        mark, radius, words = (" best", 4.5, " (best)") if epoch == line.best else ("", 2.5, "")
        label = escape(f"{line.label}, {x} {epoch}{words}: {show(y)}")
        drawn += (
            f'<circle class="{style}{mark}" cx="{px(epoch):.1f}" cy="{py(y):.1f}" r="{radius}">'
            f"<title>{label}</title></circle>"
        )
    if line.number is not None and not line.dashed and known:
        epoch, y = known[-1]
        drawn += f'<text x="{px(epoch) + 6:.1f}" y="{py(y) + 4:.1f}">{line.number}</text>'
    return drawn


def _description(line: Line, show: Callable[[float], str]) -> str:
    known = [y for y in line.y if y is not None]
    return f"{line.label} from {show(known[0])} to {show(known[-1])}" if known else line.label


def linear_ticks(highest: float, lowest: float = 0.0) -> list[float]:
    """Return round numbers from at most ``lowest`` to at least ``highest``, three to eight of them.

    Examples
    --------
    >>> linear_ticks(23.0)
    [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]
    >>> [f"{tick:.3f}" for tick in linear_ticks(0.897, 0.884)]
    ['0.880', '0.885', '0.890', '0.895', '0.900']
    """
    span = highest - lowest
    if not span > 0:
        return [lowest, lowest + (abs(lowest) or 1.0)]
    power = 10 ** math.floor(math.log10(span))
    step = next(power * part for part in (0.2, 0.5, 1, 2) if power * part * 6 >= span)
    first = math.floor(lowest / step + 1e-9)
    return [k * step for k in range(first, math.ceil(highest / step - 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers from ``low`` to ``high``, at least two.

    They are the powers of ten, or if there are fewer than three, 1, 2 and 5 times the powers, or if
    these are too few as well, the multiples of a round step.

    Examples
    --------
    >>> log_ticks(0.03, 0.6)
    [0.05, 0.1, 0.2, 0.5]
    >>> log_ticks(20.5, 91), log_ticks(0.02, 30)
    ([40.0, 60.0, 80.0], [0.1, 1.0, 10.0])
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for parts in ((1,), (1, 2, 5)):
        ticks = [float(f"{part}e{power}") for power in powers for part in parts]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) > 2:
            return inside
    step = next(step for step in _round_numbers(high) if high // step - low // step >= 2)
    first = math.ceil(low / step)
    return [float(f"{k * step:.6g}") for k in range(first, math.floor(high / step) + 1)]


def _round_numbers(start: float) -> Iterator[float]:
    """Yield 5, 2 and 1 times powers of ten, from about ``start`` downwards."""
    power = math.floor(math.log10(start))
    for exponent in count(power, -1):
        yield from (float(f"{part}e{exponent}") for part in (5, 2, 1))


def epoch_ticks(epochs: int) -> list[int]:
    """Return up to eight round epoch numbers, always with the first.

    Examples
    --------
    >>> epoch_ticks(20)
    [1, 5, 10, 15, 20]
    """
    steps = (part * 10**power for power in count() for part in (1, 2, 5))
    step = next(step for step in steps if epochs / step <= 8)
    return sorted({1, *range(step, epochs + 1, step)} - ({2} if step == 2 else set()))


def png(pixels: NDArray[np.uint8]) -> str:
    """Return an image as a ``data:`` URL: grey (H,W), RGB (H,W,3) or RGBA (H,W,4)."""
    height, width = pixels.shape[:2]
    colour_type = {1: 0, 3: 2, 4: 6}[pixels.size // (height * width)]
    rows = pixels.reshape(height, -1)
    unfiltered = np.hstack([np.zeros((height, 1), np.uint8), rows]).tobytes()
    chunks = (
        (b"IHDR", struct.pack(">2I5B", width, height, 8, colour_type, 0, 0, 0)),
        (b"IDAT", zlib.compress(unfiltered, 9)),
        (b"IEND", b""),
    )
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return "data:image/png;base64," + base64.b64encode(content).decode()


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

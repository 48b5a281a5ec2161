"""Plots of gradients, of the winners of max pooling, and of what a unit depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from lenet.arrays import Array
from lenet.inspect.canvas import (
    FRAMES,
    colour_spines,
    draw_sheet,
    explain,
    frame,
    largest,
    name_classes,
    new_figure,
    outlined,
    plain_text,
    sheet_height,
    show,
    show_channels,
    show_signed,
    show_signed_channels,
    spanned,
    times,
    write_numbers,
)
from lenet.inspect.responses import Winners, activations
from lenet.inspect.units import Unit, gradient, project
from lenet.nn.network import Network
from lenet.system.text import WORDS

PER_ROW: Final = 8
MAX_MAPS: Final = 4  # of a pooling
MAX_COLUMNS: Final = 7  # of a map in which gradients are written
HATCHES: Final = ("", "///")


def gradients(
    x: Array, found: Mapping[str, dict[str, Array]], class_names: Sequence[str], caption: str
) -> Any:  # noqa: ANN401
    """Draw the gradient of the loss by every layer's output, a column for each of two labels."""
    first = next(iter(found.values()))
    heights = [0.6 + sheet_height(dy, 4.4, PER_ROW, 0.9) for dy in reversed(first.values())]
    figure = new_figure(10, 2.9 + sum(heights), f"The gradient of the loss for {caption}")
    top, below = figure.subfigures(2, height_ratios=[2.4, sum(heights)])
    image, sizes = top.subplots(1, 2, width_ratios=[1, 3])
    show_channels(image, x[..., 0], spanned(x))
    image.set_title(f"input {times(x.shape[:-1])}")
    _draw_sizes(sizes, found)

    grid = below.subplots(len(heights), 2, squeeze=False, height_ratios=heights)
    for column, (label, by_layer) in zip(grid.T, found.items(), strict=True):
        for axes, (name, dy) in zip(column, reversed(by_layer.items()), strict=True):
            scale = draw_sheet(axes, dy, PER_ROW, limit=largest(dy))
            words = scale if dy.any() else "all zero"
            axes.set_title(f"{plain_text(name)}  {times(dy.shape)} · {words}", loc="left")
        name_classes(column[0], class_names)
        column[0].set_title(f"label {plain_text(label)}\n{column[0].get_title('left')}", loc="left")
    explain(
        below,
        f"∂E/∂y of every layer's output y, the last layer first. {WORDS.capitalize()}. Each panel "
        "has its own scale; the bars compare them.",
    )
    return figure


def _draw_sizes(axes: Any, found: Mapping[str, Mapping[str, Array]]) -> None:  # noqa: ANN401
    """Draw the largest gradient of every layer as a bar, for each label."""
    names = list(next(iter(found.values())))[::-1]
    for k, (label, by_layer) in enumerate(found.items()):
        sizes = [np.abs(by_layer[name]).max() for name in names]
        places = np.arange(len(names)) + 0.4 * k - 0.2
        axes.bar(
            places, sizes, 0.4, color=("0.35", "0.85")[k], edgecolor="black", hatch=HATCHES[k],
            label=f"label {plain_text(label)}",
        )  # fmt: skip
    axes.set_xticks(range(len(names)), map(plain_text, names), rotation=30, ha="right")
    if any(dy.any() for by_layer in found.values() for dy in by_layer.values()):
        axes.set_yscale("log")
    axes.set_title("largest |∂E/∂y|", loc="left")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)


def switches(found: Winners, caption: str) -> Any:  # noqa: ANN401
    """Draw the maps of a max pooling with the largest gradients: the winners, and what they get."""
    strongest = np.argsort(-np.abs(found.dy).max(axis=(1, 2)), kind="stable")[:MAX_MAPS]
    name = found.pooling.name
    title = f"The winners of {name} for {caption}"
    figure = new_figure(9, 0.9 + 2.3 * len(strongest), title)
    rows = figure.subplots(len(strongest), 4, squeeze=False)
    signed = found.x.min() < 0
    for (x, y, dy, dx), c in zip(rows, strongest, strict=True):
        end = largest(found.x)
        draw = partial(show_signed, largest=end) if signed else partial(show, limits=(0, end))
        draw(x, found.x[c])
        write_numbers(y, draw(y, found.y[c]), "{:.1f}", size=6)
        end = largest(found.dy[c])
        drawn = show_signed(dy, found.dy[c], end)
        if found.dy.shape[2] <= MAX_COLUMNS:
            write_numbers(dy, drawn, "{:.1g}", size=6)
        show_signed(dx, found.dx[c], end)
        for axes in (x, dx):
            _ring(axes, found, int(c))
            _draw_windows(axes, found)
        x.set_ylabel(f"map {c}")
    headings = "input, winners ringed", "maxima", "gradient of the maxima", "gradient of the input"
    for axes, words in zip(rows[0], headings, strict=True):
        axes.set_title(words)
    explain(
        figure,
        "The winner of each window gets the window's whole gradient, the other pixels none; of "
        f"equal pixels the first wins. Gradients: {WORDS}; each map has its own scale.",
    )
    return figure


def _ring(axes: Any, found: Winners, c: int) -> None:  # noqa: ANN401
    size = (90 / max(found.x.shape[1:])) ** 2  # in points: about two thirds of a pixel
    axes.scatter(
        found.columns[c], found.rows[c], s=size, facecolors="none", edgecolors=FRAMES[0],
        linewidths=1, path_effects=outlined("black", 2),
    )  # fmt: skip


def _draw_windows(axes: Any, found: Winners) -> None:  # noqa: ANN401
    """Draw the lines between windows, where they do not overlap."""
    pooling = found.pooling
    if pooling.kernel != pooling.stride or pooling.dilation != (1, 1):
        return
    (sh, sw), (top, left, _, _), (H, W) = pooling.stride, pooling.edges, found.x.shape[1:]
    axes.hlines(np.arange(sh - top, H, sh) - 0.5, -0.5, W - 0.5, "0.35", linewidth=0.6)
    axes.vlines(np.arange(sw - left, W, sw) - 0.5, -0.5, H - 0.5, "0.35", linewidth=0.6)


def field(network: Network, x: Array, units: Sequence[Unit], caption: str) -> Any:  # noqa: ANN401
    """Draw a path of units, one of each layer: their nested receptive fields, and their maps."""
    outputs = activations(network, x)
    last = units[-1]
    title = f"The receptive field of unit {last.index} of {last.layer} on {caption}"
    columns = min(len(units), 5)
    rows = -(-len(units) // columns)
    figure = new_figure(9, 5.4 + 2.7 * rows, title)
    above, below = figure.subfigures(2, height_ratios=[4.8, 2.7 * rows + 0.6])
    image = above.subplots()
    show_channels(image, x[..., 0], spanned(x))
    image.set_title(f"input {times(x.shape[:-1])}", pad=10)
    for k in range(len(units))[::-1]:  # the largest first, with the widest line
        frame(image, units[k].field, FRAMES[k], line=2 + 1.3 * k)
    grid = below.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(units) :]:
        axes.set_axis_off()
    for axes, unit, colour in zip(grid, units, FRAMES, strict=False):
        y = outputs[unit.layer]
        if y.min() < 0:
            show_signed(axes, np.atleast_2d(y[unit.index]), largest(y))
        else:
            show(axes, np.atleast_2d(y[unit.index]), (0, largest(y)))
        frame(axes, (*unit.place, 1, 1), colour)
        top, left, height, width = unit.field
        axes.set_title(
            f"{plain_text(unit.layer)} depends on {height}×{width}\nfrom row {top}, column {left}\n"
            f"map {unit.index} of {times(y.shape)}\nat {unit.place}: {unit.value:.2g}"
        )
        colour_spines(axes, colour, line=3)
    explain(
        below,
        "A frame contains the pixels on which a unit depends; below, the unit in its map, in the "
        f"same colour. In every layer below {plain_text(last.layer)} it is the unit that adds most "
        f"to the one above. Where a layer has numbers below zero, {WORDS}.",
    )
    return figure


def deconv(network: Network, x: Array, units: Sequence[Unit], caption: str) -> Any:  # noqa: ANN401
    """Draw, for units above zero of one layer, their deconvolution and their gradient."""
    name = units[0].layer
    title = f"The pixels behind units of {name} for {caption}"
    figure = new_figure(max(2.1 * (1 + len(units)), 8), 5.2, title)
    first, second = figure.subplots(2, 1 + len(units), squeeze=False)
    show_channels(first[0], x[..., 0], spanned(x))
    first[0].set_title("input")
    second[0].set_axis_off()
    for above, below, unit in zip(first[1:], second[1:], units, strict=True):
        show_signed_channels(above, project(network, x, unit))
        show_signed_channels(below, gradient(network, x, unit))
        for axes in (above, below):
            frame(axes, unit.field, FRAMES[0])
        above.set_title(f"unit {unit.index}: {unit.value:.2g} at {unit.place}")
    first[1].set_ylabel("deconvolution")
    second[1].set_ylabel("gradient")
    colours = "a colour is positive where it is more than grey" if len(x) == 3 else WORDS
    explain(
        figure,
        "Deconvolution as in Zeiler and Fergus (2014): not a derivative, so a step along it need "
        "not raise the unit. Gradient ∂unit/∂pixel: a small step along it raises the unit. "
        f"In both, {colours}; the frame is the receptive field.",
    )
    return figure

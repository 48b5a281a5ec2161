"""Plots of the backward pass: the gradient of every layer, and the winners of max pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from lenet.arrays import Array
from lenet.inspect.figures import (
    FRAMES,
    explain,
    largest,
    new_figure,
    outlined,
    plain_text,
    show,
    show_channels,
    show_signed,
    spanned,
    times,
    write_numbers,
)
from lenet.inspect.sheets import draw_sheet, name_classes, sheet_height
from lenet.inspect.winners import Winners
from lenet.system.text import WORDS

PER_ROW: Final = 8
MAX_MAPS: Final = 4  # of a pooling
MAX_COLUMNS: Final = 7  # of a map in which gradients are written
HATCHES: Final = ("", "///")


def gradients(
    x: Array, found: Mapping[str, dict[str, Array]], class_names: Sequence[str], caption: str
) -> Any:  # noqa: ANN401
    """Draw the gradient of the loss by every layer's output, a column for each of two labels.

    Parameters
    ----------
    x
        The image (C,H,W,1).
    found
        By the name of the label: :func:`lenet.inspect.layers.gradients`.
    class_names, caption
        The names of the classes and of the image.
    """
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

"""Plots of units: their receptive fields, and the pixels behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lenet.arrays import Array
from lenet.inspect.figures import (
    FRAMES,
    colour_spines,
    explain,
    frame,
    largest,
    new_figure,
    plain_text,
    show,
    show_channels,
    show_signed,
    show_signed_channels,
    spanned,
    times,
)
from lenet.inspect.layers import activations
from lenet.inspect.units import Unit, gradient, project
from lenet.nn.network import Network
from lenet.system.text import WORDS


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

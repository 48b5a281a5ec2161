"""A plot of the patch matrix, and of the convolution as its product with the weights."""

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
    number_columns,
    outlined,
    show,
    show_signed,
    spanned,
    times,
    write_numbers,
)
from lenet.inspect.products import Product, places_to_mark
from lenet.nn.im2col import extent
from lenet.system.text import WORDS

Place = tuple[int, int]


def patches(product: Product, bias: Array, caption: str) -> Any:  # noqa: ANN401
    """Draw how im2col arranges patches, one number of the product, and the whole product.

    Parameters
    ----------
    product
        The convolution of one image.
    bias
        Of its filters (F,).
    caption
        The name of the image.
    """
    conv = product.conv
    (kh, kw), (Ho, Wo) = conv.kernel, (conv.Ho, conv.Wo)
    c = int(product.x.var(axis=(1, 2)).argmax())
    rows = slice(c * kh * kw, (c + 1) * kh * kw)
    contrast = product.patches[rows].var(axis=0).reshape(Ho, Wo)
    places = places_to_mark(contrast, extent(conv.kernel, conv.dilation)[1])
    first = places[0][0] * Wo + places[0][1]
    connected = product.weights[:, rows].any(axis=1)
    f = int(np.where(connected, np.abs(product.z[:, first]), -1).argmax())
    figure = new_figure(9, 11, f"im2col: the patches of {conv.name} for {caption}")
    above, middle, below = figure.subfigures(3, height_ratios=[2.6, 3.4, 5])
    _draw_places(above, product, c, places)
    _draw_number(middle, product, float(bias[f]), (c, f, first))
    _draw_product(below, product, f, [i * Wo + j for i, j in places])
    explain(below, f"Weights, products and z: {WORDS}. Maps and filters are counted from 0.")
    return figure


def _draw_places(figure: Any, product: Product, c: int, places: Sequence[Place]) -> None:  # noqa: ANN401
    """Draw the patches at ``places`` on one map of the input, and each by itself."""
    conv = product.conv
    (sh, sw), (dh, dw) = conv.stride, conv.dilation
    eh, ew = extent(conv.kernel, conv.dilation)
    whole, *single = figure.subplots(1, 1 + len(places), width_ratios=[2, *[1] * len(places)])
    limits = spanned(product.x[c])
    show(whole, product.x[c], limits)
    of_map = f"map {c} of " if len(product.x) > 1 else ""
    padded = ", with its padding" if product.x.shape != conv.shape else ""
    whole.set_title(f"{of_map}the input {times(conv.shape)}{padded}")
    for number, (axes, (i, j)) in enumerate(zip(single, places, strict=True), start=1):
        top, left = i * sh, j * sw
        colour = FRAMES[number - 1]
        frame(whole, (top, left, eh, ew), colour)
        # The first two overlap: their numbers are written on different sides.
        corner, end, away = (0, "right", -3) if number == 1 else (ew, "left", 3)
        whole.annotate(
            str(number), (left + corner - 0.5, top - 0.5), (away, 3), ha=end,
            textcoords="offset points", color=colour, weight="bold",
            path_effects=outlined("black", 2.5),
        )  # fmt: skip
        show(axes, product.x[c, top : top + eh : dh, left : left + ew : dw], limits)
        axes.set_title(f"patch {number}")
        colour_spines(axes, colour)


def _draw_number(figure: Any, product: Product, bias: float, chosen: tuple[int, int, int]) -> None:  # noqa: ANN401
    """Draw how map c, filter f and patch p become one number of z, as ``chosen`` (c, f, p)."""
    c, f, p = chosen
    conv, K = product.conv, len(product.patches)
    kh, kw = conv.kernel
    rows = slice(c * kh * kw, (c + 1) * kh * kw)
    patch, weights = product.patches[:, p], product.weights[f]
    parts = weights * patch
    grid = figure.add_gridspec(2, 5, width_ratios=[2.2, 0.7, 0.7, 0.7, 3.2])
    limits, end = spanned(product.x), largest(weights)
    of_map = f", map {c}" if len(product.x) > 1 else ""

    axes = figure.add_subplot(grid[0, 0])
    write_numbers(axes, show(axes, patch[rows].reshape(kh, kw), limits))
    axes.set_title(f"patch 1{of_map}")
    colour_spines(axes, FRAMES[0])
    axes = figure.add_subplot(grid[1, 0])
    write_numbers(axes, show_signed(axes, weights[rows].reshape(kh, kw), end))
    axes.set_title(f"filter {f}{of_map}")

    for column, (title, numbers) in enumerate(
        (("→ column", patch), ("· weights", weights), ("= products", parts)), start=1
    ):
        axes = figure.add_subplot(grid[:, column])
        if column == 1:
            drawn = show(axes, numbers[:, None], limits, "auto")
        else:
            drawn = show_signed(axes, numbers[:, None], largest(numbers), "auto")
        write_numbers(axes, drawn, size=6)
        if len(product.x) > 1:
            frame(axes, (rows.start, 0, kh * kw, 1), FRAMES[0])
        axes.set_title(title)
        axes.set_xlabel(f"{K}×1")

    z = product.z[f].reshape(conv.Ho, conv.Wo) + bias
    i, j = divmod(p, conv.Wo)
    axes = figure.add_subplot(grid[:, 4])
    show_signed(axes, z, largest(z))
    frame(axes, (i, j, 1, 1), FRAMES[0])
    axes.set_title(
        f"→ sum {parts.sum():.3g} {'+' if bias >= 0 else '−'} bias {abs(bias):.3g} = {z[i, j]:.3g}"
        f"\nin map {f} of z, row {i}, column {j}"
    )


def _draw_product(figure: Any, product: Product, f: int, columns: Sequence[int]) -> None:  # noqa: ANN401
    """Draw the three matrices, with a row of the weights and some columns marked."""
    conv = product.conv
    F, K, P = conv.F, *product.patches.shape
    (C, kh, kw), (Ho, Wo) = (len(product.x), *conv.kernel), (conv.Ho, conv.Wo)
    (weights, cols), (empty, z) = figure.subplots(
        2, 2, width_ratios=[1, 4], height_ratios=[3, 2]
    )  # fmt: skip
    show_signed(weights, product.weights, largest(product.weights), "auto")
    weights.set_title(f"weights F×K = {F}×{K}")
    weights.set(xlabel="a row for each filter", yticks=[f], yticklabels=[f"filter {f} "])
    frame(weights, (f, 0, 1, K), FRAMES[0], line=1.5)
    show(cols, product.patches, spanned(product.patches), "auto")
    cols.set_title(
        f"· patch matrix K×P = {K}×{P}, K = C·kh·kw = {C}·{kh}·{kw}, P = Ho·Wo = {Ho}·{Wo}"
    )
    number_columns(cols, columns)
    cols.set(xlabel="a column for each patch (im2col() returns a row for each patch)")
    empty.set_axis_off()
    show_signed(z, product.z, largest(product.z), "auto")
    z.set(yticks=[f], yticklabels=[f"{f} "])
    number_columns(z, columns)
    z.set_title(f"= z F×P = {F}×{P}: each row is a map of {Ho}×{Wo} (without the bias)")

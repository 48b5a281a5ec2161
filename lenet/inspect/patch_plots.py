"""Plots of the patch matrix: from a patch to a number, and the gradient back to the input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import numpy as np

from lenet.arrays import Array
from lenet.inspect.canvas import (
    FRAMES,
    colour_spines,
    explain,
    frame,
    largest,
    new_figure,
    number_columns,
    outlined,
    plain_text,
    show,
    show_signed,
    spanned,
    times,
    write_numbers,
)
from lenet.inspect.products import BackwardProduct, Product, places_to_mark
from lenet.nn.im2col import extent
from lenet.system.text import WORDS

Place = tuple[int, int]


def patches(product: Product, bias: Array, caption: str) -> Any:  # noqa: ANN401
    """Draw how im2col arranges patches, one number of the product, and the whole product."""
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


def col2im(product: BackwardProduct, caption: str) -> Any:  # noqa: ANN401
    """Draw dcols = Wᵀ · dz, and col2im adding its patches up on one map, with their counts."""
    conv = product.conv
    (kh, kw), Wo, P = conv.kernel, conv.Wo, product.dz.shape[1]
    c = int(np.abs(product.add(np.ones(P, bool))).max(axis=(1, 2)).argmax())
    of_map = product.dcols[c * kh * kw : (c + 1) * kh * kw]
    places = places_to_mark(np.abs(of_map).max(axis=0).reshape(-1, Wo), kw)[:2]
    numbers = [i * Wo + j for i, j in places]
    figure = new_figure(9, 9.6, f"col2im: the gradient of the input of {conv.name} for {caption}")
    above, below = figure.subfigures(2, height_ratios=[4.2, 5])
    _draw_data_gradient(above, product, c, numbers)

    steps = list(_steps(numbers, places[0][0], Wo, P))
    sums = [product.add(chosen)[c] for _, chosen in steps]
    counts = [product.counts(chosen) for _, chosen in steps]
    first, second = below.subplots(2, len(steps))
    for axes, other, (title, chosen), total, count in zip(
        first, second, steps, sums, counts, strict=True
    ):
        show_signed(axes, total, largest(total))
        axes.set_title(f"{title}\n±{np.abs(total).max():.2g}")
        drawn = show(other, count, (0, max(1, int(counts[-1].max()))))
        write_numbers(other, drawn, "{:d}", size=6 if len(count) > 10 else 7)
        other.set_title(f"counts from {count.min()} to {count.max()}")
        for k, ((i, j), colour) in enumerate(zip(places, FRAMES, strict=False)):
            if k < np.count_nonzero(chosen) <= len(places):
                for each in (axes, other):
                    frame(each, _box_on_image(product, i, j), colour, line=1.5)
    first[0].set_ylabel(f"sum on map {c} of {times(conv.shape)}")
    second[0].set_ylabel("patches on each pixel")
    explain(
        below,
        f"Where patches overlap, they add up; the sum of all is dX. {WORDS.capitalize()}; each sum "
        "has its own scale.",
    )
    return figure


def _steps(numbers: Sequence[int], i: int, Wo: int, P: int) -> Iterable[tuple[str, Array]]:
    """Yield titles and choices of patches: one, its neighbour too, their row i, and all."""
    every = np.arange(P)
    yield "patch 1", every == numbers[0]
    yield (
        "patches 1 and 2" if len(numbers) > 1 else "the only patch of its row",
        np.isin(every, numbers),
    )
    yield f"the {Wo} patches of their row", every // Wo == i
    yield f"all {P} patches: dX", every >= 0


def _box_on_image(product: BackwardProduct, i: int, j: int) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a patch on the image without its padding."""
    (sh, sw), (above, before, _, _) = product.conv.stride, product.conv.edges
    (_, H, W), (eh, ew) = product.conv.shape, extent(product.conv.kernel, product.conv.dilation)
    top, left = max(i * sh - above, 0), max(j * sw - before, 0)
    bottom, right = min(i * sh - above + eh, H), min(j * sw - before + ew, W)
    return top, left, bottom - top, right - left


def _draw_data_gradient(
    figure: Any,  # noqa: ANN401
    product: BackwardProduct,
    c: int,
    columns: Sequence[int],
) -> None:
    """Draw Wᵀ · dz = dcols, with the rows of map c and some columns marked."""
    (F, P), (K, _), kernel = product.dz.shape, product.dcols.shape, product.conv.kernel
    (empty, dz), (weights, dcols) = figure.subplots(
        2, 2, width_ratios=[1, 4], height_ratios=[2, 3]
    )  # fmt: skip
    empty.set_axis_off()
    show_signed(dz, product.dz, largest(product.dz), "auto")
    dz.set_title(f"dz F×P = {F}×{P}, up to ±{np.abs(product.dz).max():.2g}")
    show_signed(weights, product.weights.T, largest(product.weights), "auto")
    weights.set_title(f"Wᵀ K×F = {K}×{F} ·")
    show_signed(dcols, product.dcols, largest(product.dcols), "auto")
    dcols.set_title(f"= dcols K×P = {K}×{P}: a column for each patch of the gradient")
    size = prod(kernel)
    if size < K:
        start = c * size
        frame(dcols, (start, 0, size, P), FRAMES[2], line=1.5)
        dcols.set(yticks=[start + size / 2 - 0.5], yticklabels=[f"map {c} "])
    number_columns(dz, columns)
    number_columns(dcols, columns)


def rotation(product: BackwardProduct, caption: str) -> Any:  # noqa: ANN401
    """Draw dX of one map by col2im, and by the full convolution with the turned kernels."""
    conv, (F, P) = product.conv, product.dz.shape
    whole = product.add(np.ones(P, bool))
    c = int(np.abs(whole).max(axis=(1, 2)).argmax())
    turned, maps = product.turned(c), product.spread()
    connected = turned.reshape(F, -1).any(axis=1)
    f = int(np.where(connected, np.abs(maps).max(axis=(1, 2)), -1).argmax())
    by_sum, by_turning = whole[c], product.full_convolution(c)
    i, j = (int(k) for k in np.unravel_index(np.abs(by_sum).argmax(), by_sum.shape))
    (eh, ew), (top, left, _, _) = extent(conv.kernel, conv.dilation), conv.edges

    title = f"Two ways to the gradient of the input of {conv.name} for {caption}"
    figure = new_figure(9, 6.9, title)
    (kernel, rotated, dz), (first, second, difference) = figure.subplots(2, 3)
    for axes, numbers in ((kernel, turned[f, ::-1, ::-1]), (rotated, turned[f])):
        write_numbers(axes, show_signed(axes, numbers, largest(numbers)), "{:.2f}")
    kernel.set_title(f"kernel of {plain_text(conv.name)}\nfilter {f}, input map {c}")
    rotated.set_title("the same\nturned by 180°")
    colour_spines(rotated, FRAMES[0])
    show_signed(dz, maps[f], largest(maps[f]))
    frame(dz, (i + top, j + left, eh, ew), FRAMES[0])
    stride = f", stride {times(conv.stride)}: zeros between" if max(conv.stride) > 1 else ""
    dz.set_title(f"dz, map {f} of {F}: {conv.Ho}×{conv.Wo}\nwith a border of zeros{stride}")
    end = largest(by_sum)
    for axes, numbers in ((first, by_sum), (second, by_turning)):
        show_signed(axes, numbers, end)
        frame(axes, (i, j, 1, 1), FRAMES[0])
    first.set_title(f"1. Wᵀ · dz, then col2im\n{by_sum[i, j]:.6g} in the frame")
    second.set_title(f"2. turned kernels over dz\n{by_turning[i, j]:.6g} in the frame")
    gap = by_turning - by_sum
    show_signed(difference, gap, end)
    difference.set_title(f"2. minus 1., on the same scale\nat most {np.abs(gap).max():.1g}")
    explain(
        figure,
        f"The pixel in the frame of dX is the sum over {F} maps of dz: a window of each, times its "
        f"kernel turned by 180°; one of them is shown. {WORDS.capitalize()}.",
    )
    return figure

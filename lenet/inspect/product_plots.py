"""Plots of a convolution's data gradient: col2im, and the kernel turned by 180°."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
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
    plain_text,
    show,
    show_signed,
    times,
    write_numbers,
)
from lenet.inspect.products import BackwardProduct, places_to_mark
from lenet.nn.im2col import extent
from lenet.system.text import WORDS


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

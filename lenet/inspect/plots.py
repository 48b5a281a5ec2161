"""Plots of a network, of its mistakes, and of the images of a data set.

The numbers come from :mod:`lenet.inspect.views`, the drawing from :mod:`lenet.inspect.figures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lenet.data.preprocessing import Preprocessing
from lenet.inspect import views
from lenet.inspect.figures import (
    FRAMES,
    frame,
    new_figure,
    number_tiles,
    outline_tiles,
    outlined,
    plain_text,
    show,
    show_channels,
    show_raw,
    spanned,
    symmetric,
    tiles,
    times,
)
from lenet.nn.im2col import Array, extent
from lenet.nn.network import Network
from lenet.system.extras import require
from lenet.training.calibration import BINS
from lenet.training.metrics import Evaluation
from lenet.training.mistakes import Mistake

MAX_TILES: Final = 16  # maps, filters or channels side by side
SAMPLES: Final = 14  # images in a row of the plots of data sets and mistakes


def filters(network: Network, names: Sequence[str]) -> Any:  # noqa: ANN401
    """Draw the kernels of convolutions: a column for each filter, a row for each input map."""
    convs = [views.find_convolution(network, name) for name in names]
    kernels = [conv.kernels[:MAX_TILES, :MAX_TILES].swapaxes(0, 1) for conv in convs]
    sheets = [tiles(tiled) for tiled in kernels]
    heights = [min(8 * sheet.shape[0] / sheet.shape[1], 7) + 0.5 for sheet in sheets]
    figure = new_figure(9, sum(heights) + 0.5, "Filters")
    rows = figure.subplots(len(convs), squeeze=False, height_ratios=heights)[:, 0]
    for axes, conv, tiled, sheet in zip(rows, convs, kernels, sheets, strict=True):
        F, C, kh, kw = conv.kernels.shape
        drawn = show(axes, sheet, symmetric(conv.kernels))
        outline_tiles(axes, tiled)
        axes.set_title(
            f"{conv.name}: {F} filters of {C}×{kh}×{kw}"
            f"{_first(MAX_TILES, F)}{' and their first maps' if C > MAX_TILES else ''}",
            loc="left",
        )
        axes.set(xlabel="filter", ylabel="input map")
        number_tiles(axes.xaxis, min(F, MAX_TILES), kw)
        number_tiles(axes.yaxis, min(C, MAX_TILES), kh)
        figure.colorbar(drawn, ax=axes, label="weight", fraction=0.05, pad=0.01)
    return figure


def maps(network: Network, x: Array, class_names: Sequence[str], caption: str) -> Any:  # noqa: ANN401
    """Draw the output of every layer for one image x (C,H,W,1), and the probabilities."""
    outputs = views.activations(network, x)
    scores = network.scores(outputs[network.layers[-1].name].astype(np.float64))
    probabilities = np.exp(scores - scores.max())
    probabilities /= probabilities.sum()
    sheets = [_sheet(y) for y in outputs.values()]
    # In inches, with space for a title: as wide as the page, of limited height, a vector flat.
    heights = [
        0.35 + (0.3 if len(s) == 1 else min(9 * s.shape[0] / s.shape[1], 1.4)) for s in sheets
    ]
    figure = new_figure(9, 2.2 + sum(heights), f"The output of every layer for {caption}")
    top, below = figure.subfigures(2, height_ratios=[2, sum(heights)])
    left, right = top.subplots(1, 2, width_ratios=[1, 3])
    show_channels(left, x[..., 0], spanned(x))
    left.set_title(f"input {times(x.shape[:-1])}", loc="left")
    right.bar(range(len(scores)), probabilities, color="0.4", edgecolor="black")
    best = int(probabilities.argmax())
    named = plain_text(class_names[best])
    right.set_title(f"probabilities: {named} with {probabilities[best]:.1%}", loc="left")
    right.set(ylim=(0, 1), xlabel="class")
    if len(class_names) <= MAX_TILES:
        short = [plain_text(name[:12]) for name in class_names]
        slope = {"rotation": 20, "ha": "right"} if max(map(len, short)) > 4 else {}
        right.set_xticks(range(len(short)), short, **slope)
    for axes, layer, sheet in zip(
        below.subplots(len(sheets), height_ratios=heights), network.layers, sheets, strict=True
    ):
        y = outputs[layer.name]
        flat = len(sheet) == 1
        show(axes, sheet, spanned(y), "auto" if flat else "equal")
        if not flat:
            outline_tiles(axes, y[None, :MAX_TILES])
        axes.set_anchor("W")
        matrix = layer.patch_matrix
        facts = [f"{layer.name}  {times(y.shape)}"]
        if matrix:
            facts.append(f"patch matrix {times(matrix)}")
        facts.append(f"black {y.min():.2g}, white {y.max():.2g}")
        if not flat and len(y) > MAX_TILES:
            facts.append(f"the first {MAX_TILES} maps")
        axes.set_title(" · ".join(facts), loc="left")
    return figure


def _sheet(y: Array) -> Array:
    """Return maps (C,H,W) side by side, or a vector as one row."""
    if prod(y.shape[1:]) == 1:
        return y.reshape(1, -1)
    return tiles(y[None, :MAX_TILES])


def patches(network: Network, x: Array, name: str, caption: str) -> Any:  # noqa: ANN401
    """Draw how im2col arranges patches, and the convolution as a product of two matrices."""
    product = views.product(network, x, name)
    conv, C = product.conv, len(product.x)
    (kh, kw), (sh, sw), (Ho, Wo) = conv.kernel, conv.stride, (conv.Ho, conv.Wo)
    (dh, dw), (eh, ew) = conv.dilation, extent(conv.kernel, conv.dilation)
    c = int(product.x.var(axis=(1, 2)).argmax())
    patches_of_map = product.patches[c * kh * kw : (c + 1) * kh * kw]
    places = _places_to_mark(patches_of_map.var(axis=0).reshape(Ho, Wo), ew)
    figure = new_figure(9, 8, f"im2col: the patches of {name} for {caption}")
    above, below = figure.subfigures(2, height_ratios=[3, 5])

    whole, *single = above.subplots(1, 1 + len(places), width_ratios=[3, *[1] * len(places)])
    limits = spanned(product.x[c])
    show(whole, product.x[c], limits)
    of_map, padded = f"map {c} of " if C > 1 else "", product.x.shape != conv.shape
    title = f"{of_map}the input {times(conv.shape)}{', with its padding' if padded else ''}"
    whole.set_title(title)
    for number, (axes, (i, j)) in enumerate(zip(single, places, strict=True), start=1):
        box = (i * sh, j * sw, eh, ew)
        colour = FRAMES[number - 1]
        frame(whole, box, colour)
        # The first two overlap: their numbers are written on different sides.
        corner, end, away = (0, "right", -3) if number == 1 else (ew, "left", 3)
        whole.annotate(
            str(number), (box[1] + corner - 0.5, box[0] - 0.5), (away, 3), ha=end,
            textcoords="offset points", color=colour, weight="bold",
            path_effects=outlined("black", 2.5),
        )  # fmt: skip
        show(axes, product.x[c, box[0] : box[0] + eh : dh, box[1] : box[1] + ew : dw], limits)
        axes.set_title(f"patch {number}")
        for spine in axes.spines.values():
            spine.set(edgecolor=colour, linewidth=2)

    F, K, P = conv.F, *product.patches.shape
    (weights, cols), (empty, z) = below.subplots(2, 2, width_ratios=[1, 4], height_ratios=[3, 2])
    show(weights, product.weights, symmetric(product.weights), "auto")
    weights.set_title(f"weights F×K = {F}×{K}")
    weights.set(xlabel="a row for each filter", ylabel="filter")
    show(cols, product.patches, spanned(product.patches), "auto")
    cols.set_title(
        f"· patch matrix K×P = {K}×{P}, K = C·kh·kw = {C}·{kh}·{kw}, P = Ho·Wo = {Ho}·{Wo}"
    )
    names = [f"{number}\N{NO-BREAK SPACE}" for number in range(1, len(places) + 1)]
    cols.set_xticks([i * Wo + j for i, j in places], names)
    for label, end in zip(cols.get_xticklabels(), ("right", "left", "center"), strict=False):
        label.set_horizontalalignment(end)  # the first two are neighbours here too
    cols.set(xlabel="a column for each patch (im2col() returns a row for each patch)")
    empty.set_axis_off()
    show(z, product.z, symmetric(product.z), "auto")
    z.set_title(f"= z F×P = {F}×{P}: each row is a map of {Ho}×{Wo} (without the bias)")
    return figure


def _places_to_mark(contrast: Array, kernel: int) -> list[tuple[int, int]]:
    """Choose up to three places (i, j) of a patch, given the contrast (Ho,Wo) of every patch.

    The first has the largest contrast, the second is its right neighbour, the third does not
    overlap the first.
    """
    Ho, Wo = contrast.shape
    columns = max(Wo - 1, 1)
    i, j = divmod(int(contrast[:, :columns].argmax()), columns)
    places = [(i, j), (i, j + 1)] if Wo > 1 else [(i, j)]
    rows_away, columns_away = np.abs(np.arange(Ho) - i)[:, None], np.abs(np.arange(Wo) - j)
    apart = np.maximum(rows_away, columns_away) > kernel
    if apart.any():
        places.append(divmod(int(np.where(apart, contrast, -1).argmax()), Wo))
    return places


def _first(shown: int, count: int) -> str:
    return f", the first {shown} of {count}" if shown < count else ""


def deconv(network: Network, x: Array, units: Sequence[views.Unit], caption: str) -> Any:  # noqa: ANN401
    """Draw the pixels that contribute to units of one layer: the layers run backwards."""
    name = units[0].layer
    columns = min(1 + len(units), 4)
    rows = -(-(1 + len(units)) // columns)
    title = f"Deconvolution: the pixels that drive units of {name} for {caption}"
    figure = new_figure(max(2.3 * columns, 6.5), 2.5 * rows + 0.8, title)
    image, *others = figure.subplots(rows, columns, squeeze=False).flat
    show_channels(image, x[..., 0], spanned(x))
    image.set_title("input")
    for axes in others:
        axes.set_axis_off()
    for axes, unit in zip(others, units, strict=False):
        axes.set_axis_on()
        pixels = views.project(network, x, unit)
        show_channels(axes, pixels, symmetric(pixels))
        frame(axes, unit.field, FRAMES[0])
        axes.set_title(f"unit {unit.index}: {unit.value:.2g} at {unit.place}")
    rule = "White pixels raise the unit, black pixels lower it"
    if len(x) == 3:
        rule = "A colour raises the unit where it is more than grey, and lowers it where it is less"
    figure.supxlabel(f"{rule}; the frame is its receptive field.", fontsize=9)
    return figure


def field(network: Network, x: Array, units: Sequence[views.Unit], caption: str) -> Any:  # noqa: ANN401
    """Draw units in their maps, and the receptive field of each on the image."""
    outputs = views.activations(network, x)
    figure = new_figure(max(2.2 * len(units), 6.5), 5.2, f"Receptive fields on {caption}")
    fields, unit_maps = figure.subplots(2, len(units), squeeze=False)
    for above, below, unit in zip(fields, unit_maps, units, strict=True):
        top, left, height, width = unit.field
        show_channels(above, x[..., 0], spanned(x))
        frame(above, unit.field, FRAMES[0])
        above.set_title(f"{unit.layer} sees {height}×{width}\nfrom row {top}, column {left}")
        y = np.atleast_2d(outputs[unit.layer][unit.index])
        show(below, y, spanned(outputs[unit.layer]))
        frame(below, (*unit.place, 1, 1), FRAMES[0])
        below.set_title(f"map {unit.index} of {times(outputs[unit.layer].shape)}\nat {unit.place}")
    return figure


def edges(image: NDArray[np.uint8], caption: str) -> Any:  # noqa: ANN401
    """Draw the responses of kernels for horizontal and vertical lines, before and after pooling."""
    if image.ndim == 3:
        image = image.mean(axis=0).astype(np.uint8)
    kernels = {"horizontal": views.SOBEL, "vertical": views.SOBEL.T}
    responses = {name: views.line_responses(image, kernel) for name, kernel in kernels.items()}
    columns = list(responses["horizontal"])
    figure = new_figure(10, 4.4, f"Kernels that detect lines, and two poolings, for {caption}")
    grid = figure.subplots(2, 2 + len(columns))
    for (first, second, *others), (name, kernel) in zip(grid, kernels.items(), strict=True):
        show(first, image, (0, 255))
        first.set_title("input")
        show(second, kernel, symmetric(kernel))
        second.set_title(f"{name} lines")
        for (i, j), weight in np.ndenumerate(kernel):
            second.text(
                j, i, f"{weight:g}", ha="center", va="center",
                color="black" if weight >= 0 else "white",
            )  # fmt: skip
        strongest = symmetric(responses[name]["convolution"])
        for axes, column in zip(others, columns, strict=True):
            y = responses[name][column]
            show(axes, y, strongest if column == "convolution" else (0, strongest[1]))
            axes.set_title(f"{column} {times(y.shape)}")
    figure.supxlabel(
        "Convolution: grey is 0, white positive, black negative. From ReLU on, black is 0, and all "
        "plots have the same scale: the mean is darker than the maximum.", fontsize=9,
    )  # fmt: skip
    return figure


def embedding(
    network: Network,
    preprocessing: Preprocessing,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    class_names: Sequence[str],
    caption: str,
) -> Any:  # noqa: ANN401
    """Draw images by the outputs of the last hidden layer, reduced to two dimensions."""
    name = views.last_hidden(network)
    places, shares = views.embedding(network, preprocessing, images, name)
    layer = name.removesuffix(".activation")
    title = f"{layer} for {len(images):,} images of {caption} in two dimensions, by SVD"
    figure = new_figure(8, 7.5, title)
    axes = figure.subplots()
    colours = require("matplotlib", extra="viz").colormaps["viridis"]
    for label in np.unique(labels):
        of_class = places[labels == label]
        shade = colours(0.75 * label / max(len(class_names) - 1, 1))
        axes.scatter(
            *of_class.T, s=30, marker=f"${label}$", linewidths=0.3, color=shade,
            label=plain_text(class_names[label]),
        )  # fmt: skip
        axes.text(
            *of_class.mean(axis=0), str(label), fontsize=18, weight="bold",
            ha="center", va="center", path_effects=outlined("white", 4),
        )  # fmt: skip
    if any(name != str(number) for number, name in enumerate(class_names)):
        figure.legend(loc="outside right upper")
    first, second = shares
    axes.set(
        xlabel=f"first singular direction: {first:.0%} of the variance",
        ylabel=f"second singular direction: {second:.0%} of the variance",
        title="each number is an image of that class, each large number the mean of a class",
    )
    return figure


def reliability(result: Evaluation, caption: str) -> Any:  # noqa: ANN401
    """Draw the accuracy of predictions over their probability, and how many have which."""
    bins = np.zeros((3, BINS)) if result.reliability is None else result.reliability
    count, confidence, correct = bins
    used = count > 0
    left = np.arange(BINS) / BINS
    title = f"Reliability on {result.count:,} images of {caption}"
    figure = new_figure(6, 7, title)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    above.bar(left[used], correct[used] / count[used], 1 / BINS, align="edge", edgecolor="white")
    above.plot(confidence[used] / count[used], correct[used] / count[used], "k.")
    above.plot([0, 1], [0, 1], "k:", linewidth=1)
    above.set(
        ylabel="accuracy",
        title="bars on the dotted line: probability and accuracy agree; "
        f"expected calibration error {100 * (result.calibration_error or 0):.2f} %",
    )
    above.title.set_fontsize(8)
    below.bar(left, count, 1 / BINS, align="edge", edgecolor="white")
    below.set_yscale("log")
    below.set(xlabel="probability of the predicted class", ylabel="predictions", xlim=(0, 1))
    return figure


def samples(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], class_names: Sequence[str], title: str
) -> Any:  # noqa: ANN401
    """Draw the first images of every class of a data set, a row for each class.

    Parameters
    ----------
    images, labels
        uint8 (count,H,W) or (count,C,H,W), and (count,).
    class_names, title
        The headings of the rows and of the figure.
    """
    count = len(class_names)
    figure = new_figure(9, 0.62 * count + 0.6, title)
    rows = figure.subplots(count, SAMPLES, squeeze=False)
    for label, (row, name) in enumerate(zip(rows, class_names, strict=True)):
        chosen = np.flatnonzero(labels == label)[:SAMPLES]
        for axes in row[chosen.size :]:
            axes.axis("off")
        for axes, index in zip(row, chosen, strict=False):
            show_raw(axes, images[index])
        row[0].set_ylabel(plain_text(name), rotation=0, ha="right", va="center")
    return figure


def mistakes(worst: Sequence[Mistake], class_names: Sequence[str], title: str) -> Any:  # noqa: ANN401
    """Draw images that a network got wrong, each with its class and the class predicted."""
    rows = -(-len(worst) // SAMPLES)
    figure = new_figure(9, 0.95 * max(rows, 1) + 0.6, title)
    cells = figure.subplots(max(rows, 1), SAMPLES, squeeze=False).ravel()
    for axes in cells:
        axes.axis("off")
    for axes, mistake in zip(cells, worst, strict=False):
        show_raw(axes, mistake.image)
        names = (plain_text(class_names[label]) for label in (mistake.label, mistake.predicted))
        axes.set_title(" not ".join(names), fontsize=8)
    return figure

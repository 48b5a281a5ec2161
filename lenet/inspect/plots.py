"""Plots of filters, maps and embeddings, of the images of a data set, and of learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lenet.arrays import Array
from lenet.data.preprocessing import Preprocessing
from lenet.evaluation.metrics import BINS, Evaluation
from lenet.evaluation.mistakes import Mistake
from lenet.inspect.canvas import (
    MAX_TILES,
    draw_sheet,
    explain,
    largest,
    name_classes,
    new_figure,
    number_tiles,
    outline_tiles,
    outlined,
    plain_text,
    sheet_height,
    show,
    show_channels,
    show_raw,
    show_signed,
    spanned,
    tile_gap,
    tiles,
    times,
    write_numbers,
)
from lenet.inspect.responses import (
    SOBEL,
    activations,
    find_convolution,
    last_hidden,
    line_responses,
)
from lenet.inspect.responses import embedding as reduced
from lenet.nn.activations import Activation
from lenet.nn.losses import softmax
from lenet.nn.network import Network
from lenet.report.charts import Chart, Line, epoch_ticks, linear_ticks, log_ticks
from lenet.system.text import WORDS

CLASS_COLOURS: Final = (
    *("#1f5fa8", "#c4500a", "#1b7f3b", "#b0358a", "#8a8400"),
    *("#5f6368", "#b01e28", "#7a3fb0", "#7b4a33", "#0794a5"),
)
"""Ten colours for classes, dark enough for thin marks on white; the 11th class has the first."""


def filters(network: Network, names: Sequence[str]) -> Any:  # noqa: ANN401
    """Draw the kernels of convolutions: a column for each filter, a row for each input map."""
    convs = [find_convolution(network, name) for name in names]
    kernels = [conv.kernels[:MAX_TILES, :MAX_TILES].swapaxes(0, 1) for conv in convs]
    sheets = [tiles(tiled) for tiled in kernels]
    heights = [min(8 * sheet.shape[0] / sheet.shape[1], 7) + 0.5 for sheet in sheets]
    figure = new_figure(9, sum(heights) + 0.5, "Filters")
    rows = figure.subplots(len(convs), squeeze=False, height_ratios=heights)[:, 0]
    for axes, conv, tiled, sheet in zip(rows, convs, kernels, sheets, strict=True):
        F, C, kh, kw = conv.kernels.shape
        drawn = show_signed(axes, sheet, largest(conv.kernels))
        outline_tiles(axes, tiled, tiled.size)
        first = f", the first {MAX_TILES} of {F}" if F > MAX_TILES else ""
        axes.set_title(
            f"{plain_text(conv.name)}: {F} filters of {C}×{kh}×{kw}"
            f"{first}{' and their first maps' if C > MAX_TILES else ''}",
            loc="left",
        )
        axes.set(xlabel="filter", ylabel="input map")
        number_tiles(axes.xaxis, min(F, MAX_TILES), kw, tile_gap(kw))
        number_tiles(axes.yaxis, min(C, MAX_TILES), kh, tile_gap(kw))
        figure.colorbar(drawn, ax=axes, label="weight", fraction=0.05, pad=0.01)
    return figure


def maps(network: Network, x: Array, class_names: Sequence[str], caption: str) -> Any:  # noqa: ANN401
    """Draw the output of every layer for one image x (C,H,W,1), and the probabilities."""
    outputs = activations(network, x)
    scores = network.scores(outputs[network.layers[-1].name].astype(np.float64))
    probabilities = softmax(scores[:, None])[:, 0]
    # In inches, with space for a title and for the maps' numbers.
    heights = [0.5 + sheet_height(y, 8.7, MAX_TILES, 1.4) for y in outputs.values()]
    figure = new_figure(9, 2.4 + sum(heights), f"The output of every layer for {caption}")
    top, below = figure.subfigures(2, height_ratios=[2, sum(heights)])
    left, right = top.subplots(1, 2, width_ratios=[1, 3])
    show_channels(left, x[..., 0], spanned(x))
    left.set_title(f"input {times(x.shape[:-1])}", loc="left")
    right.bar(range(len(scores)), probabilities, color="0.4", edgecolor="black")
    best = int(probabilities.argmax())
    named = plain_text(class_names[best])
    right.set_title(f"probabilities: {named} with {probabilities[best]:.1%}", loc="left")
    right.set(ylim=(0, 1), xlabel="class")
    name_classes(right, class_names)
    rows = below.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0]
    for axes, layer in zip(rows, network.layers, strict=True):
        y = outputs[layer.name]
        scale = draw_sheet(axes, y, MAX_TILES)
        matrix = f" · patch matrix {times(layer.patch_matrix)}" if layer.patch_matrix else ""
        kind = " (before the activation)" if _is_activated(network, layer.name) else ""
        name = plain_text(layer.name)
        axes.set_title(f"{name}{kind}  {times(y.shape)}{matrix} · {scale}", loc="left")
    name_classes(rows[-1], class_names)
    explain(below, f"Where a layer has numbers below zero, {WORDS}.")
    return figure


def _is_activated(network: Network, name: str) -> bool:
    """Return whether the next layer is an activation."""
    k = [layer.name for layer in network.layers].index(name)
    return k + 1 < len(network.layers) and isinstance(network.layers[k + 1], Activation)


def edges(image: NDArray[np.uint8], caption: str) -> Any:  # noqa: ANN401
    """Draw the responses of kernels for horizontal and vertical lines, before and after pooling."""
    if image.ndim == 3:
        image = image.mean(axis=0).astype(np.uint8)
    kernels = {"horizontal": SOBEL, "vertical": SOBEL.T}
    responses = {name: line_responses(image, kernel) for name, kernel in kernels.items()}
    columns = list(responses["horizontal"])
    figure = new_figure(10, 4.4, f"Kernels that detect lines, and two poolings, for {caption}")
    grid = figure.subplots(2, 2 + len(columns))
    for (first, second, *others), (name, kernel) in zip(grid, kernels.items(), strict=True):
        show(first, image, (0, 255))
        first.set_title("input")
        write_numbers(second, show_signed(second, kernel, largest(kernel)), "{:g}", size=9)
        second.set_title(f"{name} lines")
        strongest = largest(responses[name]["convolution"])
        for axes, column in zip(others, columns, strict=True):
            y = responses[name][column]
            if column == "convolution":
                show_signed(axes, y, strongest)
            else:
                show(axes, y, (0, strongest))
            axes.set_title(f"{column} {times(y.shape)}")
    explain(
        figure,
        f"Kernel and convolution: {WORDS}. From ReLU on, black is 0 and white the largest number "
        "of the row: the mean is darker than the maximum.",
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


def embedding(
    network: Network,
    preprocessing: Preprocessing,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    class_names: Sequence[str],
    caption: str,
) -> Any:  # noqa: ANN401
    """Draw images by the outputs of the last hidden layer, reduced to two dimensions."""
    name = last_hidden(network)
    found = reduced(network, preprocessing, images, name)
    layer = name.removesuffix(".activation")
    title = f"{layer} for {len(images):,} images of {caption} in two dimensions, by SVD"
    figure = new_figure(8, 7.5, title)
    axes = figure.subplots()
    for label in np.unique(labels):
        of_class = found.places[labels == label]
        colour = CLASS_COLOURS[label % len(CLASS_COLOURS)]
        axes.scatter(
            *of_class.T, s=30, marker=f"${label}$", linewidths=0.3, color=colour,
            label=plain_text(class_names[label]),
        )  # fmt: skip
        axes.text(
            *of_class.mean(axis=0), str(label), fontsize=18, weight="bold", color=colour,
            ha="center", va="center", path_effects=outlined("white", 4),
        )  # fmt: skip
    wrong = found.predicted != labels
    axes.scatter(
        *found.places[wrong].T, s=110, marker="o", facecolors="none", edgecolors="black",
        linewidths=1.3, label="mistakes",
    )  # fmt: skip
    if any(name != str(number) for number, name in enumerate(class_names)):
        figure.legend(loc="outside right upper")
    first, second = found.shares
    axes.set(
        xlabel=f"first singular direction: {first:.0%} of the variance",
        ylabel=f"second singular direction: {second:.0%} of the variance",
        title="each number is an image of that class, each large number the mean of a class; "
        f"ringed: {np.count_nonzero(wrong)} mistakes",
    )
    return figure


SAMPLES: Final = 14  # images in a row


def samples(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], class_names: Sequence[str], title: str
) -> Any:  # noqa: ANN401
    """Draw the first images of every class of a data set, a row for each class."""
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

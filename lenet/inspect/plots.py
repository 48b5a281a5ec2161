"""Pictures of a network: what :mod:`lenet.inspect.views` computes, drawn to be read in grey.

Needs the extra ``viz``. Figures are made without pyplot: no window, no global state. The reader's
own settings of Matplotlib are set aside, and nothing of the time or the machine goes into the
file: the same numbers give the same bytes.

White is large and black is small everywhere. Where zero matters the scale is symmetric: zero is
the middle grey.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from math import prod
from pathlib import Path
from textwrap import wrap
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lenet.data.preprocessing import Preprocessing
from lenet.inspect import views
from lenet.nn.im2col import Array
from lenet.nn.network import Network
from lenet.system.errors import ConfigError, printable
from lenet.system.extras import require
from lenet.system.files import replacing
from lenet.training.mistakes import Mistake

FORMATS: Final = ("png", "svg")
MOST: Final = 16  # maps, filters or channels shown side by side
SAMPLES: Final = 14  # images of a class in the picture of a data set
SETTINGS: Final = {
    "font.size": 9,
    "axes.titlesize": 9,
    "figure.titlesize": 11,
    "figure.dpi": 100,
    "savefig.dpi": 125,
    "image.cmap": "gray",
    "image.interpolation": "nearest",
    "svg.hashsalt": "lenet",
}
FRAMES: Final = ("#ff9500", "#00b3ff", "#ff4fd8")  # seen on black and on white


def picture_format(path: Path) -> str:
    """Return the format that ``path`` ends in, if it can be drawn here.

    Raises
    ------
    ConfigError
        ``path`` ends neither in .png nor in .svg.
    SystemFailure
        The extra ``viz`` is not installed.
    """
    form = path.suffix[1:].lower()
    if form not in FORMATS:
        raise ConfigError(
            f"ends neither in .{FORMATS[0]} nor in .{FORMATS[1]}",
            remedy="give a file name with one of these endings",
            file=path,
            key="--out",
        )
    require("matplotlib", extra="viz")
    return form


def write_picture(path: Path, draw: Callable[[], Any]) -> None:
    """Draw a figure and write it as PNG or SVG, by the ending of ``path``.

    Raises
    ------
    ConfigError
        ``path`` ends otherwise.
    SystemFailure
        The extra ``viz`` is not installed, or the file cannot be written.
    """
    form = picture_format(path)
    matplotlib = require("matplotlib", extra="viz")
    picture = BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        metadata = {"Date": None} if form == "svg" else {"Software": None}
        draw().savefig(picture, format=form, metadata=metadata)
    if form == "png":
        picture = _with_palette(picture)
    with replacing(path) as file:
        file.write(picture.getvalue())


def _with_palette(picture: BytesIO) -> BytesIO:
    """Return a PNG of half the size, or less: greys and three colours fit into a palette of 256."""
    small = BytesIO()
    with require("PIL.Image", extra="viz").open(picture) as image:  # Matplotlib needs it too
        image.convert("RGB").quantize(256).save(small, "PNG", optimize=True)
    return small


# --- What the pictures are made of ----------------------------------------------------------------


def _figure(width: float, height: float, title: str) -> Any:  # noqa: ANN401 - Matplotlib is optional
    figure = require("matplotlib.figure", extra="viz").Figure(
        figsize=(width, height), layout="constrained"
    )
    figure.suptitle("\n".join(wrap(_text(title), int(12 * width))))
    return figure


def _text(text: str) -> str:
    """Return text as the font has it, and without what Matplotlib would take for a formula."""
    return (
        printable(text).encode("latin-1", "backslashreplace").decode("latin-1").replace("$", r"\$")
    )


def _show(axes: Any, image: Array, limits: tuple[float, float], aspect: str = "equal") -> Any:  # noqa: ANN401
    """Draw numbers in grey between limits; gaps (NaN) are white."""
    grey = require("matplotlib", extra="viz").colormaps["gray"].with_extremes(bad="white")
    low, high = limits
    axes.set(xticks=[], yticks=[])
    return axes.imshow(image, cmap=grey, vmin=low, vmax=high, aspect=aspect)


def _symmetric(numbers: Array) -> tuple[float, float]:
    largest = float(np.abs(numbers).max()) or 1.0
    return -largest, largest


def _range(numbers: Array) -> tuple[float, float]:
    low, high = float(numbers.min()), float(numbers.max())
    return low, high if high > low else low + 1


def _tiles(images: Array) -> Array:
    """Set images (rows, columns, H, W) side by side, with gaps of NaN."""
    rows, columns, H, W = images.shape
    gap = _gap(W)
    sheet = np.full((rows * (H + gap) - gap, columns * (W + gap) - gap), np.nan, np.float32)
    for i, j in np.ndindex(rows, columns):
        top, left = i * (H + gap), j * (W + gap)
        sheet[top : top + H, left : left + W] = images[i, j]
    return sheet


def _gap(size: int) -> int:
    return max(1, size // 10)


def _outline_tiles(axes: Any, images: Array) -> None:  # noqa: ANN401
    """Draw a line around every tile: white is a number, and the gaps are white."""
    rows, columns, H, W = images.shape
    for i, j in np.ndindex(rows, columns):
        _frame(axes, (i * (H + _gap(W)), j * (W + _gap(W)), H, W), "black", 0.6, halo=0)
    axes.spines[:].set_visible(False)


def _number_tiles(axis: Any, count: int, size: int) -> None:  # noqa: ANN401
    """Write the tiles' numbers on an axis."""
    step = size + _gap(size)
    axis.set_ticks([k * step + (size - 1) / 2 for k in range(count)], range(count))
    axis.set_tick_params(length=0)


def _frame(
    axes: Any,  # noqa: ANN401
    box: tuple[int, int, int, int],
    colour: str,
    line: float = 2,
    halo: float = 1.5,
) -> None:
    """Draw a frame around top, left, height, width."""
    top, left, height, width = box
    axes.add_patch(
        require("matplotlib.patches", extra="viz").Rectangle(
            (left - 0.5, top - 0.5), width, height, fill=False, edgecolor=colour, linewidth=line,
            clip_on=False, zorder=3, path_effects=_halo("black", line + halo),
        )
    )  # fmt: skip


def _halo(colour: str, width: float) -> list[Any]:
    """Return the effect of a wider line below: colours stay readable in grey, on any ground."""
    effects = require("matplotlib.patheffects", extra="viz")
    return [effects.withStroke(linewidth=width, foreground=colour)]


def _first(shown: int, count: int) -> str:
    return f", the first {shown} of {count}" if shown < count else ""


# --- The pictures ---------------------------------------------------------------------------------


def filters(network: Network, names: Sequence[str]) -> Any:  # noqa: ANN401
    """Draw the kernels of convolutions: a column a filter, a row a map of the input."""
    convs = [views.find_convolution(network, name) for name in names]
    kernels = [conv.weight.value[:MOST, :MOST].swapaxes(0, 1) for conv in convs]
    sheets = [_tiles(of_layer) for of_layer in kernels]
    heights = [min(8 * sheet.shape[0] / sheet.shape[1], 7) + 0.5 for sheet in sheets]
    figure = _figure(9, sum(heights) + 0.5, "Filters: what every kernel looks for")
    rows = figure.subplots(len(convs), squeeze=False, height_ratios=heights)[:, 0]
    for axes, conv, of_layer, sheet in zip(rows, convs, kernels, sheets, strict=True):
        F, C, kh, kw = conv.weight.shape
        picture = _show(axes, sheet, _symmetric(conv.weight.value))
        _outline_tiles(axes, of_layer)
        axes.set_title(
            f"{conv.name}: {F} filters of {C}×{kh}×{kw}"
            f"{_first(MOST, F)}{' and their first maps' if C > MOST else ''}",
            loc="left",
        )
        axes.set(xlabel="filter", ylabel="map of the input")
        _number_tiles(axes.xaxis, min(F, MOST), kw)
        _number_tiles(axes.yaxis, min(C, MOST), kh)
        figure.colorbar(picture, ax=axes, label="weight", fraction=0.05, pad=0.01)
    return figure


def maps(network: Network, x: Array, class_names: Sequence[str], caption: str) -> Any:  # noqa: ANN401
    """Draw the output of every layer for one image, and the probabilities."""
    outputs = views.activations(network, x)
    scores = outputs[network.layers[-1].name].astype(np.float64)
    probabilities = np.exp(scores - scores.max())
    probabilities /= probabilities.sum()
    sheets = [_sheet(y) for y in outputs.values()]
    # In inches, with room for a title: as wide as the page but not high, and a vector flat.
    heights = [
        0.35 + (0.3 if len(s) == 1 else min(9 * s.shape[0] / s.shape[1], 1.4)) for s in sheets
    ]
    figure = _figure(9, 2.2 + sum(heights), f"What every layer makes of {caption}")
    top, below = figure.subfigures(2, height_ratios=[2, sum(heights)])
    left, right = top.subplots(1, 2, width_ratios=[1, 3])
    _show(left, x[0, :, :, 0], _range(x))
    left.set_title(f"input {_times(x.shape[:-1])}", loc="left")
    right.bar(range(len(scores)), probabilities, color="0.4", edgecolor="black")
    best = int(probabilities.argmax())
    named = _text(class_names[best])
    right.set_title(f"probabilities: {named} with {probabilities[best]:.1%}", loc="left")
    right.set(ylim=(0, 1), xlabel="class")
    if len(class_names) <= MOST:
        short = [_text(name[:12]) for name in class_names]
        slope = {"rotation": 20, "ha": "right"} if max(map(len, short)) > 4 else {}
        right.set_xticks(range(len(short)), short, **slope)
    for axes, layer, sheet in zip(
        below.subplots(len(sheets), height_ratios=heights), network.layers, sheets, strict=True
    ):
        y = outputs[layer.name]
        flat = len(sheet) == 1
        _show(axes, sheet, _range(y), "auto" if flat else "equal")
        if not flat:
            _outline_tiles(axes, y[None, :MOST])
        axes.set_anchor("W")
        matrix = layer.patch_matrix
        facts = [f"{layer.name}  {_times(y.shape)}"]
        if matrix:
            facts.append(f"patch matrix {_times(matrix)}")
        facts.append(f"black {y.min():.2g}, white {y.max():.2g}")
        if not flat and len(y) > MOST:
            facts.append(f"the first {MOST} maps")
        axes.set_title(" · ".join(facts), loc="left")
    return figure


def _sheet(y: Array) -> Array:
    """Return maps (C,H,W) side by side, or a vector as one row."""
    if prod(y.shape[1:]) == 1:
        return y.reshape(1, -1)
    return _tiles(y[None, :MOST])


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def patches(network: Network, x: Array, name: str, caption: str) -> Any:  # noqa: ANN401
    """Draw how im2col lays patches out, and the convolution as a product of two matrices."""
    seen = views.product(network, x, name)
    conv, C = seen.conv, len(seen.x)
    (kh, kw), (sh, sw), (Ho, Wo) = conv.kernel, conv.stride, (conv.Ho, conv.Wo)
    c = int(seen.x.var(axis=(1, 2)).argmax())
    of_map = seen.patches[c * kh * kw : (c + 1) * kh * kw]
    places = _telling_places(of_map.var(axis=0).reshape(Ho, Wo), kw)
    figure = _figure(9, 8, f"im2col: the patches of {name} for {caption}")
    above, below = figure.subfigures(2, height_ratios=[3, 5])

    whole, *single = above.subplots(1, 1 + len(places), width_ratios=[3, *[1] * len(places)])
    limits = _range(seen.x[c])
    _show(whole, seen.x[c], limits)
    whole.set_title(f"{f'map {c} of ' if C > 1 else ''}the input {_times(seen.x.shape)}")
    for number, (axes, (i, j)) in enumerate(zip(single, places, strict=True), start=1):
        box = (i * sh, j * sw, kh, kw)
        colour = FRAMES[number - 1]
        _frame(whole, box, colour)
        # The first two overlap: their numbers stand apart.
        corner, end, away = (0, "right", -3) if number == 1 else (kw, "left", 3)
        whole.annotate(
            str(number), (box[1] + corner - 0.5, box[0] - 0.5), (away, 3), ha=end,
            textcoords="offset points", color=colour, weight="bold",
            path_effects=_halo("black", 2.5),
        )  # fmt: skip
        _show(axes, seen.x[c, box[0] : box[0] + kh, box[1] : box[1] + kw], limits)
        axes.set_title(f"patch {number}")
        for spine in axes.spines.values():
            spine.set(edgecolor=colour, linewidth=2)

    F, K, P = conv.F, *seen.patches.shape
    (weights, cols), (empty, z) = below.subplots(2, 2, width_ratios=[1, 4], height_ratios=[3, 2])
    _show(weights, seen.weights, _symmetric(seen.weights), "auto")
    weights.set_title(f"weights F×K = {F}×{K}")
    weights.set(xlabel="one filter a row", ylabel="filter")
    _show(cols, seen.patches, _range(seen.patches), "auto")
    cols.set_title(
        f"· patch matrix K×P = {K}×{P}, K = C·kh·kw = {C}·{kh}·{kw}, P = Ho·Wo = {Ho}·{Wo}"
    )
    names = [f"{number}\N{NO-BREAK SPACE}" for number in range(1, len(places) + 1)]
    cols.set_xticks([i * Wo + j for i, j in places], names)
    for label, end in zip(cols.get_xticklabels(), ("right", "left", "center"), strict=False):
        label.set_horizontalalignment(end)  # the first two are neighbours here, too
    cols.set(xlabel="one patch a column (im2col() returns it with one patch a row)")
    empty.set_axis_off()
    _show(z, seen.z, _symmetric(seen.z), "auto")
    z.set_title(f"= z F×P = {F}×{P}: a row is a map of {Ho}×{Wo} (without the bias)")
    return figure


def _telling_places(contrast: Array, kernel: int) -> list[tuple[int, int]]:
    """Choose the place (i, j) of the largest contrast (Ho,Wo), the next to its right, one apart."""
    Ho, Wo = contrast.shape
    columns = max(Wo - 1, 1)
    i, j = divmod(int(contrast[:, :columns].argmax()), columns)
    places = [(i, j), (i, j + 1)] if Wo > 1 else [(i, j)]
    rows_away, columns_away = np.abs(np.arange(Ho) - i)[:, None], np.abs(np.arange(Wo) - j)
    apart = np.maximum(rows_away, columns_away) > kernel
    if apart.any():
        places.append(divmod(int(np.where(apart, contrast, -1).argmax()), Wo))
    return places


def deconv(network: Network, x: Array, units: Sequence[views.Unit], caption: str) -> Any:  # noqa: ANN401
    """Draw what drove units: their layers run backwards, down to the pixels."""
    name = units[0].layer
    columns = min(1 + len(units), 4)
    rows = -(-(1 + len(units)) // columns)
    title = f"Deconvolution: what drove units of {name} for {caption}"
    figure = _figure(max(2.3 * columns, 6.5), 2.5 * rows + 0.8, title)
    image, *others = figure.subplots(rows, columns, squeeze=False).flat
    _show(image, x[0, :, :, 0], _range(x))
    image.set_title("input")
    for axes in others:
        axes.set_axis_off()
    for axes, unit in zip(others, units, strict=False):
        axes.set_axis_on()
        pixels = views.project(network, x, unit)
        _show(axes, pixels, _symmetric(pixels))
        _frame(axes, unit.field, FRAMES[0])
        axes.set_title(f"unit {unit.index}: {unit.value:.2g} at {unit.place}")
    figure.supxlabel(
        "White pixels raise the unit, black ones lower it; the frame is its receptive field.",
        fontsize=9,
    )
    return figure


def field(network: Network, x: Array, units: Sequence[views.Unit], caption: str) -> Any:  # noqa: ANN401
    """Draw units in their maps, and what each of them sees of the image."""
    outputs = views.activations(network, x)
    figure = _figure(max(2.2 * len(units), 6.5), 5.2, f"Receptive fields on {caption}")
    seen, mapped = figure.subplots(2, len(units), squeeze=False)
    for above, below, unit in zip(seen, mapped, units, strict=True):
        top, left, height, width = unit.field
        _show(above, x[0, :, :, 0], _range(x))
        _frame(above, unit.field, FRAMES[0])
        above.set_title(f"{unit.layer} sees {height}×{width}\nfrom row {top}, column {left}")
        y = np.atleast_2d(outputs[unit.layer][unit.index])
        _show(below, y, _range(outputs[unit.layer]))
        _frame(below, (*unit.place, 1, 1), FRAMES[0])
        below.set_title(f"map {unit.index} of {_times(outputs[unit.layer].shape)}\nat {unit.place}")
    return figure


def edges(image: NDArray[np.uint8], caption: str) -> Any:  # noqa: ANN401
    """Draw what kernels for horizontal and vertical lines find, and how the poolings keep it."""
    kernels = {"horizontal": views.SOBEL, "vertical": views.SOBEL.T}
    found = {name: views.line_responses(image, kernel) for name, kernel in kernels.items()}
    columns = list(found["horizontal"])
    figure = _figure(10, 4.4, f"Kernels that find lines, and two poolings, for {caption}")
    grid = figure.subplots(2, 2 + len(columns))
    for (first, second, *others), (name, kernel) in zip(grid, kernels.items(), strict=True):
        _show(first, image, (0, 255))
        first.set_title("input")
        _show(second, kernel, _symmetric(kernel))
        second.set_title(f"{name} lines")
        for (i, j), weight in np.ndenumerate(kernel):
            second.text(
                j, i, f"{weight:g}", ha="center", va="center",
                color="black" if weight >= 0 else "white",
            )  # fmt: skip
        strongest = _symmetric(found[name]["convolution"])
        for axes, column in zip(others, columns, strict=True):
            y = found[name][column]
            _show(axes, y, strongest if column == "convolution" else (0, strongest[1]))
            axes.set_title(f"{column} {_times(y.shape)}")
    figure.supxlabel(
        "Convolution: grey is 0, white positive, black negative. From ReLU on black is 0, and "
        "all have one scale: the mean is darker than the maximum.", fontsize=9,
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
    """Draw images as F6 sees them, on the two directions in which it differs most."""
    places, shares = views.embedding(network, preprocessing, images, "F6.activation")
    figure = _figure(8, 7.5, f"F6 of {len(images):,} images of {caption} in two dimensions, by SVD")
    axes = figure.subplots()
    colours = require("matplotlib", extra="viz").colormaps["viridis"]
    for label in np.unique(labels):
        of_class = places[labels == label]
        shade = colours(0.75 * label / max(len(class_names) - 1, 1))
        axes.scatter(
            *of_class.T, s=30, marker=f"${label}$", linewidths=0.3, color=shade,
            label=_text(class_names[label]),
        )  # fmt: skip
        axes.text(
            *of_class.mean(axis=0), str(label), fontsize=18, weight="bold",
            ha="center", va="center", path_effects=_halo("white", 4),
        )  # fmt: skip
    if any(name != str(number) for number, name in enumerate(class_names)):
        figure.legend(loc="outside right upper")
    first, second = shares
    axes.set(
        xlabel=f"first singular direction: {first:.0%} of the variance",
        ylabel=f"second singular direction: {second:.0%} of the variance",
        title="every number is an image of that class, the large ones are the classes' means",
    )
    return figure


def samples(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], class_names: Sequence[str], title: str
) -> Any:  # noqa: ANN401
    """Draw the first images of every class of a data set: a row a class.

    Parameters
    ----------
    images, labels
        (count,H,W) grey levels, and (count,).
    class_names, title
        What the rows and the picture are called.
    """
    count = len(class_names)
    figure = _figure(9, 0.62 * count + 0.6, title)
    rows = figure.subplots(count, SAMPLES, squeeze=False)
    for label, (row, name) in enumerate(zip(rows, class_names, strict=True)):
        chosen = np.flatnonzero(labels == label)[:SAMPLES]
        for axes in row[chosen.size :]:
            axes.axis("off")
        for axes, index in zip(row, chosen, strict=False):
            _show(axes, images[index], (0, 255))
        row[0].set_ylabel(_text(name), rotation=0, ha="right", va="center")
    return figure


def mistakes(worst: Sequence[Mistake], class_names: Sequence[str], title: str) -> Any:  # noqa: ANN401
    """Draw images that a network got wrong, over each what it is and what the network said."""
    rows = -(-len(worst) // SAMPLES)
    figure = _figure(9, 0.95 * max(rows, 1) + 0.6, title)
    cells = figure.subplots(max(rows, 1), SAMPLES, squeeze=False).ravel()
    for axes in cells:
        axes.axis("off")
    for axes, mistake in zip(cells, worst, strict=False):
        _show(axes, mistake.image, (0, 255))
        names = (_text(class_names[label]) for label in (mistake.label, mistake.predicted))
        axes.set_title(" not ".join(names), fontsize=8)
    return figure


def sweep(results: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Draw the validation error of every run of a sweep over each key that was varied, or seed.

    Parameters
    ----------
    results
        As in ``results.json``.
    """
    runs = [run for run in results["runs"] if run["val_accuracy"] is not None]
    errors = [100 * (1 - run["val_accuracy"]) for run in runs]
    chosen = [run["run"] in (results["best"] or {"runs": ()})["runs"] for run in runs]
    failed = len(results["runs"]) - len(runs)
    keys = list(results["runs"][0]["point"]) or ["seed"]
    title = f"{len(runs)} runs, a dot each" + (f"; {failed} more failed" if failed else "")
    figure = _figure(max(5.0, 3.2 * len(keys)), 3.4, title)
    panels = figure.subplots(1, len(keys), sharey=True, squeeze=False)[0]
    for key, axes in zip(keys, panels, strict=True):
        x = _places(axes, [{"seed": run["seed"], **run["point"]}[key] for run in runs])
        for these, label, look in (
            (False, "other", {"color": "0.55", "marker": "o"}),
            (True, "chosen", {"color": "black", "marker": "D"}),
        ):
            dots = [(a, b) for a, b, c in zip(x, errors, chosen, strict=True) if c is these]
            axes.scatter(*zip(*dots, strict=True) if dots else ((), ()), s=26, label=label, **look)
        axes.margins(x=0.12)
        axes.set_xlabel(_text(key))
    if errors and 0 < 10 * min(errors) < max(errors):
        panels[0].set_yscale("log")
    panels[0].set_ylabel("error on validation, in %")
    panels[0].legend(fontsize=8)
    return figure


def _places(axes: Any, values: Sequence[Any]) -> Sequence[float]:  # noqa: ANN401
    """Return where values lie on the x axis, and mark it: numbers to scale, the rest in a row."""
    numbers = all(isinstance(value, int | float) for value in values)
    if not numbers:
        names = list(dict.fromkeys(map(str, values)))
        axes.set_xticks(range(len(names)), map(_text, names))
        return [names.index(str(value)) for value in values]
    marked = sorted(set(values))
    if marked and 0 < 4 * marked[0] <= marked[-1]:
        axes.set_xscale("log")
    if len(marked) <= 8:
        axes.set_xticks(marked, [f"{number:g}" for number in marked])
        axes.set_xticks([], minor=True)
    return values

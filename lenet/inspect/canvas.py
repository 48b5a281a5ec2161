"""Helpers of all plots: a figure, its file, and images drawn in grey or in colour.

Needs the extra ``viz``. Figures are made without pyplot: no window, no global state. The user's
Matplotlib settings are ignored, and neither time nor machine is written into the file: the same
numbers give the same bytes.

Signed numbers have the colours of :mod:`lenet.system.text`, on a scale with zero in the middle.
Numbers without a sign, such as pixels, are grey: white is large, black is small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from math import prod
from pathlib import Path
from textwrap import wrap
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lenet.arrays import Array
from lenet.data.pixels import for_display
from lenet.errors import ConfigError
from lenet.system.extras import require
from lenet.system.files import replacing
from lenet.system.text import NEGATIVE, POSITIVE, ZERO, printable

FORMATS: Final = ("png", "svg")
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
FRAMES: Final = (*("#ff9500", "#00b3ff", "#ff4fd8", "#7be04a", "#ffe14d", "#c7a6ff", "#ffffff"),)
"""Colours of frames, with a black line around them visible on any background."""
MAX_NUMBERS: Final = 16  # columns of an image up to which its numbers are written


def figure_format(path: Path) -> str:
    """Return the format that ``path`` ends in, if a figure can be written in it."""
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


def write_figure(path: Path, draw: Callable[[], Any]) -> None:
    """Draw a figure and write it as PNG or SVG, by the ending of ``path``."""
    form = figure_format(path)
    matplotlib = require("matplotlib", extra="viz")
    content = BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        metadata = {"Date": None} if form == "svg" else {"Software": None}
        draw().savefig(content, format=form, metadata=metadata)
    if form == "png":
        content = _with_palette(content)
    with replacing(path) as file:
        file.write(content.getvalue())


def _with_palette(png: BytesIO) -> BytesIO:
    """Return a PNG of at most half the size: two scales and some frames fit a palette of 256."""
    small = BytesIO()
    with require("PIL.Image", extra="viz").open(png) as image:  # Matplotlib needs it too
        text = require("PIL.PngImagePlugin", extra="viz").PngInfo()
        text.add_text("Software", "lenet")  # so that the next plot may replace this file
        image.convert("RGB").quantize(256).save(small, "PNG", optimize=True, pnginfo=text)
    return small


def new_figure(width: float, height: float, title: str) -> Any:  # noqa: ANN401 - Matplotlib is optional
    """Return an empty figure with a title, ``width`` × ``height`` inches."""
    figure = require("matplotlib.figure", extra="viz").Figure(
        figsize=(width, height), layout="constrained"
    )
    figure.suptitle("\n".join(wrap(plain_text(title), int(12 * width))))
    return figure


def explain(figure: Any, words: str) -> None:  # noqa: ANN401
    """Write an explanation below a figure or a part of one, in lines as wide as it is."""
    inches = figure.bbox.width / SETTINGS["figure.dpi"]
    figure.supxlabel("\n".join(wrap(words, int(13 * inches))), fontsize=9)


def plain_text(text: str) -> str:
    """Return ``text`` with what the font lacks escaped, and ``$``, which would start a formula."""
    return (
        printable(text).encode("latin-1", "backslashreplace").decode("latin-1").replace("$", r"\$")
    )


def times(shape: Sequence[int]) -> str:
    """Return a shape as ``6×28×28``."""
    return "×".join(map(str, shape))


# --- Images ---------------------------------------------------------------------------------------


def show(axes: Any, image: Array, limits: tuple[float, float], aspect: str = "equal") -> Any:  # noqa: ANN401
    """Draw numbers (H,W) in grey between limits; NaN is white. RGB (H,W,3) is drawn as it is."""
    grey = require("matplotlib", extra="viz").colormaps["gray"].with_extremes(bad="white")
    low, high = limits
    axes.set(xticks=[], yticks=[])
    return axes.imshow(image, cmap=grey, vmin=low, vmax=high, aspect=aspect)


def show_signed(axes: Any, numbers: Array, largest: float, aspect: str = "equal") -> Any:  # noqa: ANN401
    """Draw signed numbers (H,W) in two colours, from −largest to largest; NaN is white."""
    colours = require("matplotlib.colors", extra="viz").LinearSegmentedColormap
    scale = [tuple(part / 255 for part in colour) for colour in (NEGATIVE, ZERO, POSITIVE)]
    signed = colours.from_list("signed", scale).with_extremes(bad="white")
    axes.set(xticks=[], yticks=[])
    return axes.imshow(numbers, cmap=signed, vmin=-largest, vmax=largest, aspect=aspect)


def write_numbers(axes: Any, drawn: Any, form: str = "{:.1f}", size: float = 7) -> None:  # noqa: ANN401
    """Write the numbers of a drawn image into its pixels, if it is small."""
    numbers = drawn.get_array()
    rows, columns = numbers.shape
    if columns > MAX_NUMBERS or rows > 2 * MAX_NUMBERS:
        return
    for (i, j), number in np.ndenumerate(numbers):
        light = np.dot(drawn.to_rgba(number)[:3], (0.3, 0.59, 0.11)) > 0.5
        text, colour = form.format(number), "black" if light else "white"
        text = text if float(text) else text.lstrip("-")  # no negative zero
        axes.text(
            j, i, text, ha="center", va="center", color=colour, fontsize=size
        )  # fmt: skip


def show_channels(axes: Any, image: Array, limits: tuple[float, float]) -> None:  # noqa: ANN401
    """Draw (C,H,W) between limits: three channels as red, green and blue, else their mean."""
    if len(image) == 3:
        low, high = limits
        show(axes, np.clip((image.transpose(1, 2, 0) - low) / (high - low), 0, 1), limits)
    else:
        show(axes, image.mean(axis=0), limits)


def show_signed_channels(axes: Any, numbers: Array) -> None:  # noqa: ANN401
    """Draw signed (C,H,W): three channels as red, green and blue around grey, else their mean."""
    if len(numbers) == 3:
        show_channels(axes, numbers, (-largest(numbers), largest(numbers)))
    else:
        mean = numbers.mean(axis=0)
        show_signed(axes, mean, largest(mean))


def show_raw(axes: Any, image: NDArray[np.uint8]) -> None:  # noqa: ANN401
    """Draw an image of a data set: uint8, (H,W) or (C,H,W)."""
    show(axes, for_display(image), (0, 255))


def largest(numbers: Array) -> float:
    """Return the largest absolute value, or 1 if all numbers are zero."""
    return float(np.abs(numbers).max()) or 1.0


def spanned(numbers: Array) -> tuple[float, float]:
    """Return the smallest and the largest number as limits."""
    low, high = float(numbers.min()), float(numbers.max())
    return low, high if high > low else low + 1


# --- Tiles and frames -----------------------------------------------------------------------------


def tiles(images: Array) -> Array:
    """Arrange images (rows, columns, H, W) side by side, with gaps of NaN."""
    rows, columns, H, W = images.shape
    gap = tile_gap(W)
    sheet = np.full((rows * (H + gap) - gap, columns * (W + gap) - gap), np.nan, np.float32)
    for i, j in np.ndindex(rows, columns):
        top, left = i * (H + gap), j * (W + gap)
        sheet[top : top + H, left : left + W] = images[i, j]
    return sheet


def tile_gap(width: int) -> int:
    """Return the pixels between tiles of this width."""
    return max(1, width // 10)


def outline_tiles(axes: Any, images: Array, count: int) -> None:  # noqa: ANN401
    """Draw a line around the first tiles: both the gaps and the largest numbers are white."""
    rows, columns, H, W = images.shape
    for i, j in list(np.ndindex(rows, columns))[:count]:
        frame(axes, (i * (H + tile_gap(W)), j * (W + tile_gap(W)), H, W), "black", 0.6, halo=0)
    axes.spines[:].set_visible(False)


def number_tiles(axis: Any, count: int, size: int, gap: int, step: int = 1) -> None:  # noqa: ANN401
    """Write the tiles' numbers, ``step`` apart, on an axis."""
    middles = [k * (size + gap) + (size - 1) / 2 for k in range(count)]
    axis.set_ticks(middles, [step * k for k in range(count)])
    axis.set_tick_params(length=0)


def frame(
    axes: Any,  # noqa: ANN401
    box: tuple[int, int, int, int],
    colour: str,
    line: float = 2,
    halo: float = 1.5,
) -> None:
    """Draw a frame around a box: top, left, height, width."""
    top, left, height, width = box
    axes.add_patch(
        require("matplotlib.patches", extra="viz").Rectangle(
            (left - 0.5, top - 0.5), width, height, fill=False, edgecolor=colour, linewidth=line,
            clip_on=False, zorder=3, path_effects=outlined("black", line + halo),
        )
    )  # fmt: skip


def outlined(colour: str, width: float) -> list[Any]:
    """Return the effect of a wider line below: colours stay readable on any background."""
    effects = require("matplotlib.patheffects", extra="viz")
    return [effects.withStroke(linewidth=width, foreground=colour)]


def colour_spines(axes: Any, colour: str, line: float = 2) -> None:  # noqa: ANN401
    """Give the axes a frame of this colour."""
    for spine in axes.spines.values():
        spine.set(edgecolor=colour, linewidth=line)


def number_columns(axes: Any, columns: Sequence[int]) -> None:  # noqa: ANN401
    """Write 1, 2, … below the marked columns of a matrix; the first two are neighbours."""
    axes.set_xticks(columns, [f"{k}\N{NO-BREAK SPACE}" for k in range(1, len(columns) + 1)])
    ends = ("right", "left", "center")
    for label, end, colour in zip(axes.get_xticklabels(), ends, FRAMES, strict=False):
        label.set_horizontalalignment(end)
        label.set(color=colour, weight="bold", path_effects=outlined("black", 1.5))


MAX_TILES: Final = 16  # maps, filters or channels in one figure
STRIP: Final = 0.25  # height of a vector, in inches


def is_vector(y: Array) -> bool:
    """Return whether every map of (C,H,W) or (F,) is a single number."""
    return prod(y.shape[1:]) == 1


def arranged(y: Array, per_row: int) -> Array:
    """Return the first maps of (C,H,W) as (rows, columns, H, W), the last row filled with NaN."""
    count = min(len(y), MAX_TILES)
    columns = min(count, per_row)
    rows = -(-count // columns)
    grid = np.full((rows * columns, *y.shape[1:]), np.nan, np.float32)
    grid[:count] = y[:count]
    return grid.reshape(rows, columns, *y.shape[1:])


def sheet_height(y: Array, width: float, per_row: int, tallest: float) -> float:
    """Return the height in inches of the maps of (C,H,W) or (F,) drawn by :func:`draw_sheet`."""
    if is_vector(y):
        return STRIP
    grid = arranged(y, per_row)
    height, length = tiles(grid).shape
    return float(min(width * height / length, tallest * len(grid)))


def draw_sheet(axes: Any, y: Array, per_row: int, limit: float | None = None) -> str:  # noqa: ANN401
    """Draw maps (C,H,W) as numbered tiles, or a vector (F,) as a strip; return its scale in words.

    Numbers below zero are drawn in two colours around zero; without any, or any ``limit``, black is
    zero and white the largest.
    """
    flat = is_vector(y)
    grid = None if flat else arranged(y, per_row)
    sheet = y.reshape(1, -1) if grid is None else tiles(grid)
    aspect = "auto" if flat else "equal"
    if limit is not None or y.min() < 0:
        end = largest(y) if limit is None else limit
        drawn = show_signed(axes, sheet, end, aspect)
        scale = f"±{end:.2g}"
    else:
        end = largest(y)
        drawn = show(axes, sheet, (0, end), aspect)
        scale = f"black 0, white {end:.2g}"
    if grid is not None:
        outline_tiles(axes, grid, len(y))
        axes.tick_params(labelsize=7, pad=1)
        rows, columns, H, W = grid.shape
        number_tiles(axes.xaxis, columns, W, tile_gap(W))
        if rows > 1:
            number_tiles(axes.yaxis, rows, H, tile_gap(W), step=columns)
    else:
        write_numbers(axes, drawn, "{:.3g}" if limit is None else "{:.2g}")
        step = next(step for step in (1, 10, 20, 50, 100, y.size) if y.size <= MAX_TILES * step)
        axes.set_xticks(range(0, y.size, step))
        axes.tick_params(labelsize=7, pad=1, length=2)
    axes.set_anchor("W")
    more = grid is not None and len(y) > MAX_TILES
    return f"{scale}, the first {MAX_TILES} maps" if more else scale


def name_classes(axes: Any, class_names: Sequence[str]) -> None:  # noqa: ANN401
    """Write the names of the classes below an axis with a place for each, if they are few."""
    if len(class_names) > MAX_TILES:
        return
    short = [plain_text(name[:12]) for name in class_names]
    slope = {"rotation": 20, "ha": "right"} if max(map(len, short)) > 4 else {}
    axes.set_xticks(range(len(short)), short, **slope)

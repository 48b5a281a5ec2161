"""The maps of a layer side by side, numbered, and a vector as a strip of cells."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Final

import numpy as np

from lenet.arrays import Array
from lenet.inspect.figures import (
    largest,
    number_tiles,
    outline_tiles,
    plain_text,
    show,
    show_signed,
    tile_gap,
    tiles,
    write_numbers,
)

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

    Parameters
    ----------
    axes
        Where to draw.
    y
        The numbers.
    per_row
        How many maps stand side by side.
    limit
        The end of the scale in both directions; None for the largest number.
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

"""A digit drawn by tests, as ink on paper."""

from __future__ import annotations

import numpy as np

# A 4 as lines between points of a box 60 wide and 100 high: not alike when turned or mirrored.
FOUR = [((10, 0), (6, 50)), ((6, 50), (56, 50)), ((44, 10), (44, 100))]


def drawn(
    side: int = 200, height: float = 0.6, width: float = 0.1, at=(0.5, 0.5), lines=FOUR
) -> np.ndarray:
    """How much ink is where, (side,side) from 0 to 1: by the distance to the lines."""
    v, u = np.mgrid[0:side, 0:side] + 0.5
    scale = height * side / 100
    x, y = (u - at[0] * side) / scale + 30, (v - at[1] * side) / scale + 50
    nearest = np.full(x.shape, np.inf)
    for (x0, y0), (x1, y1) in lines:
        dx, dy = x1 - x0, y1 - y0
        t = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - x0 - t * dx, y - y0 - t * dy))
    return np.clip(0.5 + (width * 50 - nearest) * scale, 0, 1)


def inked(amount: np.ndarray, ink=(0.1, 0.1, 0.1), paper=(0.95, 0.95, 0.95)) -> np.ndarray:
    a = amount[..., None]
    return (a * np.array(ink) + (1 - a) * np.array(paper)).astype(np.float32)

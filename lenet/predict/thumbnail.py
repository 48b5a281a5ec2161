"""A picture, reduced for a contact sheet, so that a batch of photographs takes little memory."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet.data.pixels import Pixels, as_uint8, resized

HEIGHT: Final = 224
WIDTH: Final = 320


class Thumbnail(NamedTuple):
    """A reduced or enlarged picture.

    Attributes
    ----------
    levels
        uint8 (h,w,3), at most 224×320.
    scale
        Of its sides, compared with the picture's.
    """

    levels: NDArray[np.uint8]
    scale: float


def thumbnail(pixels: Pixels) -> Thumbnail:
    """Return a picture (H,W,3) from 0 to 1 at the size of the contact sheet.

    Examples
    --------
    >>> small = thumbnail(np.ones((448, 100, 3), np.float32))
    >>> small.levels.shape, small.scale
    ((224, 50, 3), 0.5)
    """
    H, W = pixels.shape[:2]
    scale = min(HEIGHT / H, WIDTH / W)
    small = resized(pixels, max(round(H * scale), 1), max(round(W * scale), 1))
    return Thumbnail(as_uint8(small), scale)

"""A contact sheet: the pictures, what the network was given, and the predictions, as a PNG.

Needs the extra ``image``.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.data.pixels import Pixels, as_uint8, for_display, resized
from lenet.predict.prediction import Prediction
from lenet.system.extras import require
from lenet.system.files import replacing
from lenet.system.text import printable

MAX_ROWS = 100
ROW = 240  # height of a row in pixels
MARGIN = 8
COLUMNS = (320, 224, 240)  # widths: the picture, the network's input, the prediction


class Sheet:
    """The rows of a contact sheet; those after the first 100 are counted, not drawn.

    Raises
    ------
    SystemFailure
        Pillow is not installed.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self.pillow = require("PIL.Image", "image")
        self.rows: list[NDArray[np.uint8]] = []
        self.left_out = 0

    def add(self, pixels: Pixels, prediction: Prediction) -> None:
        """Add a row for a picture (H,W,3) from 0 to 1."""
        if len(self.rows) < MAX_ROWS:
            self.rows.append(sheet_row(pixels, prediction))
        else:
            self.left_out += 1

    def write(self) -> str | None:
        """Write the sheet if it has rows; return a warning if some were left out.

        Raises
        ------
        SystemFailure
            The file cannot be written.
        """
        if self.rows:
            with replacing(self.path) as file:
                self.pillow.fromarray(np.concatenate(self.rows)).save(file, "PNG")
        if not self.left_out:
            return None
        return printable(
            f"{self.path} shows the first {MAX_ROWS} images, {self.left_out:,} are left out"
        )


def sheet_row(pixels: Pixels, prediction: Prediction) -> NDArray[np.uint8]:
    """Return a row as pixels: the picture, the network's input, the prediction.

    Raises
    ------
    SystemFailure
        Pillow is not installed.
    """
    Image, ImageDraw = require("PIL.Image", "image"), require("PIL.ImageDraw", "image")
    row = Image.new("RGB", (sum(COLUMNS) + 4 * MARGIN, ROW), "white")
    pen = ImageDraw.Draw(row)
    H, W = pixels.shape[:2]
    scale = min((ROW - 2 * MARGIN) / H, COLUMNS[0] / W)
    small = resized(pixels, max(round(H * scale), 1), max(round(W * scale), 1))
    row.paste(Image.fromarray(as_uint8(small)), (MARGIN, MARGIN))
    at = COLUMNS[0] + 2 * MARGIN
    if prediction.digit is not None:
        top, left, bottom, right = (MARGIN + round(scale * side) for side in prediction.digit.box)
        pen.rectangle([left - 2, top - 2, right + 1, bottom + 1], outline="red", width=2)
    if prediction.image is not None:
        row.paste(Image.fromarray(_enlarged(prediction.image)), (at, MARGIN))
    top = (f"{label}   {p:.1%}" for label, p in prediction.top)
    lines = map(printable, [prediction.file, *top, prediction.warning or ""])
    text = [part for line in lines for part in wrap(line, 38)]
    safe = "\n".join(text).encode("ascii", "backslashreplace").decode()
    pen.multiline_text((at + COLUMNS[1] + MARGIN, MARGIN), safe, fill="black", spacing=6)
    return np.asarray(row)


def _enlarged(image: NDArray[np.uint8]) -> NDArray[Any]:
    """Return (H,W) or (3,H,W) for display, every pixel enlarged to a square or left out."""
    pixels = for_display(image)
    longer = max(pixels.shape[:2])
    side, step = max(COLUMNS[1] // longer, 1), -(-longer // COLUMNS[1])
    return pixels[::step, ::step].repeat(side, axis=0).repeat(side, axis=1)

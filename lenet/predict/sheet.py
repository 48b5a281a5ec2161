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

from lenet.data.pixels import for_display
from lenet.predict.prediction import Prediction
from lenet.predict.thumbnail import HEIGHT, WIDTH, Thumbnail
from lenet.system.extras import require
from lenet.system.files import replacing
from lenet.system.text import printable

MAX_ROWS = 100
MARGIN = 8
ROW = HEIGHT + 2 * MARGIN  # height of a row in pixels
COLUMNS = (WIDTH, 224, 240)  # widths: the picture, the network's input, the prediction


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

    def add(self, picture: Thumbnail, prediction: Prediction) -> None:
        """Add a row for a picture."""
        if len(self.rows) < MAX_ROWS:
            self.rows.append(sheet_row(picture, prediction))
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


def sheet_row(picture: Thumbnail, prediction: Prediction) -> NDArray[np.uint8]:
    """Return a row as pixels: the picture, the network's input, the prediction.

    Raises
    ------
    SystemFailure
        Pillow is not installed.
    """
    Image, ImageDraw = require("PIL.Image", "image"), require("PIL.ImageDraw", "image")
    row = Image.new("RGB", (sum(COLUMNS) + 4 * MARGIN, ROW), "white")
    pen = ImageDraw.Draw(row)
    row.paste(Image.fromarray(picture.levels), (MARGIN, MARGIN))
    at = COLUMNS[0] + 2 * MARGIN
    if prediction.digit is not None:
        sides = (picture.scale * side for side in prediction.digit.box)
        top, left, bottom, right = (MARGIN + round(side) for side in sides)
        pen.rectangle([left - 2, top - 2, right + 1, bottom + 1], outline="red", width=2)
    if prediction.image is not None:
        row.paste(Image.fromarray(_enlarged(prediction.image)), (at, MARGIN))
    classes = (f"{label}   {p:.1%}" for label, p in prediction.top)
    lines = map(printable, [prediction.file, *classes, prediction.warning or ""])
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

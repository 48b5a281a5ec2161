"""What ``lenet predict`` writes: a table and a contact sheet.

The table is a .csv with one row per image, a .jsonl with the lines of ``--json``, or a submission:
a .csv of two columns, each image's id and its class. The contact sheet, which needs the extra
``image``, shows the pictures, the network's inputs and predictions.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import ExitStack
from io import TextIOWrapper
from os import PathLike
from pathlib import Path
from textwrap import wrap
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from lenet.data.pixels import for_display
from lenet.predict.prediction import HEIGHT, WIDTH, Prediction, Thumbnail
from lenet.system.extras import require
from lenet.system.files import replacing
from lenet.system.text import printable

COLUMNS: Final = ("file", "label", "probability", "second", "probability_2", "warning", "input")


class Table:
    """Writes predictions to a file, which is complete or, after an error, as it was before."""

    def __init__(self, path: Path, submission: Sequence[str] = ()) -> None:
        self.path, self.submission = path, submission
        self.count, self.warnings = 0, 0

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        file = self._stack.enter_context(replacing(self.path))
        self._file = TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
        self._csv: Any = None
        if self.path.suffix.lower() == ".csv":
            self._csv = csv.writer(self._file, lineterminator="\n")
            self._csv.writerow(self.submission or COLUMNS)
        return self

    def add(self, prediction: Prediction) -> None:
        """Write a prediction."""
        self.count += 1
        self.warnings += prediction.warning is not None
        if self._csv is None:
            self._file.write(f"{prediction.to_json()}\n")
            return
        p = prediction
        if self.submission:
            self._write(p.id, p.label)
            return
        second: tuple[str | None, float | None] = p.top[1] if len(p.top) > 1 else (None, None)
        self._write(p.file, p.label, p.probability, *second, p.warning, p.input)

    def _write(self, *cells: str | float | None) -> None:
        """Write a row; text from a file cannot act as a formula in a spreadsheet."""
        self._csv.writerow(
            [printable(cell, "csv") if isinstance(cell, str) else cell for cell in cells]
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.flush()
        self._file.detach()
        self._stack.__exit__(kind, error, trace)


MAX_ROWS = 100
MARGIN = 8
ROW = HEIGHT + 2 * MARGIN  # height of a row in pixels
WIDTHS = (WIDTH, 224, 240)  # widths: the picture, the network's input, the prediction


class Sheet:
    """The rows of a contact sheet; those after the first 100 are counted, not drawn."""

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
        """Write the sheet if it has rows; return a warning if some were left out."""
        if self.rows:
            with replacing(self.path) as file:
                self.pillow.fromarray(np.concatenate(self.rows)).save(file, "PNG")
        if not self.left_out:
            return None
        return printable(
            f"{self.path} shows the first {MAX_ROWS} images, {self.left_out:,} are left out"
        )


def sheet_row(picture: Thumbnail, prediction: Prediction) -> NDArray[np.uint8]:
    """Return a row as pixels: the picture, the network's input, the prediction."""
    Image, ImageDraw = require("PIL.Image", "image"), require("PIL.ImageDraw", "image")
    row = Image.new("RGB", (sum(WIDTHS) + 4 * MARGIN, ROW), "white")
    pen = ImageDraw.Draw(row)
    row.paste(Image.fromarray(picture.levels), (MARGIN, MARGIN))
    at = WIDTHS[0] + 2 * MARGIN
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
    pen.multiline_text((at + WIDTHS[1] + MARGIN, MARGIN), safe, fill="black", spacing=6)
    return np.asarray(row)


def _enlarged(image: NDArray[np.uint8]) -> NDArray[Any]:
    """Return (H,W) or (3,H,W) for display, every pixel enlarged to a square or left out."""
    pixels = for_display(image)
    longer = max(pixels.shape[:2])
    side, step = max(WIDTHS[1] // longer, 1), -(-longer // WIDTHS[1])
    return pixels[::step, ::step].repeat(side, axis=0).repeat(side, axis=1)

"""What a network makes of a picture, how sure it is, and when not to believe it.

A network has only digits to choose from, and softmax always sums to 1: it will call a blot an 8
and be sure of it. So every prediction comes with what speaks against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.predict.finder import MIN_SIZE, Digit, Pixels, find_digit, resized
from lenet.system.errors import printable
from lenet.system.extras import require
from lenet.system.files import replacing
from lenet.training.checkpoint import Checkpoint
from lenet.training.restore import preprocessing_of, restore_network

TOP = 3
UNSURE = 0.8  # probability below which a prediction is warned of
SMALL = 12  # pixels of a digit's longer side
PALE = 0.12  # contrast; 1 is black on white
BLOT = 0.34  # width of strokes, of the length


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image.

    Attributes
    ----------
    file
        Its name.
    label, probability
        Of the most probable class; None where nothing was found.
    top
        The three most probable classes with their probabilities.
    warning
        What speaks against believing it, or None.
    digit
        What was found, and given to the network.
    """

    file: str
    label: str | None
    probability: float | None
    top: tuple[tuple[str, float], ...]
    warning: str | None
    digit: Digit | None

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        top = [{"label": label, "probability": p} for label, p in self.top]
        names = ("file", "label", "probability", "warning")
        return {name: getattr(self, name) for name in names} | {"top": top}


class Predictor:
    """The network of a checkpoint, with the preprocessing and the class names that belong to it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.network = restore_network(checkpoint)
        self.preprocessing = preprocessing_of(checkpoint)
        self.class_names = checkpoint.class_names

    def __call__(self, file: str, pixels: Pixels) -> Prediction:
        """Find the digit in pixels (H,W,3) from 0 to 1, and say which one it is."""
        digit = find_digit(pixels)
        if digit is None:
            small = min(pixels.shape[:2]) < MIN_SIZE
            why = "the image is too small" if small else "nothing stands out from the background"
            return Prediction(file, None, None, (), f"no digit found: {why}", None)
        x = self.preprocessing.blank(1, self.network.dtype)
        self.preprocessing.apply(digit.image[None], x)
        probabilities = self.network.predict(x.transpose(3, 0, 1, 2))[0]
        order = np.argsort(-probabilities, kind="stable")[:TOP]
        top = tuple((self.class_names[c], round(float(probabilities[c]), 6)) for c in order)
        label, probability = top[0]
        return Prediction(file, label, probability, top, warning_of(digit, probability), digit)


def warning_of(digit: Digit, probability: float) -> str | None:
    """Return what speaks against believing a prediction of this probability, or None."""
    height, width = digit.box[2] - digit.box[0], digit.box[3] - digit.box[1]
    doubts = [
        (digit.shapes > 1, f"{digit.shapes} shapes of its size: only the largest was looked at"),
        (width > 1.5 * height, "wider than a digit: several that touch, or not upright"),
        (digit.stroke > BLOT, "a blot, without strokes"),
        (digit.length < SMALL, f"too small: {height:.0f}×{width:.0f} pixels"),
        (digit.contrast < PALE, f"too pale: contrast {digit.contrast:.0%}"),
        (probability < UNSURE, "looks like no digit that the network knows"),
    ]
    return "; ".join(text for doubtful, text in doubts if doubtful) or None


# --- What the network saw ------------------------------------------------------------------------

ROW = 240  # height of a row, and of what stands in it but the margin
ENLARGED = 8  # times, what the network saw
MARGIN = 8
COLUMNS = (320, 28 * ENLARGED, 240)  # widths: the picture, what the network saw, the words


def sheet_row(pixels: Pixels, prediction: Prediction) -> NDArray[np.uint8]:
    """Return a row of the contact sheet as pixels: the picture, what the network saw, the words.

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
    row.paste(
        Image.fromarray(np.rint(255 * np.clip(small, 0, 1)).astype(np.uint8)), (MARGIN, MARGIN)
    )
    at = COLUMNS[0] + 2 * MARGIN
    if prediction.digit is not None:
        top, left, bottom, right = (MARGIN + round(scale * side) for side in prediction.digit.box)
        pen.rectangle([left - 2, top - 2, right + 1, bottom + 1], outline="red", width=2)
        seen = prediction.digit.image.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)
        row.paste(Image.fromarray(seen), (at, MARGIN))
    top = (f"{label}   {p:.1%}" for label, p in prediction.top)
    lines = map(printable, [prediction.file, *top, prediction.warning or ""])
    text = [part for line in lines for part in wrap(line, 38)]
    safe = "\n".join(text).encode("ascii", "backslashreplace").decode()
    pen.multiline_text((at + COLUMNS[1] + MARGIN, MARGIN), safe, fill="black", spacing=6)
    return np.asarray(row)


def write_sheet(path: str | PathLike[str], rows: Sequence[NDArray[np.uint8]]) -> None:
    """Write rows under one another as a PNG.

    Raises
    ------
    SystemFailure
        Pillow is not installed, or the file cannot be written.
    """
    sheet = require("PIL.Image", "image").fromarray(np.concatenate(rows))
    with replacing(Path(path)) as file:
        sheet.save(file, "PNG")

"""The class of a picture, its probability, and reasons to doubt it.

A network can only choose among its classes, and softmax always sums to 1: it calls a blot an 8 with
high probability. So every prediction of a digit comes with warnings about what was found in the
picture.

A network of one channel is given the digit that :mod:`lenet.predict.finder` finds in the picture; a
network of three channels the whole picture in red, green and blue, scaled to fit its input.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenet.data.pixels import Pixels, fitted
from lenet.predict.finder import MIN_SIZE, SIZE, Digit, find_digit
from lenet.system.errors import ConfigError
from lenet.system.text import printable
from lenet.training.checkpoint import Checkpoint
from lenet.training.restore import preprocessing_of, restore_network

TOP = 3
UNSURE = 0.8  # a lower probability is warned of
SMALL = 12  # pixels of the longer side of a digit
PALE = 0.12  # contrast; 1 is black on white
BLOT = 0.34  # width of strokes as a fraction of the length


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one picture.

    Attributes
    ----------
    file
        Its name.
    label, probability
        Of the most probable class; None where no digit was found.
    top
        The three most probable classes with their probabilities.
    warning
        Reasons to doubt the prediction, or None.
    image
        What the network was given: uint8 (H,W), or (3,H,W) in colour; None where no digit was
        found.
    digit
        The digit that was found; None also for colour images, in which none is searched for.
    """

    file: str
    label: str | None
    probability: float | None
    top: tuple[tuple[str, float], ...]
    warning: str | None
    image: NDArray[np.uint8] | None
    digit: Digit | None

    def to_json(self) -> str:
        """Return the line that ``--json`` prints."""
        top = [{"label": label, "probability": p} for label, p in self.top]
        names = ("file", "label", "probability", "warning")
        return json.dumps({name: getattr(self, name) for name in names} | {"top": top})

    def to_text(self) -> str:
        """Return the line to read: the file, and the classes with their probabilities."""
        classes = ", ".join(f"{label} {probability:.1%}" for label, probability in self.top)
        return printable(f"{self.file}: {classes or 'no digit'}")


class Predictor:
    """The network of a checkpoint, with the preprocessing and the class names that belong to it.

    Raises
    ------
    ConfigError
        The network takes neither grey nor colour images.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.network = restore_network(checkpoint)
        self.preprocessing = preprocessing_of(checkpoint)
        self.class_names = checkpoint.class_names
        check_channels(self.network.input_shape)

    def __call__(self, file: str, pixels: Pixels) -> Prediction:
        """Predict the class of the picture ``pixels``, (H,W,3) from 0 to 1."""
        image, digit = image_for(self.network.input_shape, pixels)
        if image is None:
            small = min(pixels.shape[:2]) < MIN_SIZE
            why = "the image is too small" if small else "nothing stands out from the background"
            return Prediction(file, None, None, (), f"no digit found: {why}", None, None)
        return self._predict(file, image, digit)

    def _predict(self, file: str, image: NDArray[np.uint8], digit: Digit | None) -> Prediction:
        x = self.preprocessing.prepare(image[None], self.network.dtype)
        probabilities = self.network.predict(x.transpose(3, 0, 1, 2))[0]
        order = np.argsort(-probabilities, kind="stable")[:TOP]
        top = tuple((self.class_names[c], round(float(probabilities[c]), 6)) for c in order)
        label, probability = top[0]
        warning = warning_of(digit, probability)
        return Prediction(file, label, probability, top, warning, image, digit)


def image_for(
    input_shape: tuple[int, ...], pixels: Pixels
) -> tuple[NDArray[np.uint8] | None, Digit | None]:
    """Return the image that a network is given for a picture, and the digit found in it.

    Parameters
    ----------
    input_shape
        (C,H,W) of the network's input.
    pixels
        The picture, (H,W,3) from 0 to 1.

    Returns
    -------
    uint8 (28,28), reduced where the input is smaller, and the digit; or (3,H,W) and no digit. Two
    times None where there is no digit.

    Raises
    ------
    ConfigError
        See :func:`check_channels`.
    """
    check_channels(input_shape)
    C, H, W = input_shape
    if C == 3:
        return fitted(pixels, H, W), None
    digit = find_digit(pixels)
    if digit is None:
        return None, None
    if min(H, W) >= SIZE:
        return digit.image, digit
    return fitted(digit.image[..., None].astype(np.float32) / np.float32(255), H, W)[0], digit


def check_channels(input_shape: tuple[int, ...]) -> None:
    """Refuse a network that no picture fits.

    Raises
    ------
    ConfigError
        It takes neither 1 channel nor 3.
    """
    if input_shape[0] not in {1, 3}:
        raise ConfigError(
            f"the network takes images of {input_shape[0]} channels; pictures have 1 or 3",
            remedy="use the network from Python, on arrays",
            key="model",
        )


def warning_of(digit: Digit | None, probability: float) -> str | None:
    """Return the reasons to doubt a prediction of this probability, or None.

    ``digit`` is the digit that was found, or None for a colour image.
    """
    doubts = []
    unknown = "looks like nothing that the network knows"
    if digit is not None:
        height, width = digit.box[2] - digit.box[0], digit.box[3] - digit.box[1]
        doubts = [
            (
                digit.shapes > 1,
                f"{digit.shapes} shapes of its size: only the largest was looked at",
            ),
            (width > 1.5 * height, "wider than a digit: several that touch, or not upright"),
            (digit.stroke > BLOT, "a blot, without strokes"),
            (digit.length < SMALL, f"too small: {height:.0f}×{width:.0f} pixels"),
            (digit.contrast < PALE, f"too pale: contrast {digit.contrast:.0%}"),
        ]
        unknown = "looks like no digit that the network knows"
    doubts.append((probability < UNSURE, unknown))
    return "; ".join(text for doubtful, text in doubts if doubtful) or None

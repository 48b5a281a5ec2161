"""The class of an image, its probability, and reasons to doubt it.

A network can only choose among its classes, and softmax always sums to 1: it calls a blot an 8 with
high probability. So every prediction of a digit comes with warnings about what was found in the
picture, and a second packaged network, with the classes *other* and *digit*, tells digits from
other images. It was trained on both (``scripts/weights draw``) and takes images like MNIST's, uint8
(N,28,28), and no others.

How a picture becomes the input of the network is described in
:mod:`lenet.predict.preparation`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet.checkpoint.checkpoint import Checkpoint, load_checkpoint
from lenet.checkpoint.restore import packaged, restore_network
from lenet.data.labels import numbers
from lenet.data.loader import SLICE
from lenet.data.pixels import Pixels, as_uint8, for_display, resized
from lenet.errors import DataError, ImageError, LenetError
from lenet.evaluation.loop import predict
from lenet.nn.network import Network
from lenet.predict.finder import MIN_SIZE, Digit
from lenet.predict.planes import SIZE
from lenet.predict.preparation import Preparation, Prepared
from lenet.predict.sources import identifiers
from lenet.system.text import printable

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


FILE = "digit-or-not.npz"
MIN_PROBABILITY = 0.215
"""Of a digit; a lower one is warned of. Chosen on validation images of MNIST."""


class DigitOrNot:
    """The network, read when the first images are given.

    Examples
    --------
    >>> from lenet.data.strokes import draw
    >>> noise = np.random.default_rng(0).integers(0, 256, (1, 28, 28), dtype=np.uint8)
    >>> DigitOrNot()(np.concatenate([draw(2, seed=0)[0], noise])) > MIN_PROBABILITY
    array([ True,  True, False])
    """

    @cached_property
    def _loaded(self) -> tuple[Checkpoint, Network]:
        with packaged(FILE) as path:
            checkpoint = load_checkpoint(path)
        return checkpoint, restore_network(checkpoint)

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the probability (N,) that each image (N,28,28) is a digit."""
        checkpoint, network = self._loaded
        probabilities = predict(network, checkpoint.preprocessing, images)
        digit: NDArray[np.float64] = probabilities[:, checkpoint.class_names.index("digit")]
        return digit


def takes(checkpoint: Checkpoint, preparation: Preparation) -> bool:
    """Return whether a network's classes are the digits, and its images those of MNIST."""
    form = preparation.form
    return (
        checkpoint.class_names == numbers(10)
        and form is not None
        and form.shape == (1, SIZE, SIZE)
        and form.drawn_as_mnist
        and form.paper == 0
        and not form.narrow
    )


BATCH = SLICE  # the same products as in evaluation, to the last bit
PATIENCE = 16  # images that take milliseconds each, before the first results are printed
TOP = 3
UNSURE = 0.6  # a lower probability is warned of
SMALL = 12  # pixels of the longer side of a digit
PALE = 0.12  # contrast; 1 is black on white
WIDE = 1.25  # width by height: of MNIST's digits 2 in 100 are wider, of two that touch nearly all
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
        The digit that was found; None also where none is searched for.
    input
        How the image was prepared: ``as-is``, ``fit`` or ``digit``.
    id
        What identifies the image in a submission: its id or number in a table, or its file name.
    """

    file: str
    label: str | None
    probability: float | None
    top: tuple[tuple[str, float], ...]
    warning: str | None
    image: NDArray[np.uint8] | None
    digit: Digit | None
    input: str = "digit"
    id: str = ""

    def to_json(self) -> str:
        """Return the line that ``--json`` prints."""
        top = [{"label": label, "probability": p} for label, p in self.top]
        names = ("file", "label", "probability", "warning", "input")
        return json.dumps({name: getattr(self, name) for name in names} | {"top": top})

    def to_text(self) -> str:
        """Return the line to read: the file, and the classes with their probabilities."""
        classes = ", ".join(f"{label} {probability:.1%}" for label, probability in self.top)
        way = f" ({self.input})" * (self.input != "digit")
        return printable(f"{self.file}: {classes or 'no digit'}{way}")


class Waiting(NamedTuple):
    """An image that waits for its batch: its name and id, and whether it is very small."""

    file: str
    id: str
    prepared: Prepared
    small: bool


class Predictor:
    """The network of a checkpoint, with the way its images are prepared and its class names."""

    def __init__(self, checkpoint: Checkpoint, way: str = "auto") -> None:
        self.network = restore_network(checkpoint)
        self.preprocessing = checkpoint.preprocessing
        self.class_names = checkpoint.class_names
        self.preparation = Preparation(checkpoint, way)
        self.digit_or_not = DigitOrNot() if takes(checkpoint, self.preparation) else None

    def __call__(self, file: str, pixels: Pixels) -> Prediction:
        """Predict the class of the picture ``pixels``, (H,W,3) from 0 to 1."""
        small = min(pixels.shape[:2]) < MIN_SIZE
        prepared = self.preparation.picture(pixels)
        return next(self._predicted([Waiting(file, file, prepared, small)]))

    def files(
        self,
        paths: Iterable[Path],
        failed: Callable[[LenetError], None],
        *,
        with_thumbnails: bool = False,
        ids: Sequence[str] = (),
    ) -> Iterator[tuple[Prediction, Thumbnail | None]]:
        """Predict the images of many files, in batches; ``ids`` are names of columns with ids."""
        waiting: list[Waiting] = []
        thumbnails: list[Thumbnail | None] = []

        def flush() -> Iterator[tuple[Prediction, Thumbnail | None]]:
            yield from zip(self._predicted(waiting), thumbnails, strict=True)
            waiting.clear()
            thumbnails.clear()

        for path in paths:
            try:
                for (name, prepared, pixels), id_ in zip(
                    self.preparation.read(path), identifiers(path, ids), strict=False
                ):
                    if waiting and not _same_batch(prepared, waiting[0].prepared):
                        yield from flush()
                    small = pixels is not None and min(pixels.shape[:2]) < MIN_SIZE
                    waiting.append(Waiting(name, id_, prepared, small))
                    thumbnails.append(_thumbnail(prepared, pixels) if with_thumbnails else None)
                    if len(waiting) == (BATCH if prepared.way == "as-is" else PATIENCE):
                        yield from flush()
            except (DataError, ImageError) as error:
                yield from flush()
                failed(error)
        yield from flush()

    def _predicted(self, batch: Sequence[Waiting]) -> Iterator[Prediction]:
        """Yield the predictions for a batch of images of one shape."""
        images = [item.prepared.image for item in batch if item.prepared.image is not None]
        scored = self._scored(np.stack(images), batch[0].prepared.way) if images else iter(())
        for file, id_, (image, digit, way), small in batch:
            if image is None:
                why = "nothing stands out from the background"
                warning = f"no digit found: {'the image is too small' if small else why}"
                yield Prediction(file, None, None, (), warning, None, None, way, id_)
                continue
            top, unlike = next(scored)
            label, probability = top[0]
            doubts = warning_of(digit, probability, unlike_digits=unlike)
            yield Prediction(file, label, probability, top, doubts, image, digit, way, id_)

    def _scored(
        self, images: NDArray[np.uint8], way: str
    ) -> Iterator[tuple[tuple[tuple[str, float], ...], bool]]:
        """Yield, for each image, the most probable classes and whether it is not like a digit."""
        unlike = np.zeros(len(images), bool)
        if self.digit_or_not is not None and way != "fit":
            unlike = self.digit_or_not(images) < MIN_PROBABILITY
        yield from zip(self._rows(images), unlike.tolist(), strict=True)

    def _rows(self, images: NDArray[np.uint8]) -> Iterator[tuple[tuple[str, float], ...]]:
        """Yield, for each image (N,H,W) or (N,C,H,W), the most probable classes."""
        probabilities = predict(self.network, self.preprocessing, images)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
        top = np.take_along_axis(probabilities, order, axis=1).round(6)
        names = self.class_names
        for classes, values in zip(order.tolist(), top.tolist(), strict=True):
            yield tuple([(names[c], p) for c, p in zip(classes, values, strict=True)])


def _thumbnail(prepared: Prepared, pixels: Pixels | None) -> Thumbnail | None:
    """Return a picture, or the image of an array, for the contact sheet."""
    if pixels is None and prepared.image is not None:
        levels = np.atleast_3d(for_display(prepared.image)).astype(np.float32) / np.float32(255)
        pixels = np.broadcast_to(levels, (*levels.shape[:2], 3))
    return None if pixels is None else thumbnail(pixels)


def _same_batch(a: Prepared, b: Prepared) -> bool:
    """Return whether two images can be in one batch; the one without an image can be in any."""
    if a.image is None or b.image is None:
        return a.way == b.way
    return a.way == b.way and a.image.shape == b.image.shape


def warning_of(
    digit: Digit | None, probability: float, *, unlike_digits: bool = False
) -> str | None:
    """Return the reasons to doubt a prediction, or None."""
    doubts = []
    unknown = "unlike the images that the network learned from"
    if digit is not None:
        height, width = digit.box[2] - digit.box[0], digit.box[3] - digit.box[1]
        doubts = [
            (
                digit.shapes > 1,
                f"{digit.shapes} shapes of similar size: only the largest was used",
            ),
            (width > WIDE * height, "wider than a digit: several that touch, or not upright"),
            (digit.stroke > BLOT, "a blot, without strokes"),
            (digit.length < SMALL, f"too small: {height:.0f}×{width:.0f} pixels"),
            (digit.contrast < PALE, f"too pale: contrast {digit.contrast:.0%}"),
        ]
        unknown = "unlike the digits that the network learned from"
    doubts += [(unlike_digits, "not like a digit"), (probability < UNSURE, unknown)]
    return "; ".join(text for doubtful, text in doubts if doubtful) or None

"""How a picture or an array becomes the input of a network: as in its training.

A network knows only images like those it was trained on; the checkpoint describes them
(:class:`~lenet.data.measure.TrainingImages`). There are three ways in:

======== ===========================================================================================
as-is    the image is not changed, except as the training images were: transposed, inverted or
         scaled to ``data.size``
fit      the image is scaled to the size of the training images, its proportions kept; light and
         dark are exchanged if the background was dark and is light, or the reverse
digit    the digit is found, cut out, and redrawn as MNIST's are
======== ===========================================================================================

``auto`` takes the first that applies:

1. *as-is*: the size, the channels and the background are those of the training images and, if
   those were drawn as MNIST's digits, the ink is in the same place;
2. *digit*: the training images were drawn as MNIST's digits; or they are not known, and the network
   has one channel;
3. *fit*.

An array of several images is taken as it is as a whole, or image by image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet.checkpoint.checkpoint import Checkpoint
from lenet.data.imagefile import images_of_array, on_border, read_array, read_images
from lenet.data.levels import BYTES, as_bytes, measured, pictures
from lenet.data.measure import (
    TOLERANCE,
    ImageFacts,
    TrainingImages,
    disagreements,
    image_facts,
)
from lenet.data.pixels import Pixels, as_uint8, fitted
from lenet.data.preprocessing import image_shape
from lenet.data.sources import unlabelled
from lenet.errors import ConfigError, DataError, ImageError
from lenet.predict.finder import Digit, find_digit
from lenet.predict.planes import SIZE

WAYS: Final = ("auto", "as-is", "fit", "digit")

# Data sets of checkpoints that do not describe their images: whether they are digits as MNIST's.
KNOWN: Final = {"mnist": True, "qmnist": True, "strokes": True, "fashion-mnist": False}

GREY: Final = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as in Pillow
SIDE_TOLERANCE = 0.1  # of the ink's box in a few images, as a share of the image's side
MAX_OFFSET = 0.1  # of its centre of mass


class Prepared(NamedTuple):
    """An image for a network.

    Attributes
    ----------
    image
        uint8 (H,W) or (3,H,W); None where no digit was found.
    digit
        The digit that was found, with the way ``digit``.
    way
        ``as-is``, ``fit`` or ``digit``.
    """

    image: NDArray[np.uint8] | None
    digit: Digit | None
    way: str


class Preparation:
    """Converts images for the network of a checkpoint."""

    def __init__(self, checkpoint: Checkpoint, way: str = "auto") -> None:
        self.input_shape = checkpoint.model.input_shape
        check_channels(self.input_shape)
        if way == "digit" and self.input_shape[0] != 1:
            raise ConfigError(
                "digit is for networks of one channel; this one takes colour",
                remedy="use fit or as-is",
                key="--input",
            )
        self.way, self.form = way, _training_images_of(checkpoint)
        self.remarks: list[str] = []  # in what images differ from the training images
        data = checkpoint.config.data
        self.transpose, self.invert = data.transpose, data.invert
        self.size = None if isinstance(data.size, str) else data.size

    def read(self, path: Path) -> Iterator[tuple[str, Prepared, Pixels | None]]:
        """Yield the images of a file."""
        stored = unlabelled(path)
        array = read_array(path) if stored is None else stored
        levels = self.form.deep_levels if self.form else None
        try:
            images = None if array is None else self.array(array)
            if images is None:
                found = read_images(path, levels)
                if stored is not None:
                    found = images_of_array(path, stored, levels)
                for name, pixels in found:
                    yield name, self.picture(pixels), pixels
                return
            for number, image in enumerate(images):
                name = f"{path}[{number}]" if len(images) > 1 else str(path)
                yield name, Prepared(image, None, "as-is"), None
        except (DataError, ImageError) as error:
            error.file = str(path)
            raise

    def array(self, array: NDArray[Any]) -> NDArray[np.uint8] | None:
        """Return an array of images as they are, or None if they are to be converted one by one."""
        if self.way not in ("auto", "as-is"):
            return None
        stack, _ = pictures(array)
        images = np.moveaxis(stack, 3, 1) if stack.ndim == 4 else stack
        if self.transpose:
            images = np.swapaxes(images, -1, -2)
        form, shape = self.form, image_shape(images)
        if self.way == "auto" and (form is None or form.shape != shape):
            return None
        stored = form is not None and form.levels != BYTES and array.dtype != np.uint8
        levels = form.levels if form is not None and stored else measured(array, Path())
        pixels = self._as_trained(as_bytes(images, levels))
        if self.way == "as-is":
            self._check_shape(shape)
            self._compare(pixels)
            return pixels
        return pixels if self._looks_as_trained(pixels) else None

    def picture(self, pixels: Pixels) -> Prepared:
        """Return a picture, (H,W,3) from 0 to 1, as an image for the network."""
        if self.way == "as-is" or (self.way == "auto" and self._has_form(pixels)):
            image = self._as_it_is(pixels)
            if self.way == "as-is":
                self._check_shape(image_shape(image[None]))
                self._compare(image[None])
            if self.way == "as-is" or self._looks_as_trained(image[None]):
                return Prepared(image, None, "as-is")
        digits = self.input_shape[0] == 1 and (self.form is None or self.form.drawn_as_mnist)
        if self.way == "digit" or (self.way == "auto" and digits):
            digit = find_digit(pixels)
            return Prepared(None if digit is None else self._redrawn(digit), digit, "digit")
        return Prepared(self._fitted(pixels), None, "fit")

    def _compare(self, images: NDArray[np.uint8]) -> None:
        """Note in what images that are taken as they are differ from the training images."""
        form = self.form
        if form is not None:
            facts = ImageFacts(form.shape, form.darkest, form.lightest, math.nan, form.paper)
            for line in disagreements(facts, image_facts(images), "these images"):
                self._remark(line)

    def _remark(self, line: str) -> None:
        if line not in self.remarks:
            self.remarks.append(line)

    # --- As it is -----------------------------------------------------------------------------

    def _as_it_is(self, pixels: Pixels) -> NDArray[np.uint8]:
        """Return a picture as the training pictures were read."""
        if self.size is None or pixels.shape[:2] == self.size:
            picture = as_uint8(pixels)
        else:
            picture = on_border(fitted(pixels, *self.size).transpose(1, 2, 0), *self.size)
        image = self._channels(picture)
        return self._as_trained(np.swapaxes(image, -1, -2) if self.transpose else image)

    def _has_form(self, pixels: Pixels) -> bool:
        """Return whether a picture has the size and the channels of the training images."""
        if self.form is None:
            return False
        C, H, W = self.form.shape
        size = (W, H) if self.transpose else (H, W)
        if self.size is None and pixels.shape[:2] != size:
            return False
        return C == 3 or bool((pixels == pixels[..., :1]).all())

    def _as_trained(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.subtract(255, images) if self.invert else np.ascontiguousarray(images)

    def _channels(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return (H,W,3) as (3,H,W) or, for a grey network, (H,W)."""
        if self.input_shape[0] == 3:
            return picture.transpose(2, 0, 1)
        if (picture == picture[..., :1]).all():
            return picture[..., 0]
        grey = (picture.astype(np.float32) / np.float32(255)) @ GREY
        return as_uint8(grey.astype(np.float32))

    def _check_shape(self, shape: tuple[int, int, int]) -> None:
        C, H, W = self.input_shape
        if shape[0] != C or shape[1] > H or shape[2] > W:
            raise ImageError(
                f"is {'×'.join(map(str, shape))}, the network takes {C}×{H}×{W}",
                remedy="leave out --input as-is, or use --input fit",
            )

    def _looks_as_trained(self, images: NDArray[np.uint8]) -> bool:
        """Return whether background and place of the ink are those of the training images."""
        form = self.form
        if form is None or form.paper is None:
            return True
        facts = image_facts(images)
        tolerance = TOLERANCE * (form.lightest - form.darkest) / 255
        if facts.paper is None or abs(facts.paper - form.paper) > tolerance:
            # Where images fill the field, a few of them may have no common border.
            return facts.paper is None and not form.drawn_as_mnist
        if not form.drawn_as_mnist:
            return True
        near = abs(facts.ink_side - 20 / 28) < SIDE_TOLERANCE  # false without any ink
        return near and facts.ink_offset < MAX_OFFSET

    # --- Fitted, or redrawn ---------------------------------------------------------------------

    def _fitted(self, pixels: Pixels) -> NDArray[np.uint8]:
        if self.transpose:
            pixels = np.swapaxes(pixels, 0, 1)
        form = self.form
        if form is None:
            return self._channels(fitted(pixels, *self.input_shape[1:]).transpose(1, 2, 0))
        _, H, W = form.shape
        if pixels.shape[:2] != (H, W) and self.size is None:
            self._remark(f"images of other sizes are scaled to {H}×{W}, the training images' size")
        image = self._channels(on_border(fitted(pixels, H, W).transpose(1, 2, 0), H, W))
        if self.invert:
            image = np.subtract(255, image)
        paper = None if form.paper is None else image_facts(image[None]).paper
        if paper is not None and (paper > 127) != self._light:
            kind = "light" if self._light else "dark"
            self._remark(
                f"light and dark are exchanged: the background of the training images is {kind}"
            )
            image = np.subtract(255, image)
        return self._levels(image)

    def _redrawn(self, digit: Digit) -> NDArray[np.uint8]:
        """Return the image of a digit, white on black, in size and colours of the training."""
        _, H, W = self.input_shape
        if self.form is not None:
            _, H, W = self.form.shape
        elif min(H, W) >= SIZE:
            H, W = SIZE, SIZE
        image = digit.image
        if image.shape != (H, W):
            image = fitted(image[..., None].astype(np.float32) / np.float32(255), H, W)[0]
        return self._levels(np.subtract(255, image) if self._light else image)

    @property
    def _light(self) -> bool:
        """Whether the background of the training images is light."""
        form = self.form
        return bool(form and form.paper and form.paper > (form.darkest + form.lightest) / 2)

    def _levels(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return levels from 0 to 255 as the training images have them."""
        form = self.form
        if form is None or not form.narrow:
            return image
        width = form.lightest - form.darkest
        levels: NDArray[np.uint8] = np.rint(form.darkest + image * (width / 255)).astype(np.uint8)
        return levels


def check_channels(input_shape: tuple[int, ...]) -> None:
    """Refuse a network that no picture fits."""
    if input_shape[0] not in {1, 3}:
        raise ConfigError(
            f"the network takes images of {input_shape[0]} channels; pictures have 1 or 3",
            remedy="use the network from Python, on arrays",
            key="model",
        )


def _training_images_of(checkpoint: Checkpoint) -> TrainingImages | None:
    """Return what the training images look like; of an old checkpoint, by the name of the data."""
    if checkpoint.images is not None:
        return checkpoint.images
    drawn, (C, H, W) = KNOWN.get(checkpoint.dataset), checkpoint.model.input_shape
    if drawn is None or C != 1 or min(H, W) < SIZE:
        return None
    return TrainingImages((1, SIZE, SIZE), paper=0 if drawn else None, drawn_as_mnist=drawn)

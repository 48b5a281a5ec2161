"""A network ready for export: plain layers in float32, and how raw images become its input.

Both formats take raw images with levels from 0 to 255, as data sets store them; scaling and padding
are part of what is exported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from lenet.arrays import Array
from lenet.checkpoint.checkpoint import Checkpoint
from lenet.checkpoint.restore import plain_network
from lenet.data.preprocessing import Preprocessing
from lenet.data.strokes import draw
from lenet.errors import ConfigError
from lenet.nn.network import Network

GREY_SIZE: Final = 28  # of MNIST and its relatives
DIGITS: Final = tuple("0123456789")


@dataclass(frozen=True)
class ExportedNetwork:
    """A network and what its export needs to know.

    Attributes
    ----------
    network
        Layers that are not fused, in float32.
    size
        Height and width of a raw image.
    preprocessing
        How raw images become the network's input.
    class_names
        One for each class.
    origin
        Where the network comes from, on one line.
    """

    network: Network
    size: tuple[int, int]
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    origin: str

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C,H,W) of a raw image."""
        return self.network.input_shape[0], *self.size

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """The background around a raw image: above, left, below, right."""
        _, H, W = self.network.input_shape
        (h, w), (top, left) = self.size, self.preprocessing.margins(*self.size)
        return top, left, H - h - top, W - w - left

    @property
    def is_of_digits(self) -> bool:
        """Whether it takes images as those of MNIST."""
        return self.image_shape == (1, GREY_SIZE, GREY_SIZE) and self.class_names == DIGITS

    @property
    def placement(self) -> str:
        """Where the object must be in an image, in a sentence."""
        if self.is_of_digits:
            return (
                "as in MNIST: light ink on a dark background, the digit upright and scaled to fit "
                "20 x 20 pixels, its centre of mass in the middle of the 28 x 28 image"
            )
        return "as in the images that the network was trained on"

    def scores(self, images: Array) -> Array:
        """Return the scores (N, classes) that this package computes for raw images (N,C,H,W)."""
        network = self.network
        return network.scores(network.forward(self.preprocessing.prepare(images))).T.copy()


def exported_network(
    checkpoint: Checkpoint, size: tuple[int, int] | None = None
) -> ExportedNetwork:
    """Prepare the network of a checkpoint for export.

    Parameters
    ----------
    checkpoint
        The network.
    size
        Height and width of the raw images. By default 28×28 for a grey network whose input is at
        least as large, otherwise the size of the input.

    Raises
    ------
    ConfigError
        Images of this size are larger than the network's input.
    """
    network = plain_network(checkpoint)
    C, H, W = network.input_shape
    if size is None:
        size = (GREY_SIZE, GREY_SIZE) if C == 1 and min(H, W) >= GREY_SIZE else (H, W)
    if size[0] > H or size[1] > W:
        raise ConfigError(
            f"is {_side(*size)}, larger than the network's input of {_side(H, W)}",
            remedy="give the size of the images that the network was trained on",
            key="--image-size",
        )
    origin = f"trained on {checkpoint.dataset}, epoch {checkpoint.epoch}, step {checkpoint.step}"
    preprocessing = checkpoint.preprocessing
    return ExportedNetwork(network, size, preprocessing, checkpoint.class_names, origin)


def sample_image(exported: ExportedNetwork) -> Array:
    """Return a raw image (C,H,W), uint8, on which an exported network can be tested.

    For a network of digits it is the drawn digit, of some, with the largest margin between the
    first and the second score, otherwise noise.
    """
    if exported.is_of_digits:
        images = draw(20, seed=0)[0][:, None]
        first, second = np.sort(exported.scores(images), axis=1)[:, :-3:-1].T
        return np.asarray(images[(first - second).argmax()])
    noise = np.random.default_rng(1).integers(256, size=exported.image_shape)
    return noise.astype(np.uint8)


def _side(height: int, width: int) -> str:
    return str(height) if height == width else f"{height}×{width}"

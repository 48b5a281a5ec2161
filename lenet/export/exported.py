"""A network ready for export: plain layers in float32, and how raw images become its input.

Both formats take raw images with levels from 0 to 255, as data sets store them; scaling and padding
are part of what is exported.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Final

import numpy as np

from lenet.data.preprocessing import Preprocessing
from lenet.nn.im2col import Array
from lenet.nn.layer import Layer
from lenet.nn.network import Network
from lenet.nn.pooling import AveragePooling
from lenet.system.errors import ConfigError
from lenet.training.checkpoint import Checkpoint
from lenet.training.restore import plain_network, preprocessing_of

GREY_SIZE: Final = 28  # of MNIST and its relatives


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

    def scores(self, images: Array) -> Array:
        """Return the scores (N, classes) that this package computes for raw images (N,C,H,W)."""
        network = self.network
        return network.scores(network.forward(self.preprocessing.prepare(images))).T


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
    preprocessing = preprocessing_of(checkpoint)
    return ExportedNetwork(network, size, preprocessing, checkpoint.class_names, origin)


def average_factors(layer: AveragePooling) -> Array:
    """Return the factors (Ho,Wo) by which the sums of the windows are multiplied."""
    allocated = deepcopy(layer)  # the buffers of the network stay as they are
    allocated.allocate(1, np.float32)
    factor = np.asarray(allocated.factor, np.float32)
    return np.broadcast_to(factor.reshape(factor.shape[:2]), layer.output_shape[1:])


def _side(height: int, width: int) -> str:
    return str(height) if height == width else f"{height}×{width}"


def not_exported(layer: Layer, form: str, what: str = "") -> ConfigError:
    """Return the error for a layer, or one of its options, that cannot be written in a format."""
    return ConfigError(
        f"{type(layer).__name__}{what and f' with {what}'} cannot be exported to {form}",
        remedy="export to the other format, or train a network without it",
        key=f"layer {layer.name}",
    )

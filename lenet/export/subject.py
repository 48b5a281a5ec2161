"""What is handed on: the plain layers in float32, and how grey levels become their input.

Both formats take raw grey images, 0 (background) to 255 (ink), as MNIST has them; scaling and
padding are part of what is exported, so that nobody has to repeat them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lenet.data.preprocessing import Preprocessing
from lenet.nn.im2col import Array
from lenet.nn.layer import Layer
from lenet.nn.network import Network
from lenet.system.errors import ConfigError
from lenet.training.checkpoint import Checkpoint
from lenet.training.restore import plain_network, preprocessing_of


@dataclass(frozen=True)
class Subject:
    """A network to export.

    Attributes
    ----------
    network
        Of plain layers, in float32.
    image
        Height and width of a raw image.
    preprocessing
        What the network wants done to it.
    class_names
        One a class.
    origin
        Where the network comes from, in a line.
    """

    network: Network
    image: int
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    origin: str

    @property
    def margins(self) -> tuple[int, int]:
        """The padding above and to the left, and that below and to the right."""
        before, _ = self.preprocessing.margins(self.image, self.image)
        return before, self.preprocessing.input_size - self.image - before

    def scores(self, images: Array) -> Array:
        """Return the scores (N, classes) that this package computes for raw images (N,1,H,W)."""
        x = self.preprocessing.blank(len(images), np.float32)
        self.preprocessing.apply(images[:, 0], out=x)
        return self.network.forward(x).T


def subject(checkpoint: Checkpoint, image: int = 28) -> Subject:
    """Make a checkpoint ready for export.

    Raises
    ------
    ConfigError
        Images of this size do not fit the network.
    """
    preprocessing = preprocessing_of(checkpoint)
    if image > preprocessing.input_size:
        raise ConfigError(
            f"is {image}, larger than the network's input of {preprocessing.input_size}",
            remedy="give the size of the images that the network was trained on",
            key="--image-size",
        )
    origin = f"trained on {checkpoint.dataset}, epoch {checkpoint.epoch}, step {checkpoint.step}"
    network = plain_network(checkpoint)
    return Subject(network, image, preprocessing, checkpoint.class_names, origin)


def not_exported(layer: Layer, form: str) -> ConfigError:
    """Return the error for a layer that a format has no words for here."""
    return ConfigError(
        f"{type(layer).__name__} with these options is not exported to {form}",
        remedy="export a network of the layers that lenet.models has",
        key=f"layer {layer.name}",
    )

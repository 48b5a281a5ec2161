"""Networks between checkpoints and other programs: ready for export, and just imported.

All exports take raw images with levels from 0 to 255, as data sets store them; scaling and padding
are part of what is exported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from lenet.arrays import Array
from lenet.checkpoint.checkpoint import Checkpoint, facts
from lenet.checkpoint.restore import plain_network
from lenet.config.schema import Config
from lenet.data.preprocessing import Preprocessing
from lenet.data.strokes import draw
from lenet.errors import ConfigError, DataError
from lenet.models.specification import Specification
from lenet.nn.network import Network

GREY_SIZE: Final = 28  # of MNIST and its relatives
DIGITS: Final = tuple("0123456789")


@dataclass(frozen=True)
class ExportedNetwork:
    """A network of plain layers in float32, and what its export needs to know."""

    network: Network
    size: tuple[int, int]
    """Height and width of a raw image."""
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
    """Prepare the network of a checkpoint for export."""
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


# --- Import ---------------------------------------------------------------------------------------


def refuse_pointer(content: bytes) -> None:
    """Refuse what Git LFS leaves in the place of a large file that was not fetched."""
    if content.startswith(b"version https://git-lfs"):
        raise DataError("is a pointer of Git LFS, not the file itself", remedy="git lfs pull")


def imported_checkpoint(
    model: Specification,
    arrays: Mapping[str, Array],
    class_names: tuple[str, ...] | None,
    background: int = 0,
) -> Checkpoint:
    """Return a network that another program has trained as a checkpoint."""
    C, H, W = model.input_shape
    classes = model.classes()
    if class_names is not None and len(class_names) != classes:
        raise ConfigError(
            f"are {len(class_names)} names for {classes} classes",
            remedy="give one name for each class",
            key="--classes",
        )
    for name, array in arrays.items():
        with np.errstate(over="ignore"):
            if not np.isfinite(array.astype(np.float32)).all():
                raise DataError(
                    "is not finite in float32", remedy="train the network again", key=name
                )
    config = Config().with_values(
        {
            "model.layers": list(model.layers),
            "model.input": [C, H, W],
            "model.classes": classes,
            "data.name": "arrays",
        }
    )
    return Checkpoint(
        config=config,
        model=model,
        parameters={name: arrays[name].astype(np.float32) for name in model.parameter_shapes()},
        state={name: arrays[name].astype(np.float64) for name in model.state_shapes()},
        preprocessing=Preprocessing((C, H, W), model.scale, model.shift, background),
        class_names=class_names or tuple(map(str, range(classes))),
        dataset="arrays",
        step=0,
        epoch=0,
        metrics={},
        training=None,
        facts=facts(1),
    )

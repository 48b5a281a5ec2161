"""From a checkpoint and a request to a figure: which image, layers, units and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lenet.arrays import Array
from lenet.checkpoint.checkpoint import Checkpoint
from lenet.checkpoint.restore import plain_network
from lenet.config.schema import Config
from lenet.data.dataset import Split
from lenet.errors import ConfigError, ImageError
from lenet.evaluation.images import load_images
from lenet.evaluation.loop import evaluate_probabilities
from lenet.evaluation.mistakes import predict_split
from lenet.inspect import choices, gradient_plots, patch_plots, plots, products, responses, units
from lenet.nn.network import Network
from lenet.predict.preparation import Preparation
from lenet.system.registry import lookup

MAX_UNITS: Final = 4  # units of a layer in the plot of deconvolution
MAX_FIELDS: Final = 7  # layers in the plot of receptive fields
EMBEDDED: Final = 1000  # test images

Draw = Callable[[], Any]


def inspect(
    checkpoint: Checkpoint,
    what: str,
    *,
    file: Path | None = None,
    number: int = 0,
    layer: str | None = None,
    unit: int | None = None,
    label: str | None = None,
    data_dir: str | None = None,
    test: Split | None = None,
    config: Config | None = None,
) -> Draw:
    """Compute what a plot shows, and return the function that draws its figure."""
    lookup(choices.PLOTS, what, key="plot")
    network = plain_network(checkpoint)
    if what == "filters":
        names = [layer] if layer else responses.convolutions(network)[:2]
        return partial(plots.filters, network, names)
    if file is None:
        config = config or checkpoint.config
        name = "the given arrays" if test else config.data.name
        test = test or load_images(checkpoint, "test", config, data_dir)
        if what == "embedding":
            return _embedding(network, checkpoint, test, name)
        if what == "reliability":
            result = evaluate_probabilities(predict_split(checkpoint, test), test.labels)
            return partial(plots.reliability, result, name)
        image, caption, right = _test_image(test, number, name)
    else:
        image, caption, right = _image_in(file, checkpoint), file.name, None
    x = checkpoint.preprocessing.prepare(image[None], np.float32)
    request = Request(
        network, image, x, caption, checkpoint.class_names, layer, unit, label, right
    )  # fmt: skip
    return OF_ONE_IMAGE[what](request)


def _embedding(network: Network, checkpoint: Checkpoint, test: Split, name: str) -> Draw:
    images, labels = test.images[:EMBEDDED], test.labels[:EMBEDDED]
    preprocessing, names = checkpoint.preprocessing, checkpoint.class_names
    return partial(plots.embedding, network, preprocessing, images, labels, names, name)


# --- Images ---------------------------------------------------------------------------------------


def _test_image(
    test: Split, number: int, name: str
) -> tuple[NDArray[np.uint8], str, int | None]:  # fmt: skip
    """Return a test image of the data set ``name``, its caption, and its label if there is one."""
    if not 0 <= number < len(test.images):
        raise ConfigError(
            f"is {number}, but there are {len(test.images)} test images",
            remedy=f"give a number from 0 to {len(test.images) - 1}",
            key="--index",
        )
    caption = f"test image {number} of {name}"
    if not test.labels.size:
        return test.images[number], caption, None
    label = int(test.labels[number])
    return test.images[number], f"{caption}: {test.class_names[label]}", label


def _image_in(file: Path, checkpoint: Checkpoint) -> NDArray[np.uint8]:
    """Return the first image of a file as ``lenet predict`` gives it to a network."""
    _, (image, _, _), _ = next(Preparation(checkpoint).read(file))
    if image is None:
        raise ImageError(
            "no digit found in it", remedy="give an image in which one stands out", file=file
        )
    return image


# --- Plots of one image ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """A plot of one image.

    Attributes
    ----------
    network
        Of plain layers.
    image, x
        The image in uint8, and as the network's input (C,H,W,1).
    caption
        The image's name.
    class_names
        Of the network.
    layer, unit, label
        As given to :func:`inspect`.
    right
        The image's label, if it is known.
    """

    network: Network
    image: NDArray[np.uint8]
    x: Array
    caption: str
    class_names: Sequence[str]
    layer: str | None
    unit: int | None
    label: str | None
    right: int | None

    def labels(self) -> tuple[int, int]:
        """Return a wrong label and the right one; without a known label, the predicted class."""
        scores = self.network.scores(self.network.forward(self.x))[:, 0]
        right = int(scores.argmax()) if self.right is None else self.right
        if self.label is None:
            return int(np.where(np.arange(scores.size) == right, -np.inf, scores).argmax()), right
        wrong = lookup(
            {name: k for k, name in enumerate(self.class_names)}, self.label, key=choices.LABEL
        )
        return wrong, right

    def with_label(self) -> tuple[int, str]:
        """Return the label for which the gradient is computed, and a caption with its name."""
        label, _ = self.labels()
        return label, f"{self.caption}, with the label {self.class_names[label]}"

    def convolution(self, first: int) -> str:
        """Return the name of the layer, or of a convolution: ``first``, or the last before it."""
        return self.layer or responses.convolutions(self.network)[: first + 1][-1]


def _maps(r: Request) -> Draw:
    return partial(plots.maps, r.network, r.x, r.class_names, r.caption)


def _edges(r: Request) -> Draw:
    return partial(plots.edges, r.image, r.caption)


def _patches(r: Request) -> Draw:
    product = products.product(r.network, r.x, r.convolution(0))
    return partial(patch_plots.patches, product, product.conv.bias.value, r.caption)


def _gradients(r: Request) -> Draw:
    wrong, right = r.labels()
    if wrong == right:
        raise ConfigError(
            f"{r.class_names[wrong]} is the right label, which is shown beside it",
            remedy="choose another class",
            key=choices.LABEL,
        )
    kinds = ("not predicted", "predicted") if r.right is None else ("wrong", "right")
    found = {
        f"{r.class_names[label]} ({kind})": responses.gradients(r.network, r.x, label)
        for label, kind in zip((wrong, right), kinds, strict=True)
    }
    return partial(gradient_plots.gradients, r.x, found, r.class_names, r.caption)


def _data_gradient(r: Request) -> tuple[products.BackwardProduct, str]:
    """Return the data gradient of the layer, or of the second convolution, which needs one."""
    label, caption = r.with_label()
    return products.backward_product(r.network, r.x, r.convolution(1), label), caption


def _col2im(r: Request) -> Draw:
    return partial(patch_plots.col2im, *_data_gradient(r))


def _rotation(r: Request) -> Draw:
    return partial(patch_plots.rotation, *_data_gradient(r))


def _switches(r: Request) -> Draw:
    label, caption = r.with_label()
    return partial(
        gradient_plots.switches, responses.winners(r.network, r.x, r.layer, label), caption
    )  # fmt: skip


def _deconv(r: Request) -> Draw:
    name = r.layer or responses.last_pooling(r.network)
    if r.unit is None:
        chosen = units.strongest_units(r.network, r.x, name, MAX_UNITS)
    else:
        chosen = [units.chosen_unit(r.network, r.x, name, r.unit)]
    return partial(gradient_plots.deconv, r.network, r.x, units.above_zero(chosen), r.caption)


def _field(r: Request) -> Draw:
    shown = responses.layers_of_maps(r.network)
    name = r.layer or shown[-1]
    if r.unit is None:
        last = units.strongest_units(r.network, r.x, name, 1)[0]
    else:
        last = units.chosen_unit(r.network, r.x, name, r.unit)
    path = units.path(r.network, r.x, last)
    below = [unit for unit in path[:-1] if unit.layer in shown]
    return partial(gradient_plots.field, r.network, r.x, [*below, last][-MAX_FIELDS:], r.caption)


OF_ONE_IMAGE: Final[dict[str, Callable[[Request], Draw]]] = {
    "maps": _maps,
    "patches": _patches,
    "gradients": _gradients,
    "col2im": _col2im,
    "rotation": _rotation,
    "switches": _switches,
    "deconv": _deconv,
    "field": _field,
    "edges": _edges,
}

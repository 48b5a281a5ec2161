"""From a checkpoint and a request to a figure: which image, which layers and which units."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lenet.data.datasets import Split
from lenet.data.imagefile import read_array, read_images
from lenet.inspect import plots, views
from lenet.predict.preparation import Preparation
from lenet.system.errors import ConfigError, ImageError
from lenet.system.registry import lookup
from lenet.training.build import load_split
from lenet.training.checkpoint import Checkpoint
from lenet.training.evaluation import evaluate_probabilities
from lenet.training.mistakes import predict_split
from lenet.training.restore import plain_network

PLOTS: Final = dict.fromkeys(
    ("filters", "maps", "patches", "deconv", "field", "edges", "embedding", "reliability")
)
MAX_UNITS: Final = 7  # units of a layer in one figure, beside the input
MAX_LAYERS: Final = 7  # layers in the figure of receptive fields
EMBEDDED: Final = 1000  # test images


def inspect(
    checkpoint: Checkpoint,
    what: str,
    *,
    file: Path | None = None,
    number: int = 0,
    layer: str | None = None,
    unit: int | None = None,
    data_dir: str | None = None,
    test: Split | None = None,
) -> Callable[[], Any]:
    """Compute what a plot shows, and return the function that draws its figure.

    Parameters
    ----------
    checkpoint
        The network.
    what
        A name of :data:`PLOTS`.
    file
        An image file; without it, a test image of the checkpoint's data set is used.
    number
        Which test image.
    layer, unit
        A layer's name and the number of one of its units, in place of those that the plot chooses.
    data_dir
        Searched first for the data set.
    test
        Images in place of the test images of the checkpoint's data set; labels are needed for
        ``embedding`` and ``reliability`` only.

    Raises
    ------
    ConfigError
        There is no such plot, the network has no such layer or unit, or the data set no such image.
    ImageError
        The picture cannot be read, or no digit is found in it.
    """
    lookup(PLOTS, what, key="plot")
    network, preprocessing = plain_network(checkpoint), checkpoint.preprocessing
    class_names = checkpoint.class_names
    name = "the given arrays" if test else checkpoint.config.data.name
    if what == "filters":
        names = [layer] if layer else views.convolutions(network)[:2]
        return lambda: plots.filters(network, names)
    if what == "embedding":
        test = test or load_split(checkpoint.config, "test", data_dir)
        images, labels = test.images[:EMBEDDED], test.labels[:EMBEDDED]
        return lambda: plots.embedding(network, preprocessing, images, labels, class_names, name)
    if what == "reliability":
        test = test or load_split(checkpoint.config, "test", data_dir)
        result = evaluate_probabilities(predict_split(checkpoint, test), test.labels)
        return lambda: plots.reliability(result, name)
    if file is None:
        test = test or load_split(checkpoint.config, "test", data_dir)
        image, caption = _test_image(test, number, name)
    else:
        image, caption = _image_in(file, checkpoint), file.name
    if what == "edges":
        return lambda: plots.edges(image, caption)
    x = preprocessing.prepare(image[None], np.float32)
    if what == "maps":
        return lambda: plots.maps(network, x, class_names, caption)
    if what == "patches":
        name = layer or views.convolutions(network)[0]
        return lambda: plots.patches(network, x, name, caption)
    if unit is not None and layer is not None:
        units = [views.chosen_unit(network, x, layer, unit)]
    elif what == "deconv":
        units = views.strongest_units(network, x, layer or views.last_pooling(network), MAX_UNITS)
    else:
        names = [layer] if layer else views.layers_of_maps(network)[:MAX_LAYERS]
        units = [views.strongest_units(network, x, name, 1)[0] for name in names]
    draw = plots.deconv if what == "deconv" else plots.field
    return lambda: draw(network, x, units, caption)


def _test_image(test: Split, number: int, name: str) -> tuple[NDArray[np.uint8], str]:
    """Return a test image of the data set ``name``, and its caption."""
    if not 0 <= number < len(test.images):
        raise ConfigError(
            f"is {number}, but there are {len(test.images)} test images",
            remedy=f"give a number from 0 to {len(test.images) - 1}",
            key="--digit",
        )
    label = f": {test.class_names[test.labels[number]]}" if test.labels.size else ""
    return test.images[number], f"test image {number} of {name}{label}"


def _image_in(file: Path, checkpoint: Checkpoint) -> NDArray[np.uint8]:
    """Return the first image of a file as ``lenet predict`` gives it to a network."""
    preparation, array = Preparation(checkpoint), read_array(file)
    if array is not None and (images := preparation.array(array)) is not None:
        first: NDArray[np.uint8] = images[0]
        return first
    _, pixels = next(read_images(file))
    image = preparation.picture(pixels).image
    if image is None:
        raise ImageError(
            "no digit found in it", remedy="give an image in which one stands out", file=file
        )
    return image

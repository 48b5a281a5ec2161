"""The packaged networks by name, as data; lenet5 is in :mod:`lenet.models.lenet5`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from lenet.errors import ConfigError
from lenet.models import lenet5
from lenet.models.specification import Specification, expanded
from lenet.system.registry import lookup
from lenet.system.text import listed

# Table I: the maps of S2 that each map of C3 is connected to. Three neighbours, four neighbours,
# two pairs of neighbours, all six; the maps are counted around in a circle.
TABLE_I: Final = [
    *(sorted((first + i) % 6 for i in range(3)) for first in range(6)),
    *(sorted((first + i) % 6 for i in range(4)) for first in range(6)),
    *(sorted((first + i) % 6 for i in (0, 1, 3, 4)) for first in range(3)),
    list(range(6)),
]


def lenet5_1998() -> Specification:
    """Return LeNet-5 as published, layer by layer.

    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning Applied to Document
    Recognition" (1998), section II-B and appendix A. Up to F6 every weighted sum goes through
    1.7159·tanh(2x/3). S2 and S4 add the four inputs of a window, multiply by a coefficient of the
    map and add its bias. C3 is connected by table I. The output is the squared distance of F6 from
    a fixed 7×12 bitmap for each class; the paper does not print the bitmaps' pixels, so these are
    our own. The weights are uniform in ±2.4/fan-in.

        input   1×32×32
        C1      6×28×28    convolution 5×5                   156 weights
        S2      6×14×14    subsampling 2×2                    12
        C3     16×10×10    convolution 5×5, table I        1,516
        S4     16×5×5      subsampling 2×2                    32
        C5    120×1×1      convolution 5×5                48,120
        F6     84          linear                         10,164
        output 10          RBF                                 0
                                                          60,000 in all

    Examples
    --------
    >>> lenet5_1998().build().parameters.size
    60000
    >>> sum(map(len, TABLE_I))
    60
    """
    squashed = {"activation": "lecun_tanh"}
    connected = {"table": TABLE_I, **squashed}
    layers = [
        {"type": "convolution", "name": "C1", "filters": 6, "kernel": 5, **squashed},
        {"type": "subsampling", "name": "S2", **squashed},
        {"type": "convolution", "name": "C3", "filters": 16, "kernel": 5, **connected},
        {"type": "subsampling", "name": "S4", **squashed},
        {"type": "convolution", "name": "C5", "filters": 120, "kernel": 5, **squashed},
        {"type": "linear", "name": "F6", "units": 84, **squashed},
        {"type": "rbf", "name": "output", "centres": "digits"},
    ]
    return Specification((1, 32, 32), expanded(layers), initializer="lecun1998")


def caffe_lenet(*, classes: int = 10) -> Specification:
    """Return Caffe's LeNet, of its ``examples/mnist/lenet_train_test.prototxt``.

    After BVLC Caffe (Y. Jia et al., "Caffe: Convolutional Architecture for Fast Feature Embedding",
    2014): no activation between convolution and pooling, biases learn twice as fast as weights and
    decay as they do, initial weights by Caffe's ``xavier`` (uniform in ±√(3 / fan_in)), pixels
    times 1/256. (Caffe rounds the size of a pooled map up; here every window fits, so rounding
    changes nothing.) Caffe's documentation states 99.1 % with the solver of the packaged
    configuration caffe-lenet.

        input   1×28×28
        C1     20×24×24    convolution 5×5              520 weights
        S2     20×12×12    max pooling 2×2
        C3     50×8×8      convolution 5×5           25,050
        S4     50×4×4      max pooling 2×2
        F5    500          linear, ReLU             400,500
        F6     10          linear                     5,010
                                                    431,080 in all

    Examples
    --------
    >>> caffe_lenet().build().parameters.size
    431080
    """
    rates = {"lr_mult": [1, 2], "decay_mult": 1}  # the learning rate of weight and bias; both decay
    layers = [
        {"type": "convolution", "name": "C1", "filters": 20, "kernel": 5, **rates},
        {"type": "max_pooling", "name": "S2"},
        {"type": "convolution", "name": "C3", "filters": 50, "kernel": 5, **rates},
        {"type": "max_pooling", "name": "S4"},
        {"type": "linear", "name": "F5", "units": 500, "activation": "relu", **rates},
        {"type": "linear", "name": "F6", "units": classes, **rates},
    ]
    return Specification(
        (1, 28, 28), expanded(layers), scale=1 / 256, shift=0.0, initializer="lecun_uniform"
    )


MINI_VGG_MIN_SIZE = 8
"""Height and width of the smallest input of mini-vgg: three poolings leave one pixel of it."""


def mini_vgg(*, classes: int = 10) -> Specification:
    """Return a small network of 3×3 convolutions, for images that are not digits.

    In the manner of K. Simonyan and A. Zisserman (2015), Very deep convolutional networks for
    large-scale image recognition, with batch normalisation, and global average pooling in place of
    hidden linear layers. Every pooling directly follows convolution and ReLU, so that the three run
    as one product; batch normalisation then sees a quarter of the values.

        input   1×32×32   (at least 8×8)
        C1     16×32×32    convolution 3×3, ReLU        160 weights
        S2     16×16×16    max pooling 2×2, batch normalisation
        C3     32×16×16    convolution 3×3, ReLU      4,640
        S4     32×8×8      max pooling 2×2, batch normalisation
        C5     64×8×8      convolution 3×3, ReLU     18,496
        S6     64×4×4      max pooling 2×2, batch normalisation
        C7     64×4×4      convolution 3×3, ReLU     36,928, batch normalisation
        S8     64          global average pooling
        F9     10          linear                       650
                                                     61,226 in all

    Examples
    --------
    >>> mini_vgg().build().parameters.size
    61226
    """
    layers: list[dict[str, Any]] = []
    channels = 16, 32, 64, 64
    for stage, filters in enumerate(channels):
        name = f"C{2 * stage + 1}"
        conv = {"type": "convolution", "name": name, "filters": filters, "kernel": 3, "padding": 1}
        layers.append({**conv, "activation": "relu"})
        if stage < len(channels) - 1:
            layers.append({"type": "max_pooling"})
        layers.append({"type": "batch_normalization"})
    layers += [{"type": "global_average_pooling"}, {"type": "linear", "units": classes}]
    return Specification((1, 32, 32), expanded(layers))


MODELS: Final[dict[str, Callable[..., Specification]]] = {
    "lenet5": lenet5.specification,
    "lenet5-1998": lenet5_1998,
    "caffe-lenet": caffe_lenet,
    "mini-vgg": mini_vgg,
}


def model_options(name: str) -> dict[str, object]:
    """Return the options of a packaged network with their defaults."""
    made = lookup(MODELS, name, key="model.name")
    return {k: p.default for k, p in inspect.signature(made).parameters.items()}


def packaged_model(name: str, options: Mapping[str, Any] | None = None) -> Specification:
    """Return a packaged network as data.

    Examples
    --------
    >>> packaged_model("lenet5", {"channels": (4, 8)}).parameter_shapes()["C3.weight"]
    (8, 4, 5, 5)
    """
    known = model_options(name)
    for option in options or {}:
        if option not in known:
            raise ConfigError(
                f"is not an option of {name}",
                remedy=f"its options are {listed(known, 'and')}" if known else "it has none",
                key=f"model.{option}",
            )
    return MODELS[name](**(options or {}))

"""Put the page together: HTML, style, scripts, the network and a few digits in one file.

The parts are the files beside this module. The page's content security policy names the hashes of
its own script and style and forbids everything else, so that the page cannot use the network.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lenet.arrays import Array
from lenet.data.strokes import Hand, draw
from lenet.errors import ConfigError
from lenet.nn.activations import FUNCTIONS, Activation
from lenet.nn.convolution import Convolution
from lenet.nn.dropout import Dropout
from lenet.nn.layer import Layer
from lenet.nn.linear import Linear
from lenet.nn.normalisation import BatchNormalization
from lenet.nn.pooling import AveragePooling, GlobalAveragePooling, MaxPooling
from lenet.nn.subsampling import Subsampling
from lenet.system.text import printable
from lenet.targets.networks import ExportedNetwork
from lenet.targets.operations import JAVASCRIPT, Product, Sum, formulas, operations_of, written

SCRIPTS: Final = (
    *("network.js", "prepare.js", "train.js", "texts.js", "elements.js", "figures.js"),
    *("path.js", "diagram.js", "draw.js", "forward.js", "convolution.js"),
    *("backward.js", "im2col.js", "trainview.js", "tour.js", "page.js"),
)
Shown: TypeAlias = tuple[dict[str, Any], Array | None]
"""The type and the options of a layer as the scripts know them, and its weights (F, …)."""
TRAINING, TEST, DIGITS_SEED = 1_000, 250, 2_026  # built-in digits for the training in the page
NEAT: Final = Hand(  # differ half as much as usual, so that 1,000 of them are enough to learn from
    jitter=1.2,
    shift=1.5,
    overshoot=0.07,
    drift=3.5,
    warp=2,
    aspect=0.11,
    slant=0.12,
    turn=0.05,
    thickness=0.2,
    skip=0.007,
)
MAX_CLASSES: Final = 30
EXAMPLES: Final = 10
EXAMPLE_SEED: Final = 77  # LeNet-5 recognises all ten


def to_html(exported: ExportedNetwork) -> str:
    """Return the page for a network."""
    style, page = _part("style.css"), _part("page.html")
    script = scripts()
    data = json.dumps(page_data(exported), ensure_ascii=False, separators=(",", ":"))
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "worker-src blob:; base-uri 'none'; form-action 'none'"
    )
    values = {
        "policy": policy,
        "origin": printable(exported.origin, "html"),
        "style": style,
        "data": data.replace("<", "\\u003c"),  # no string in it can end the element
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda place: values[place[1]], page)


def page_data(exported: ExportedNetwork) -> dict[str, Any]:
    """Return what the scripts need: the layers, their weights, and examples."""
    network, preprocessing = exported.network, exported.preprocessing
    layers, weights = [], []
    shape = network.input_shape
    for layer, output in zip(network.layers, network.output_shapes, strict=True):
        if type(layer) not in SHOWN:
            raise _not_shown(layer)
        entry, weight = SHOWN[type(layer)](layer)
        layers.append({"name": layer.name, "input": shape, "output": output, **entry})
        if weight is not None:
            bias = [_short(b) for b in layer.parameters[1].value]
            levels, scales = in_16_bits(weight.reshape(len(bias), -1))
            layers[-1].update(K=levels.shape[1], scales=scales.tolist(), b=bias)
            weights.append(levels)
        shape = output
    if len(shape) != 1:
        raise _not_shown(network.layers[-1], " as the last layer")
    if shape[0] > MAX_CLASSES:
        raise ConfigError(
            f"the page shows at most {MAX_CLASSES} classes, and this network has {shape[0]}",
            remedy="show a network with fewer classes",
            key=f"layer {network.layers[-1].name}",
        )
    images, labels = draw(EXAMPLES, EXAMPLE_SEED)
    order = np.argsort(labels, kind="stable")
    return {
        "input": network.input_shape,
        "size": exported.size,
        "scale": preprocessing.scale,
        "shift": preprocessing.shift,
        "background": preprocessing.background,
        "classes": [printable(name) for name in exported.class_names],
        "layers": layers,
        "examples": {
            "labels": labels[order].tolist(),
            "images": base64.b64encode(images[order].tobytes()).decode(),
        },
        "digits": packed_digits(),
        "weights": base64.b64encode(b"".join(a.tobytes() for a in weights)).decode(),
    }


def packed_digits() -> dict[str, Any]:
    """Return built-in digits to train on and to test with, in four levels of grey, compressed.

    The four levels 0, 85, 170 and 255 of an image's pixels, two bits each, the first pixel lowest.
    """
    images, labels = draw(TRAINING + TEST, DIGITS_SEED, hand=NEAT)
    levels = np.rint(images / 85).astype(np.uint8).reshape(-1, 4)
    packed = levels @ np.array([1, 4, 16, 64], np.uint8)
    return {
        "training": TRAINING,
        "labels": "".join(map(str, labels)),
        "images": base64.b64encode(zlib.compress(packed.tobytes(), 9)).decode(),
    }


# --- Layers ---------------------------------------------------------------------------------------


def _convolution(layer: Convolution) -> Shown:
    (product,) = operations_of(layer)
    assert isinstance(product, Product)  # noqa: S101 - what operations_of makes of a convolution
    entry = {"type": "convolution", **_window(layer)}
    if layer.table is None and layer.groups == 1:
        return entry, product.weight
    C, per_group = layer.shape[0] // layer.groups, layer.F // layer.groups
    channels = layer.table or [
        range(f // per_group * C, (f // per_group + 1) * C) for f in range(layer.F)
    ]
    weight = product.weight
    if layer.groups > 1:
        weight = np.zeros((layer.F, layer.shape[0], *layer.kernel), product.weight.dtype)
        for f, connected in enumerate(channels):
            weight[f, connected] = product.weight[f]
    return entry | {"channels": [list(map(int, connected)) for connected in channels]}, weight


def _average_pooling(layer: AveragePooling) -> Shown:
    (mean,) = operations_of(layer)
    assert isinstance(mean, Sum)  # noqa: S101 - what operations_of makes of an average pooling
    factor = mean.factors.ravel().tolist() if mean.factor is None else mean.factor
    return {"type": "average_pooling", **_window(layer), "factor": factor}, None


def _subsampling(layer: Subsampling) -> Shown:
    window = {"kernel": layer.kernel, "stride": layer.stride, "dilation": (1, 1)}
    return {"type": "subsampling", **window, "padding": (0, 0)}, layer.weight.value


def _batch_normalization(layer: BatchNormalization) -> Shown:
    inverse = 1 / np.sqrt(layer.variance + layer.epsilon)
    numbers = {"mean": layer.mean.tolist(), "inverse": inverse.tolist()}
    return {"type": "batch_normalization", **numbers}, layer.weight.value


def _activation(layer: Activation) -> Shown:
    names = [name for name, function in FUNCTIONS.items() if function is layer.function]
    if not names or formulas(layer.function) is None:
        remedy = "give it expression and slope, or show a network without it"
        problem = f"the page cannot show {layer.function.__name__}"
        raise ConfigError(problem, remedy=remedy, key=f"layer {layer.name}")
    return {"type": names[0]}, None


def _window(layer: Convolution | MaxPooling | AveragePooling) -> dict[str, Any]:
    window = {"kernel": layer.kernel, "stride": layer.stride, "dilation": layer.dilation}
    return window | {"padding": layer.edges[:2]}


SHOWN: Final[dict[type[Layer], Callable[[Any], Shown]]] = {
    Convolution: _convolution,
    MaxPooling: lambda layer: ({"type": "max_pooling", **_window(layer)}, None),
    AveragePooling: _average_pooling,
    GlobalAveragePooling: _average_pooling,
    Subsampling: _subsampling,
    Linear: lambda layer: ({"type": "linear"}, layer.weight.value),
    BatchNormalization: _batch_normalization,
    Activation: _activation,
    Dropout: lambda _: ({"type": "dropout"}, None),
}


def activations() -> str:
    """Return the activations in JavaScript: function, slope as a function of y, and formula."""
    entries = []
    for name, function in FUNCTIONS.items():
        stated = formulas(function)
        if stated is not None:
            f, slope = written(stated[0], JAVASCRIPT, "x"), written(stated[1], JAVASCRIPT, "y")
            shown = re.sub(r" ?([*/]) ?", lambda m: "·" if m[1] == "*" else "/", stated[0])
            formula = json.dumps(re.sub(r"\bx\b", "z", shown), ensure_ascii=False)
            parts = f"f: (x) => {f}, slope: (y) => {slope}, formula: {formula}"
            entries.append(f"  {json.dumps(name)}: {{ {parts} }},")
    return "\n".join(["const ACTIVATIONS = {", *entries, "};"])


def scripts(names: Sequence[str] = SCRIPTS) -> str:
    """Return the page's script, or that of some of its parts, with the activations before it."""
    return "\n".join(['"use strict";', activations(), *map(_part, names)])


# --- Numbers --------------------------------------------------------------------------------------


def in_16_bits(W: Array) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Return W (F × K) as 16-bit integers and a scale for each row, so that W ≈ scale · integer.

    The error is at most half a scale, 1/65534 of the largest weight of the row. For LeNet-5 it is
    about a tenth of the error of float16, which has as many bits.

    Examples
    --------
    >>> levels, scales = in_16_bits(np.array([[0.5, -1.0, 0.0], [0.0, 0.0, 0.0]]))
    >>> levels.tolist(), scales.round(7).tolist()
    ([[16384, -32767, 0], [0, 0, 0]], [3.05e-05, 1.0])
    """
    largest = np.abs(W).max(axis=1).astype(np.float64)
    scales = np.array([_short(v / 32767) or 1.0 for v in largest])
    return np.rint(W / scales[:, None]).clip(-32767, 32767).astype("<i2"), scales


def _short(value: float) -> float:
    """Return a number with as many digits as float32 has."""
    return float(f"{value:.8g}")


def _not_shown(layer: Layer, what: str = "") -> ConfigError:
    return ConfigError(
        f"the page cannot show {type(layer).__name__}{what}",
        remedy="show a network without it (docs/play.md lists the layers)",
        key=f"layer {layer.name}",
    )


def _part(name: str) -> str:
    return files("lenet.targets.page").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

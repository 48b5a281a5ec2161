"""Put the page together: HTML, style, scripts, the network and a few digits in one file.

The parts are the files beside this module. The page's content security policy names the hashes of
its own script and style and forbids everything else, so that the page cannot use the network.
"""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from importlib.resources import files
from typing import Any, Final

import numpy as np

from lenet.data.strokes import draw
from lenet.export.exported import ExportedNetwork, average_factors
from lenet.nn.activations import FUNCTIONS, Activation
from lenet.nn.convolution import Convolution
from lenet.nn.dropout import Dropout
from lenet.nn.im2col import Array
from lenet.nn.layer import Layer
from lenet.nn.linear import Linear
from lenet.nn.pooling import AveragePooling, MaxPooling
from lenet.system.errors import ConfigError
from lenet.system.text import printable

SCRIPTS: Final = (
    *("network.js", "prepare.js", "elements.js", "maps.js"),
    *("draw.js", "forward.js", "backward.js", "im2col.js", "page.js"),
)
EXAMPLES: Final = 10
EXAMPLE_SEED: Final = 8  # LeNet-5 recognises all ten


def to_html(exported: ExportedNetwork) -> str:
    """Return the page for a network.

    Raises
    ------
    ConfigError
        The page cannot show a layer or one of its options, or a weight exceeds 16 bits.
    """
    style, page = _part("style.css"), _part("page.html")
    script = "\n".join(map(_part, SCRIPTS))
    data = json.dumps(page_data(exported), ensure_ascii=False, separators=(",", ":"))
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    values = {
        "policy": policy,
        "origin": escape(printable(exported.origin)),
        "style": style,
        "data": data.replace("<", "\\u003c"),  # no string in it can end the element
        "script": script,
    }
    for name, value in values.items():
        page = page.replace("{{" + name + "}}", value, 1)
    return page


def page_data(exported: ExportedNetwork) -> dict[str, Any]:
    """Return what the scripts need: the layers, their weights as float16, and examples.

    Raises
    ------
    ConfigError
        As for :func:`to_html`.
    """
    network, preprocessing = exported.network, exported.preprocessing
    layers, weights = [], []
    shape = network.input_shape
    for layer, output in zip(network.layers, network.output_shapes, strict=True):
        layers.append({"name": layer.name, "input": shape, "output": output, **_entry(layer)})
        if isinstance(layer, Convolution | Linear):
            W, b = _weights(layer), _half(layer, layer.bias.value)
            layers[-1]["weights"] = W.size
            weights += [W.ravel(), b]
        shape = output
    if len(shape) != 1:
        raise _not_shown(network.layers[-1], "as the last layer")
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
        "weights": base64.b64encode(b"".join(a.tobytes() for a in weights)).decode(),
    }


def _entry(layer: Layer) -> dict[str, Any]:
    """Return the type and the options of a layer as the scripts know them."""
    match layer:
        case Convolution():
            entry = {"type": "convolution", **_window(layer), "padding": layer.edges[:2]}
            if layer.table is not None or layer.groups > 1:
                entry["channels"] = _channels(layer)
            return entry
        case MaxPooling():
            return {"type": "max_pooling", **_window(layer), "padding": layer.edges[:2]}
        case AveragePooling():
            factors = average_factors(layer)
            same = bool((factors == factors[0, 0]).all())
            factor = float(factors[0, 0]) if same else factors.ravel().tolist()
            window = _window(layer)
            return {
                "type": "average_pooling",
                **window,
                "padding": layer.edges[:2],
                "factor": factor,
            }
        case Linear():
            return {"type": "linear"}
        case Activation():
            names = [name for name, f in FUNCTIONS.items() if f is layer.function]
            if names:
                return {"type": names[0]}
        case Dropout():
            return {"type": "dropout"}
    raise _not_shown(layer)


def _window(layer: Convolution | MaxPooling | AveragePooling) -> dict[str, Any]:
    return {"kernel": layer.kernel, "stride": layer.stride, "dilation": layer.dilation}


def _channels(layer: Convolution) -> list[list[int]]:
    """Return the channels that each filter is connected to."""
    if layer.table is not None:
        return [list(map(int, channels)) for channels in layer.table]
    C, per_group = layer.shape[0] // layer.groups, layer.F // layer.groups
    return [list(range(f // per_group * C, (f // per_group + 1) * C)) for f in range(layer.F)]


def _weights(layer: Convolution | Linear) -> Array:
    """Return W (F × K) as float16, as it is multiplied: turned kernels, unconnected weights 0."""
    if isinstance(layer, Linear):
        return _half(layer, layer.weight.value)
    kernels = layer.kernels[:, :, ::-1, ::-1] if layer.flip else layer.kernels
    F, (C, _, _) = layer.F, layer.shape
    dense = np.zeros((F, C, *layer.kernel), np.float32)
    if layer.groups > 1:
        for f, channels in enumerate(_channels(layer)):
            dense[f, channels] = kernels[f]
    else:
        dense[...] = kernels
    return _half(layer, dense.reshape(F, -1))


def _half(layer: Layer, values: Array) -> Array:
    if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
        raise _not_shown(layer, "with weights above 65504")
    return values.astype("<f2")


def _not_shown(layer: Layer, what: str = "") -> ConfigError:
    return ConfigError(
        f"the page cannot show {type(layer).__name__}{what and ' ' + what}",
        remedy="show a network of convolution, pooling, linear, activation and dropout layers",
        key=f"layer {layer.name}",
    )


def _part(name: str) -> str:
    return files("lenet.play").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

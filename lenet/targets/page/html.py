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
from numpy.typing import NDArray

from lenet.arrays import Array
from lenet.data.strokes import draw
from lenet.errors import ConfigError
from lenet.nn.activations import FUNCTIONS, Activation
from lenet.nn.convolution import Convolution
from lenet.nn.dropout import Dropout
from lenet.nn.layer import Layer
from lenet.nn.linear import Linear
from lenet.nn.normalisation import BatchNormalization
from lenet.nn.pooling import AveragePooling, MaxPooling
from lenet.nn.subsampling import Subsampling
from lenet.system.text import printable
from lenet.targets.exported import ExportedNetwork, average_factors

SCRIPTS: Final = (
    *("network.js", "prepare.js", "elements.js", "maps.js"),
    *("draw.js", "forward.js", "backward.js", "im2col.js", "page.js"),
)
EXAMPLES: Final = 10
EXAMPLE_SEED: Final = 77  # LeNet-5 recognises all ten


def to_html(exported: ExportedNetwork) -> str:
    """Return the page for a network.

    Raises
    ------
    ConfigError
        The page cannot show a layer.
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
    """Return what the scripts need: the layers, their weights, and examples.

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
        if isinstance(layer, Convolution | Linear | Subsampling | BatchNormalization):
            levels, scales = in_16_bits(_weights(layer))
            bias = [_short(b) for b in layer.bias.value]
            layers[-1].update(K=levels.shape[1], scales=scales.tolist(), b=bias)
            weights.append(levels)
        shape = output
    if len(shape) != 1:
        raise _not_shown(network.layers[-1], " as the last layer")
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
        case Subsampling():
            window = {"kernel": layer.kernel, "stride": layer.stride, "dilation": (1, 1)}
            return {"type": "subsampling", **window, "padding": (0, 0)}
        case Linear():
            return {"type": "linear"}
        case BatchNormalization():
            inverse = 1 / np.sqrt(layer.variance + layer.epsilon)
            entry = {"type": "batch_normalization", "mean": layer.mean.tolist()}
            return {**entry, "inverse": inverse.tolist()}
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


def _weights(layer: Convolution | Linear | Subsampling | BatchNormalization) -> Array:
    """Return W (F × K) as it is multiplied: kernels turned, 0 where nothing is connected.

    Subsampling and batch normalisation have one number for each channel, K = 1.
    """
    if not isinstance(layer, Convolution):
        return layer.weight.value.reshape(layer.bias.value.size, -1)
    kernels = layer.kernels[:, :, ::-1, ::-1] if layer.flip else layer.kernels
    if layer.groups == 1:
        return kernels.reshape(layer.F, -1)
    dense = np.zeros((layer.F, layer.shape[0], *layer.kernel), kernels.dtype)
    for f, channels in enumerate(_channels(layer)):
        dense[f, channels] = kernels[f]
    return dense.reshape(layer.F, -1)


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

"""Looking into a trained network: the numbers that :mod:`lenet.inspect.plots` draws.

The network runs on one image, layer by layer and not fused, so that the output of every layer is
available.

From a unit back to the pixels (M. D. Zeiler, R. Fergus, "Visualizing and Understanding
Convolutional Networks", 2014, section 2.1): of a layer's outputs the unit's largest is kept,
everything else is set to zero, and the layers are run backwards. That is their backward pass, but
for one layer:

    max pooling        unpooling: the number goes to where the switches found it
    average pooling    an equal share for every pixel of the window
    convolution        transposed convolution with the same kernels
    linear             Wᵀ
    ReLU               ReLU, in the place of its derivative
    other activations  multiplication by the derivative
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lenet.data.preprocessing import Preprocessing
from lenet.nn.activations import Activation, ReLU
from lenet.nn.convolution import Convolution
from lenet.nn.im2col import Array, im2col, pad
from lenet.nn.layer import Layer, Rational
from lenet.nn.linear import Linear
from lenet.nn.network import Network
from lenet.nn.pooling import AveragePooling, MaxPooling, Pooling
from lenet.nn.rbf import RBF
from lenet.nn.subsampling import Subsampling
from lenet.nn.transposed import TransposedConvolution
from lenet.nn.unpooling import MaxUnpooling
from lenet.system.errors import ConfigError

SOBEL: Final = np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]], np.float32)
BATCH: Final = 256


@dataclass(frozen=True)
class Unit:
    """A map of a layer (or a number of its vector) at the place where it is largest.

    Attributes
    ----------
    layer, index
        The layer's name and the map's number.
    place
        Row and column of the largest number in the map; (0, 0) in a vector.
    value
        That number.
    field
        Top, left, height and width of its receptive field on the network's input.
    """

    layer: str
    index: int
    place: tuple[int, int]
    value: float
    field: tuple[int, int, int, int]


# --- Layers by name or by kind --------------------------------------------------------------------


def find_layer(network: Network, name: str) -> Layer:
    """Return the layer of this name.

    Raises
    ------
    ConfigError
        There is none.
    """
    for layer in network.layers:
        if layer.name == name:
            return layer
    raise ConfigError(
        f"the network has no layer {name}",
        remedy="choose one of " + ", ".join(layer.name for layer in network.layers),
        key="--layer",
    )


def find_convolution(network: Network, name: str) -> Convolution:
    """Return the convolution of this name.

    Raises
    ------
    ConfigError
        No layer has this name, or it is not a convolution.
    """
    layer = find_layer(network, name)
    if isinstance(layer, Convolution):
        return layer
    raise ConfigError(
        f"{name} is not a convolution",
        remedy="choose one of " + ", ".join(convolutions(network)),
        key="--layer",
    )


def convolutions(network: Network) -> list[str]:
    """Return the names of the convolutions, of which there is at least one.

    Raises
    ------
    ConfigError
        There is none.
    """
    found = [layer.name for layer in network.layers if isinstance(layer, Convolution)]
    if not found:
        raise ConfigError(
            "the network has no convolution",
            remedy="inspect its maps or its embedding instead",
            key="filters, patches",
        )
    return found


def layers_of_maps(network: Network) -> list[str]:
    """Return the names of the convolutions and poolings, or where there is none, of all layers."""
    kinds = Convolution | Pooling | Subsampling
    found = [layer.name for layer in network.layers if isinstance(layer, kinds)]
    return found or [layer.name for layer in network.layers]


def last_pooling(network: Network) -> str:
    """Return the name of the last pooling, or where there is none, of the last of the maps."""
    found = [layer.name for layer in network.layers if isinstance(layer, Pooling | Subsampling)]
    return (found or layers_of_maps(network))[-1]


def last_hidden(network: Network) -> str:
    """Return the name of the layer whose output the output layer takes.

    Raises
    ------
    ConfigError
        The network has a single layer.
    """
    outputs = [
        k for k, layer in enumerate(network.layers) if isinstance(layer, Convolution | Linear | RBF)
    ]
    if not outputs or outputs[-1] == 0:
        raise ConfigError(
            "the network has no hidden layer",
            remedy="inspect its maps instead",
            key="embedding",
        )
    return network.layers[outputs[-1] - 1].name


def activations(network: Network, x: Array) -> dict[str, Array]:
    """Return the output of every layer for one image x (C,H,W,1): (C,H,W) or (F,) by its name."""
    network.allocate(1)
    return {layer.name: (x := layer.forward(x))[..., 0] for layer in network.layers}


# --- Units and their receptive fields -------------------------------------------------------------


def strongest_units(network: Network, x: Array, name: str, count: int) -> list[Unit]:
    """Return the ``count`` units of a layer with the largest outputs, the largest first."""
    find_layer(network, name)
    y = activations(network, x)[name]
    order = np.argsort(-y.reshape(len(y), -1).max(axis=1), kind="stable")[:count]
    return [_unit(network, y, name, int(index)) for index in order]


def chosen_unit(network: Network, x: Array, name: str, index: int) -> Unit:
    """Return the unit of this number.

    Raises
    ------
    ConfigError
        The layer has no such unit.
    """
    find_layer(network, name)
    y = activations(network, x)[name]
    if not 0 <= index < len(y):
        raise ConfigError(
            f"is {index}, but {name} has {len(y)} units",
            remedy=f"give a number from 0 to {len(y) - 1}",
            key="--unit",
        )
    return _unit(network, y, name, index)


def _unit(network: Network, y: Array, name: str, index: int) -> Unit:
    image = np.atleast_2d(y[index])
    i, j = (int(k) for k in np.unravel_index(image.argmax(), image.shape))
    return Unit(name, index, (i, j), float(image[i, j]), _field(network, name, i, j))


def _field(network: Network, name: str, i: int, j: int) -> tuple[int, int, int, int]:
    """Return top, left, height and width of the part of the image that a unit depends on."""
    rows, columns = (i, i), (j, j)
    last = [layer.name for layer in network.layers].index(name)
    inputs = [network.input_shape, *network.output_shapes]
    for layer, shape in zip(network.layers[last::-1], inputs[last::-1], strict=True):
        (kh, kw), (sh, sw) = layer.window
        top, left = _padding(layer)
        H, W = shape[1:] if len(shape) == 3 else (1, 1)
        rows, columns = _reached(rows, kh, sh, top, H), _reached(columns, kw, sw, left, W)
    return rows[0], columns[0], rows[1] - rows[0] + 1, columns[1] - columns[0] + 1


def _reached(
    outputs: tuple[int, int], k: Rational, s: Rational, padding: int, size: int
) -> tuple[int, int]:
    """Return the first and the last of ``size`` inputs that a range of outputs depends on.

    Steps ``s`` are fractions for layers that enlarge the image (``Layer.window``).
    """
    first, last = outputs
    if isinstance(s, Fraction):
        first, last = ceil((first + padding) * s - (k - 1)), floor((last + padding) * s)
    else:
        first, last = first * s - padding, last * s - padding + int(k) - 1
    return max(first, 0), min(last, size - 1)


def _padding(layer: Layer) -> tuple[int, int]:
    """Return the padding above and to the left."""
    match layer:
        case Convolution() | Pooling() | TransposedConvolution():
            return layer.edges[:2]
        case MaxUnpooling():
            return layer.pooling.edges[:2]
    return 0, 0


def project(network: Network, x: Array, unit: Unit) -> Array:
    """Return the pixels (C,H,W) that contribute to a unit: its layers run backwards, as above."""
    for layer in network.layers:
        layer.needs_dx = True  # down to the pixels, which training never needs
    outputs = activations(network, x)
    names = list(outputs)
    y = np.zeros((*outputs[unit.layer].shape, 1), x.dtype)
    y[(unit.index, *unit.place)[: y.ndim - 1]] = unit.value
    for layer in reversed(network.layers[: names.index(unit.layer) + 1]):
        y = _run_backwards(layer, y)
    return y[..., 0].copy()  # the layers overwrite their own arrays


def _run_backwards(layer: Layer, y: Array) -> Array:
    if isinstance(layer, Activation) and layer.function is ReLU:
        return np.maximum(y, 0)
    dx = layer.backward(y)
    assert dx is not None  # noqa: S101 - needs_dx is True
    return dx


# --- Patches, lines, embeddings -------------------------------------------------------------------


@dataclass(frozen=True)
class Product:
    """A convolution of one image as a matrix product: weights (F,K) · patches (K,P) = z (F,P).

    ``x`` (C,H,W) is the convolution's input with its padding, K = C·kh·kw; the bias is not in
    ``z``.
    """

    conv: Convolution
    x: Array
    weights: Array
    patches: Array

    @property
    def z(self) -> Array:
        return self.weights @ self.patches


def product(network: Network, x: Array, name: str) -> Product:
    """Return the matrices of a convolution of one image x (C,H,W,1).

    Raises
    ------
    ConfigError
        No layer has this name, or it is not a convolution.
    """
    conv = find_convolution(network, name)
    outputs = {"": x[..., 0], **activations(network, x)}
    names = list(outputs)
    padded = pad(outputs[names[names.index(name) - 1]][..., None], conv.edges)[..., 0]
    patches = im2col(padded[None], conv.kernel, conv.stride, dilation=conv.dilation).T
    return Product(conv, padded, _filter_rows(conv), patches)


def _filter_rows(conv: Convolution) -> Array:
    """Return the filters as rows (F, C·kh·kw), zero for the channels of the other groups."""
    C, g = conv.shape[0], conv.groups
    w = conv.kernels[:, :, ::-1, ::-1] if conv.flip else conv.kernels
    rows = np.zeros((g, conv.F // g, g, C // g, *conv.kernel), w.dtype)
    for group, part in enumerate(np.split(w, g)):
        rows[group, :, group] = part
    return rows.reshape(conv.F, -1)


def line_responses(image: NDArray[np.uint8], kernel: Array) -> dict[str, Array]:
    """Return the outputs of a 3×3 kernel on an image (H,W), of ReLU, and of both poolings.

    Grey levels are scaled to 0 to 1; the image is surrounded by background.
    """
    x = (image[None, :, :, None] / 255).astype(np.float32)
    conv = Convolution("convolution", 1, kernel=3, padding=1)
    network = Network([conv, Activation("ReLU", "relu")], x.shape[:-1])
    conv.weight.value[...] = kernel
    outputs = activations(network, x)
    y = outputs["ReLU"][..., None]
    for pooling in (MaxPooling("max pooling", 2), AveragePooling("average pooling", 2)):
        outputs[pooling.name] = Network([pooling], y.shape[:-1]).forward(y)[..., 0]
    return {name: maps[0] for name, maps in outputs.items()}


def embedding(
    network: Network, preprocessing: Preprocessing, images: NDArray[np.uint8], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Reduce the outputs of a layer for many images to two dimensions, by SVD.

    Returns
    -------
    places, shares
        The images (N,2) on the first two right singular vectors of the centred outputs (N,D),
        with signs such that the largest entry of each vector is positive; and the part of the
        variance along each.

    Raises
    ------
    ConfigError
        The layer has a single number, or does not exist.
    """
    find_layer(network, name)
    outputs = []
    for start in range(0, len(images), BATCH):
        x = preprocessing.prepare(images[start : start + BATCH], np.float32)
        network.allocate(x.shape[-1])
        for layer in network.layers:
            x = layer.forward(x)
            if layer.name == name:
                break
        outputs.append(x.reshape(-1, x.shape[-1]).T.astype(np.float64))
    A = np.concatenate(outputs)
    if min(A.shape) < 2:
        raise ConfigError(
            f"{A.shape[1]} units of {A.shape[0]} images are too few for two dimensions",
            remedy="take a network with more units, or more images",
            key=f"layer {name}",
        )
    A -= A.mean(axis=0)
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    signs = np.sign(Vt[[0, 1], np.abs(Vt[:2]).argmax(axis=1)])
    variances = s * s
    return U[:, :2] * s[:2] * signs, variances[:2] / max(variances.sum(), np.finfo(float).tiny)

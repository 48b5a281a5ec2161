"""Looking into a trained network: the numbers that its pictures show.

Drawn by :mod:`lenet.inspect.plots`. The network runs on one image with its plain
layers, so that every layer can be seen.

From a unit back to the pixels (M. D. Zeiler, R. Fergus, "Visualizing and Understanding
Convolutional Networks", 2014, section 2.1): of a layer's outputs the unit's strongest is kept,
everything else is set to zero, and the layers are run backwards:

    max pooling        unpooling: the number goes to where the switches found it
    average pooling    unpooling by repetition, a share for every pixel of the window
    ReLU               ReLU; another activation passes on what its derivative leaves
    convolution        transposed convolution with the same kernels
    linear             Wᵀ
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lenet.data.preprocessing import Preprocessing
from lenet.nn.activations import Activation, ReLU
from lenet.nn.convolution import Convolution
from lenet.nn.im2col import Array, im2col
from lenet.nn.layer import Layer
from lenet.nn.linear import Linear
from lenet.nn.network import Network
from lenet.nn.pooling import AveragePooling, MaxPooling, MaxUnpooling
from lenet.nn.summary import receptive_field
from lenet.nn.transposed import TransposedConvolution
from lenet.system.errors import ConfigError

SOBEL: Final = np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]], np.float32)
BATCH: Final = 256


@dataclass(frozen=True)
class Unit:
    """A unit: a map of a layer (or a number of its vector) at the place where it is strongest.

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


def prepared(preprocessing: Preprocessing, images: NDArray[np.uint8]) -> Array:
    """Return images (N,H,W) as the network's input (1,S,S,N)."""
    x = preprocessing.blank(len(images), np.float32)
    preprocessing.apply(images, out=x)
    return x


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
        No layer has this name, or it is no convolution.
    """
    layer = find_layer(network, name)
    if isinstance(layer, Convolution):
        return layer
    raise ConfigError(
        f"{name} is no convolution",
        remedy="choose one of " + ", ".join(convolutions(network)),
        key="--layer",
    )


def convolutions(network: Network) -> list[str]:
    """Return the names of the convolutions."""
    return [layer.name for layer in network.layers if isinstance(layer, Convolution)]


def activations(network: Network, x: Array) -> dict[str, Array]:
    """Return what every layer makes of one image x (1,S,S,1): (C,H,W) or (F,) by its name."""
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
    """Return top, left, height and width of what the unit at (i, j) of a layer sees."""
    windows = []
    sh = sw = 1
    for layer in network.layers:
        kernel = layer.kernel
        if isinstance(layer, Linear) and len(layer.shape) == 3:
            kernel = layer.shape[1], layer.shape[2]
        windows.append((kernel, layer.stride))
        sh, sw = sh * layer.stride[0], sw * layer.stride[1]
        if layer.name == name:
            break
    height, width = receptive_field(windows)
    return i * sh, j * sw, height, width


def project(network: Network, x: Array, unit: Unit) -> Array:
    """Return what drove a unit, as pixels (S,S): its layers run backwards, as described above."""
    outputs = activations(network, x)
    names = list(outputs)
    y = np.zeros((*outputs[unit.layer].shape, 1), x.dtype)
    y[(unit.index, *unit.place)[: y.ndim - 1]] = unit.value
    for layer in reversed(network.layers[: names.index(unit.layer) + 1]):
        y = _run_back(layer, y)
    return y[0, :, :, 0]


def _run_back(layer: Layer, y: Array) -> Array:
    shape = y.shape[:-1]
    match layer:
        case MaxPooling():
            return Network([MaxUnpooling(f"{layer.name} undone", layer)], shape, y.dtype).forward(y)
        case AveragePooling():
            return layer.backward(y)
        case Activation() if layer.function is ReLU:
            return np.maximum(y, 0)
        case Activation():
            return layer.backward(y)
        case Convolution():
            turned = TransposedConvolution(
                f"{layer.name} transposed",
                layer.shape[0],
                layer.kernel,
                layer.stride,
                layer.padding,
            )
            mirror = Network([turned], shape, y.dtype)
            np.copyto(turned.weight.value, layer.weight.value)
            return mirror.forward(y)
        case Linear():
            return (layer.weight.value.T @ y).reshape(*layer.shape, -1)
        case _:
            raise layer.misfit("cannot be run backwards")


# --- Patches, edges, clouds -----------------------------------------------------------------------


@dataclass(frozen=True)
class Product:
    """A convolution of one image as a matrix product: weights (F,K) · patches (K,P) = z (F,P).

    ``x`` (C,H,W) is the convolution's input; the bias is not in ``z``.
    """

    conv: Convolution
    x: Array
    weights: Array
    patches: Array

    @property
    def z(self) -> Array:
        return self.weights @ self.patches


def product(network: Network, x: Array, name: str) -> Product:
    """Return the matrices of a convolution of one image x (1,S,S,1).

    Raises
    ------
    ConfigError
        No layer has this name, or it is no convolution.
    """
    conv = find_convolution(network, name)
    outputs = {"": x[..., 0], **activations(network, x)}
    names = list(outputs)
    below = outputs[names[names.index(name) - 1]]
    patches = im2col(below[None], conv.kernel, conv.stride, conv.padding).T
    return Product(conv, below, conv.weight.value.reshape(conv.F, -1), patches)


def line_responses(image: NDArray[np.uint8], kernel: Array) -> dict[str, Array]:
    """Return what a 3×3 kernel finds in an image (H,W) of grey levels, and both poolings of it.

    Grey levels count from 0 to 1; around the image is background.
    """
    x = (image[None, :, :, None] / 255).astype(np.float32)
    conv = Convolution("convolution", 1, kernel=3, padding=1)
    network = Network([conv, Activation("ReLU", "relu")], x.shape[:-1])
    conv.weight.value[...] = kernel
    found = activations(network, x)
    y = found["ReLU"][..., None]
    for pooling in (MaxPooling("max pooling", 2), AveragePooling("average pooling", 2)):
        found[pooling.name] = Network([pooling], y.shape[:-1]).forward(y)[..., 0]
    return {name: maps[0] for name, maps in found.items()}


def embedding(
    network: Network, preprocessing: Preprocessing, images: NDArray[np.uint8], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lay the outputs of a layer for many images out in two dimensions, by SVD.

    Returns
    -------
    places, shares
        The images (N,2) on the first two right singular vectors of the centred outputs (N,D),
        each turned so that its largest entry is positive; and the part of the variance that lies
        along each.

    Raises
    ------
    ConfigError
        The layer has a single number, or does not exist.
    """
    find_layer(network, name)
    outputs = []
    for start in range(0, len(images), BATCH):
        x = prepared(preprocessing, images[start : start + BATCH])
        network.allocate(x.shape[-1])
        for layer in network.layers:
            x = layer.forward(x)
            if layer.name == name:
                break
        outputs.append(x.reshape(-1, x.shape[-1]).T.astype(np.float64))
    A = np.concatenate(outputs)
    if min(A.shape) < 2:
        raise ConfigError(
            f"{A.shape[1]} units of {A.shape[0]} images cannot be laid out in two dimensions",
            remedy="take a network with more units, or more images",
            key=f"layer {name}",
        )
    A -= A.mean(axis=0)
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    signs = np.sign(Vt[[0, 1], np.abs(Vt[:2]).argmax(axis=1)])
    variances = s * s
    return U[:, :2] * s[:2] * signs, variances[:2] / max(variances.sum(), np.finfo(float).tiny)

"""What the layers of a network compute for one image, forward and backward, and for many.

The network runs layer by layer and not fused, so that the output of every layer is available, and
the gradient with respect to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lenet.arrays import Array
from lenet.data.preprocessing import Preprocessing
from lenet.errors import ConfigError
from lenet.nn.activations import Activation
from lenet.nn.convolution import Convolution
from lenet.nn.layer import Layer
from lenet.nn.linear import Linear
from lenet.nn.network import Network
from lenet.nn.pooling import AveragePooling, MaxPooling, Pooling
from lenet.nn.rbf import RBF
from lenet.nn.subsampling import Subsampling

INPUT = "input"
"""The name of the network's input, beside the names of its layers."""


def find_layer(network: Network, name: str) -> Layer:
    """Return the layer of this name."""
    for layer in network.layers:
        if layer.name == name:
            return layer
    raise ConfigError(
        f"the network has no layer {name}",
        remedy="choose one of " + ", ".join(layer.name for layer in network.layers),
        key="--layer",
    )


def find_convolution(network: Network, name: str) -> Convolution:
    """Return the convolution of this name."""
    layer = find_layer(network, name)
    if isinstance(layer, Convolution):
        return layer
    raise ConfigError(
        f"{name} is not a convolution",
        remedy="choose one of " + ", ".join(convolutions(network)),
        key="--layer",
    )


def convolutions(network: Network) -> list[str]:
    """Return the names of the convolutions, of which there is at least one."""
    found = [layer.name for layer in network.layers if isinstance(layer, Convolution)]
    if not found:
        raise ConfigError(
            "the network has no convolution",
            remedy="inspect its maps, gradients or embedding instead",
            key="network",
        )
    return found


def find_max_pooling(network: Network, name: str | None) -> MaxPooling:
    """Return the max pooling of this name, or for None the last one."""
    found = [layer for layer in network.layers if isinstance(layer, MaxPooling)]
    layer = found[-1] if found else network.layers[-1]
    if name is not None:
        layer = find_layer(network, name)
    elif not found and (others := [k for k in network.layers if isinstance(k, Pooling)]):
        layer = others[-1]
    if isinstance(layer, MaxPooling):
        return layer
    remedy = "train one with model.pooling=max"
    if found:
        remedy = "choose one of " + ", ".join(layer.name for layer in found)
    what = "average pooling" if isinstance(layer, Pooling) else "not max pooling"
    raise ConfigError(f"{layer.name} is {what}: no pixel wins", remedy=remedy, key="--layer")


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
    """Return the name of the layer whose output the output layer takes."""
    outputs = [
        k for k, layer in enumerate(network.layers) if isinstance(layer, Convolution | Linear | RBF)
    ]
    if not outputs or outputs[-1] == 0:
        raise ConfigError(
            "the network has no hidden layer",
            remedy="inspect its maps instead",
            key="network",
        )
    return network.layers[outputs[-1] - 1].name


def activations(network: Network, x: Array) -> dict[str, Array]:
    """Return the output of every layer for one image x (C,H,W,1): (C,H,W) or (F,) by its name."""
    network.allocate(1)
    return {layer.name: (x := layer.forward(x))[..., 0] for layer in network.layers}


def input_of(network: Network, x: Array, name: str) -> Array:
    """Return what the layer of this name takes for one image x (C,H,W,1): (C,H,W) or (D,)."""
    outputs = {INPUT: x[..., 0], **activations(network, x)}
    names = list(outputs)
    return outputs[names[names.index(name) - 1]]


def gradients(network: Network, x: Array, label: int) -> dict[str, Array]:
    """Return ∂E/∂y of every layer's output y for one image x (C,H,W,1), and ∂E/∂x.

    E is the loss that belongs to the network's outputs (:meth:`Network.default_loss`).
    """
    for layer in network.layers:
        layer.needs_dx = True  # down to the pixels, which training never needs
    network.allocate(1)
    loss = network.default_loss()
    loss.forward(network.forward(x), np.array([label]))
    dy: Array | None = loss.backward()
    found = []
    for layer in reversed(network.layers):
        assert dy is not None  # noqa: S101 - needs_dx is True
        found.append((layer.name, dy[..., 0].copy()))  # the layers overwrite their own arrays
        dy = layer.backward(dy)
    assert dy is not None  # noqa: S101 - needs_dx is True
    found.append((INPUT, dy[..., 0].copy()))
    return dict(reversed(found))


SOBEL: Final = np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]], np.float32)


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


@dataclass(frozen=True)
class Winners:
    """Max pooling of one image, forward and backward.

    Attributes
    ----------
    pooling
        The layer.
    x, dx
        Its input (C,H,W), and the gradient with respect to it.
    y, dy
        Its output (C,Ho,Wo), and the gradient with respect to it.
    rows, columns
        The place (C,Ho,Wo) on the input of every window's winner.
    """

    pooling: MaxPooling
    x: Array
    y: Array
    dy: Array
    dx: Array
    rows: Array
    columns: Array


def winners(network: Network, x: Array, name: str | None, label: int) -> Winners:
    """Return the winners of the max pooling of this name, or of the last one for None."""
    pooling = find_max_pooling(network, name)
    names = [INPUT, *(layer.name for layer in network.layers)]
    below = names[names.index(pooling.name) - 1]
    entering = input_of(network, x, pooling.name).copy()
    by_layer = gradients(network, x, label)
    (kw, (sh, sw), (dh, dw)) = pooling.kernel[1], pooling.stride, pooling.dilation
    top, left, _, _ = pooling.edges
    m, n = np.divmod(pooling.switches[..., 0].argmax(axis=0), kw)
    i, j = np.indices(m.shape[1:])
    return Winners(
        pooling,
        entering,
        pooling.y[..., 0].copy(),
        by_layer[pooling.name],
        by_layer[below],
        i * sh + m * dh - top,
        j * sw + n * dw - left,
    )


BATCH: Final = 256


@dataclass(frozen=True)
class Embedding:
    """N images in two dimensions.

    Attributes
    ----------
    places
        The images (N,2) on the first two right singular vectors of the centred outputs (N,D),
        with signs such that the largest entry of each vector is positive.
    shares
        The part of the variance along each (2,).
    predicted
        The class that the network assigns to each image (N,).
    """

    places: NDArray[np.float64]
    shares: NDArray[np.float64]
    predicted: NDArray[np.intp]


def embedding(
    network: Network, preprocessing: Preprocessing, images: NDArray[np.uint8], name: str
) -> Embedding:
    """Reduce the outputs of a layer for many images to two dimensions, by SVD."""
    find_layer(network, name)
    outputs, predicted = [], []
    for start in range(0, len(images), BATCH):
        x = preprocessing.prepare(images[start : start + BATCH], np.float32)
        network.allocate(x.shape[-1])
        for layer in network.layers:
            x = layer.forward(x)
            if layer.name == name:
                outputs.append(x.reshape(-1, x.shape[-1]).T.astype(np.float64))
        predicted.append(network.scores(x).argmax(axis=0))
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
    shares = variances[:2] / max(variances.sum(), np.finfo(float).tiny)
    return Embedding(U[:, :2] * s[:2] * signs, shares, np.concatenate(predicted))

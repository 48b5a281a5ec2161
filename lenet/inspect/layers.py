"""The layers of a network by name or by kind, and what each computes for one image.

The network runs layer by layer and not fused, so that the output of every layer is available, and
the gradient with respect to it.
"""

from __future__ import annotations

import numpy as np

from lenet.arrays import Array
from lenet.errors import ConfigError
from lenet.nn.convolution import Convolution
from lenet.nn.layer import Layer
from lenet.nn.linear import Linear
from lenet.nn.network import Network
from lenet.nn.pooling import MaxPooling, Pooling
from lenet.nn.rbf import RBF
from lenet.nn.subsampling import Subsampling

INPUT = "input"
"""The name of the network's input, beside the names of its layers."""


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
            remedy="inspect its maps, gradients or embedding instead",
            key="network",
        )
    return found


def find_max_pooling(network: Network, name: str | None) -> MaxPooling:
    """Return the max pooling of this name, or for None the last one.

    Raises
    ------
    ConfigError
        No layer has this name, or it is not max pooling; for None, there is none.
    """
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

    Returns
    -------
    Arrays (C,H,W) or (F,) by the name of the layer, in the order of the layers, after
    :data:`INPUT`.
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

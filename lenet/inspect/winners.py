"""The winners of max pooling for one image, and the gradient that they get."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lenet.arrays import Array
from lenet.inspect.layers import INPUT, find_max_pooling, gradients, input_of
from lenet.nn.network import Network
from lenet.nn.pooling import MaxPooling


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
    """Return the winners of the max pooling of this name, or of the last one for None.

    Raises
    ------
    ConfigError
        There is no such layer, or it is not max pooling.
    """
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

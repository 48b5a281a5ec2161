"""Networks that are not LeNet-5: colour, sides of different lengths, every option of a layer."""

from __future__ import annotations

import numpy as np

from lenet.nn.activations import Activation
from lenet.nn.convolution import Convolution
from lenet.nn.linear import Linear
from lenet.nn.network import Network
from lenet.nn.pooling import AveragePooling, MaxPooling


def colour_stack(pooling=AveragePooling, activation="tanh", dtype=np.float64):
    """A network for images of 3×18×14 with 3 classes, with random weights and biases."""
    layers = [
        Convolution("conv-1", 6, (3, 5), stride=(2, 1), padding=(1, 2), groups=3),
        Activation("act-1", activation),
        pooling("pool", 2, stride=(1, 2)),
        Convolution("conv-2", 4, 3, groups=2, flip=True, padding=(0, 1)),
        Activation("act-2", activation),
        Linear("hidden", 5),
        Activation("act-3", activation),
        Linear("scores", 3),
    ]
    return randomized(Network(layers, (3, 18, 14), dtype))


def dense_stack(dtype=np.float64):
    """A network without convolutions for images of 2×5×4 with 4 classes."""
    layers = [Linear("a", 7), Activation("b", "lecun_tanh"), Linear("c", 4)]
    return randomized(Network(layers, (2, 5, 4), dtype))


def max_stack(dtype=np.float64):
    """A network for images of 3×13×12 with overlapping windows and a last layer of 1×1 maps."""
    layers = [
        MaxPooling("first", (3, 2), stride=(2, 1)),
        Convolution("wide", 5, (2, 3), padding=1),
        Activation("relu", "relu"),
        MaxPooling("second", 3, stride=2),
        Activation("sigmoid", "sigmoid"),
        Linear("scores", 3),
    ]
    return randomized(Network(layers, (3, 13, 12), dtype))


def randomized(network):
    rng = np.random.default_rng(7)
    network.initialize(rng)
    network.parameters += 0.1 * rng.standard_normal(network.parameters.size).astype(network.dtype)
    return network

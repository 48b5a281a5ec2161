"""Networks that are not LeNet-5: colour, sides of different lengths, every layer and option."""

from __future__ import annotations

import numpy as np
from oracles import LECUN_TABLE

from lenet.nn.activations import Activation
from lenet.nn.convolution import Convolution
from lenet.nn.dropout import Dropout
from lenet.nn.linear import Linear
from lenet.nn.network import Network
from lenet.nn.normalisation import BatchNormalization
from lenet.nn.pooling import AveragePooling, MaxPooling
from lenet.nn.rbf import RBF
from lenet.nn.subsampling import Subsampling
from lenet.nn.transposed import TransposedConvolution
from lenet.nn.unpooling import MaxUnpooling, RepeatUnpooling


def colour_stack(dtype=np.float64):
    """Three channels, groups, kernels turned by 180°, everything smooth."""
    layers = [
        Convolution("conv-1", 6, (3, 5), stride=(2, 1), padding=(1, 2), groups=3),
        Activation("act-1", "tanh"),
        AveragePooling("pool", 2, stride=(1, 2)),
        Convolution("conv-2", 4, 3, groups=2, flip=True, padding=(0, 1)),
        Activation("act-2", "tanh"),
        Linear("hidden", 5),
        Activation("act-3", "tanh"),
        Linear("scores", 3),
    ]
    return randomized(Network(layers, (3, 18, 14), dtype))


def dense_stack(dtype=np.float64):
    """No convolution, two channels."""
    layers = [Linear("a", 7), Activation("b", "lecun_tanh"), Linear("c", 4)]
    return randomized(Network(layers, (2, 5, 4), dtype))


def max_stack(dtype=np.float64):
    """Overlapping windows, and a pooling as the first layer."""
    layers = [
        MaxPooling("first", (3, 2), stride=(2, 1)),
        Convolution("wide", 5, (2, 3), padding=1),
        Activation("relu", "relu"),
        MaxPooling("second", 3, stride=2),
        Activation("sigmoid", "sigmoid"),
        Linear("images", 3),
    ]
    return randomized(Network(layers, (3, 13, 12), dtype))


def padded_stack(dtype=np.float64):
    """Padding that differs from side to side, dilation, windows rounded up."""
    layers = [
        Convolution("conv", 4, (3, 2), padding=(1, 0, 2, 3), dilation=(2, 3)),
        MaxPooling("max", 3, stride=2, padding=(1, 0, 0, 1), round_up=True),
        AveragePooling("mean", (2, 3), stride=2, padding=1, round_up=True, count_padding=False),
        Linear("class", 3),
    ]
    return randomized(Network(layers, (2, 17, 15), dtype))


def mean_stack(dtype=np.float64):
    """Average pooling with every option."""
    layers = [
        AveragePooling("plain", 2, stride=1, padding=(1, 0)),
        AveragePooling("counted", 3, stride=2, padding=1, round_up=True),
        AveragePooling("dilated", 2, stride=1, dilation=(2, 1)),
        MaxPooling("dilated max", 2, stride=2, dilation=2, padding=1, round_up=True),
        Linear("class", 4),
    ]
    return randomized(Network(layers, (3, 16, 18), dtype))


def normalised_stack(dtype=np.float64):
    """Batch normalisation of maps and of units, with running averages; dropout."""
    layers = [
        Convolution("conv", 4, 3),
        BatchNormalization("norm-1"),
        Activation("relu", "relu"),
        Dropout("drop-1", 0.25),
        Linear("hidden", 6),
        BatchNormalization("norm-2", epsilon=1e-3),
        Activation("tanh", "tanh"),
        Linear("class", 3),
        Dropout("drop-2"),
    ]
    network = randomized(Network(layers, (1, 9, 8), dtype))
    rng = np.random.default_rng(8)
    for name, array in network.state_arrays().items():
        spread = (0.5, 2) if "variance" in name else (-1, 1)
        array[...] = rng.uniform(*spread, array.shape)
    return network


def first_lenet5(dtype=np.float64):
    """The layers of 1998: trainable subsampling, a table of connections, an RBF output."""
    layers = [
        Convolution("C1", 6, 5),
        Subsampling("S2"),
        Activation("S2.activation", "lecun_tanh"),
        Convolution("C3", 16, 5, table=LECUN_TABLE),
        Subsampling("S4"),
        Activation("S4.activation", "lecun_tanh"),
        Convolution("C5", 20, 5),
        Activation("C5.activation", "lecun_tanh"),
        Linear("F6", 84),
        Activation("F6.activation", "lecun_tanh"),
        RBF("output"),
    ]
    return randomized(Network(layers, (1, 32, 32), dtype))


def enlarging_stack(dtype=np.float64):
    """Layers that enlarge the image."""
    layers = [
        RepeatUnpooling("repeat", (2, 3)),
        TransposedConvolution(
            "transposed", 4, (2, 3), stride=(3, 2), padding=(1, 0, 0, 2),
            output_padding=(2, 1), groups=2, dilation=(1, 2),
        ),
        Activation("relu", "relu"),
        Linear("class", 3),
    ]  # fmt: skip
    return randomized(Network(layers, (2, 5, 4), dtype))


def unpooling_stack(dtype=np.float64):
    """A pooling whose switches a later layer uses; only ONNX has such a layer."""
    pooling = MaxPooling("pool", (2, 3), stride=(3, 3))
    layers = [
        Convolution("conv", 2, 2),
        pooling,
        Activation("tanh", "tanh"),
        MaxUnpooling("unpool", pooling),
        Linear("class", 3),
    ]
    return randomized(Network(layers, (1, 9, 10), dtype))


STACKS = {
    stack.__name__: stack
    for stack in (
        *(colour_stack, dense_stack, max_stack, padded_stack, mean_stack),
        *(normalised_stack, first_lenet5, enlarging_stack),
    )
}


def randomized(network):
    """The network in evaluation mode, with random weights and biases."""
    rng = np.random.default_rng(7)
    network.initialize(rng)
    network.parameters += 0.1 * rng.standard_normal(network.parameters.size).astype(network.dtype)
    network.training = False
    return network

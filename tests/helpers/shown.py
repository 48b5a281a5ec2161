"""Networks as the page of ``lenet play`` shows them, and what this package computes for it."""

from __future__ import annotations

import numpy as np
from networks import randomized

from lenet.data.preprocessing import Preprocessing
from lenet.nn.activations import Activation
from lenet.nn.convolution import Convolution
from lenet.nn.dropout import Dropout
from lenet.nn.linear import Linear
from lenet.nn.network import Network
from lenet.nn.pooling import AveragePooling
from lenet.nn.subsampling import Subsampling
from lenet.targets.networks import ExportedNetwork
from lenet.targets.page.html import to_html


def of(network):
    """Make a network ready for the page, without scaling."""
    classes = tuple(map(str, range(network.output_shape[0])))
    size = network.input_shape[1:]
    preprocessing = Preprocessing(network.input_shape, scale=1 / 255, shift=0.0)
    return ExportedNetwork(network, size, preprocessing, classes, "a test")


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def python_probabilities(exported, images):
    return softmax(exported.scores(images[:, None]).astype(np.float64))


def written(exported, folder):
    """Write a page, as it is, and return its path."""
    file = folder / "play.html"
    file.write_text(to_html(exported), encoding="utf-8")
    return file


def table_stack():
    """A table of connections, groups, and kernels turned by 180°."""
    layers = [
        Convolution("C1", 4, 3, padding=1),
        Activation("a", "lecun_tanh"),
        Convolution("C2", 3, (2, 3), table=((0, 1), (3,), (0, 1, 2, 3))),
        Activation("b", "sigmoid"),
        AveragePooling("S3", 2),
        Dropout("S3.dropout"),
        Linear("F4", 4),
    ]
    return randomized(Network(layers, (1, 11, 12), np.float64))


def subsampling_stack():
    layers = [
        Subsampling("S1", 2, stride=(1, 2)),
        Activation("S1.activation", "lecun_tanh"),
        Convolution("C2", 3, 3, stride=2),
        Subsampling("S3", 2),
        Linear("F4", 3),
    ]
    return randomized(Network(layers, (2, 12, 13), np.float64))

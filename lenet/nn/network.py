"""A sequence of layers over one flat parameter vector and one flat gradient vector.

Every layer's parameters are views into the two vectors, in the order of the layers: an optimizer,
a checkpoint or a sum over workers sees one array and knows no layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lenet.nn.im2col import Array
from lenet.nn.initializers import INITIALIZERS
from lenet.nn.layer import Layer, Parameter, Shape
from lenet.nn.losses import softmax
from lenet.system.errors import ConfigError, OrderError
from lenet.system.registry import lookup


class Network:
    """Layers run one after the other, forward and backward.

    Parameters
    ----------
    layers
        The layers, with different names; they are built here and belong to this network.
    input_shape
        The shape (C,H,W) of an image.
    dtype
        float32 or float64, of parameters and activations alike.

    Raises
    ------
    ConfigError
        A layer does not fit the output of the one before it, or two have the same name.

    Examples
    --------
    >>> from lenet.nn.linear import Linear
    >>> network = Network([Linear("F1", 3)], input_shape=(1, 2, 2))
    >>> network.initialize(np.random.default_rng(0))
    >>> network.parameters.size, network.forward(np.ones((1, 2, 2, 5), np.float32)).shape
    (15, (3, 5))
    """

    def __init__(
        self, layers: Sequence[Layer], input_shape: Shape, dtype: DTypeLike = np.float32
    ) -> None:
        self.layers, self.input_shape, self.dtype = list(layers), input_shape, np.dtype(dtype)
        _refuse_equal_names("layers", (layer.name for layer in self.layers))
        shape = input_shape
        for layer in self.layers:
            shape = layer.build(shape)
        self.output_shape = shape
        self.parameter_list: list[Parameter] = [p for layer in layers for p in layer.parameters]
        _refuse_equal_names("parameters", (p.name for p in self.parameter_list))
        size = sum(p.size for p in self.parameter_list)
        self.bind(np.zeros(size, self.dtype), np.zeros(size, self.dtype))
        # No gradient is needed below the first layer with parameters.
        trained = [i for i, layer in enumerate(self.layers) if layer.parameters]
        self.first_trained = trained[0] if trained else 0
        self.layers[self.first_trained].needs_dx = False
        self.N = 0

    def bind(self, parameters: Array, gradients: Array) -> None:
        """Let all parameters be views of these two vectors from now on; no number is copied."""
        start = 0
        for p in self.parameter_list:
            part = slice(start, start + p.size)
            p.value = parameters[part].reshape(p.shape)
            p.gradient = gradients[part].reshape(p.shape)
            start = part.stop
        self.parameters, self.gradients = parameters, gradients

    def initialize(self, rng: np.random.Generator, initializer: str = "he") -> None:
        """Draw the weights by one of :data:`INITIALIZERS`; set the biases to zero.

        Raises
        ------
        ConfigError
            There is no initializer of this name.
        """
        draw = lookup(INITIALIZERS, initializer, key="initializer")
        for p in self.parameter_list:
            p.value[...] = draw(rng, p.shape, p.fan_in, p.fan_out, self.dtype) if p.decays else 0

    @property
    def decays(self) -> NDArray[np.bool_]:
        """Which numbers of the flat vector are weights, to which weight decay applies."""
        return np.repeat(
            [p.decays for p in self.parameter_list], [p.size for p in self.parameter_list]
        )

    def allocate(self, N: int) -> None:
        """Size all buffers for batches of N images; ``forward`` calls it when N changes."""
        for layer in self.layers:
            layer.allocate(N, self.dtype)
        self.N = N

    def forward(self, x: Array) -> Array:
        """Return the scores (classes, N) of images x (C,H,W,N); they belong to the network."""
        if x.shape[-1] != self.N:
            self.allocate(x.shape[-1])
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dz: Array) -> None:
        """Overwrite the gradients of all parameters, given ∂E/∂ scores (classes, N).

        Raises
        ------
        OrderError
            There has been no forward pass.
        """
        if not self.N:
            raise OrderError(
                "backward was called before forward",
                remedy="call forward with a batch of images first",
                key="network",
            )
        dy: Array | None = dz
        for layer in reversed(self.layers[self.first_trained :]):
            assert dy is not None  # noqa: S101 - only the first trained layer returns None
            dy = layer.backward(dy)

    def predict(self, images: Array, batch: int = 256) -> Array:
        """Return the class probabilities (N, classes) of preprocessed images (N,C,H,W)."""
        probabilities = np.empty((len(images), *self.output_shape), self.dtype)
        for start in range(0, len(images), batch):
            x = np.ascontiguousarray(
                images[start : start + batch].transpose(1, 2, 3, 0), self.dtype
            )  # fmt: skip
            probabilities[start : start + batch] = softmax(self.forward(x)).T
        return probabilities


def _refuse_equal_names(what: str, names: Iterable[str]) -> None:
    """Refuse two layers or two parameters of one name: a checkpoint could not tell them apart."""
    name, times = max(Counter(names).items(), key=lambda item: item[1], default=("", 1))
    if times > 1:
        raise ConfigError(
            f"{times} {what} have this name",
            remedy="give every layer a name of its own",
            key=f"{what.removesuffix('s')} {name}",
        )

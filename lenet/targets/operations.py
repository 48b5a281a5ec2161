"""What layers compute outside of training, as a few elementary operations with their numbers.

This is the one description that C, its 8-bit form, ONNX and the page share: kernels as they are
multiplied, biases, windows, factors. It is looked up by the exact type of a layer: a subclass may
compute something else, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np

from lenet.arrays import Array, Edges, Shape
from lenet.errors import ConfigError
from lenet.nn.activations import Activation, Function
from lenet.nn.convolution import Convolution
from lenet.nn.dropout import Dropout
from lenet.nn.layer import Layer
from lenet.nn.linear import Linear
from lenet.nn.normalisation import BatchNormalization
from lenet.nn.pooling import AveragePooling, GlobalAveragePooling, MaxPooling, Pooling
from lenet.nn.rbf import RBF
from lenet.nn.subsampling import Subsampling
from lenet.nn.transposed import TransposedConvolution
from lenet.nn.unpooling import MaxUnpooling, RepeatUnpooling

Size = tuple[int, int]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Operation:
    """One step: of the layer ``layer`` of the type ``kind``, from ``shape`` to ``output``."""

    layer: str
    kind: str
    shape: Shape
    output: Shape


@dataclass(frozen=True)
class Window:
    """What an output depends on; ``edges`` is the padding above, left, below and right."""

    kernel: Size
    stride: Size
    edges: Edges = (0, 0, 0, 0)
    dilation: Size = (1, 1)


@dataclass(frozen=True)
class Product(Operation):
    """A convolution with ``weight`` (F, C/groups, kh, kw) as cross-correlation, plus ``bias``."""

    weight: Array
    bias: Array
    window: Window
    groups: int
    is_one_patch: bool
    """Whether the only patch is the input, in its order: the product is that of a linear layer."""


@dataclass(frozen=True)
class Affine(Operation):
    """``weight`` (F,D) times all inputs, plus ``bias``."""

    weight: Array
    bias: Array


@dataclass(frozen=True)
class Transposed(Operation):
    """A transposed convolution with ``weight`` (C, F/groups, kh, kw)."""

    weight: Array
    bias: Array
    window: Window
    groups: int
    output_padding: Size


@dataclass(frozen=True)
class Maximum(Operation):
    """The maximum of each window."""

    window: Window


@dataclass(frozen=True)
class Sum(Operation):
    """The sum of each window times ``factors`` (Ho,Wo); outside the image it is 0."""

    window: Window
    factors: Array

    @property
    def factor(self) -> float | None:
        """The factor, if it is the same everywhere."""
        first = self.factors[0, 0]
        return float(first) if (self.factors == first).all() else None


@dataclass(frozen=True)
class Scale(Operation):
    """Each channel, or each number of a vector, times ``factor`` (C) plus ``offset`` (C)."""

    factor: Array
    offset: Array


@dataclass(frozen=True)
class Unpool(Operation):
    """Each number at the place of the maximum that ``pooling`` has found, 0 elsewhere."""

    pooling: MaxPooling


@dataclass(frozen=True)
class Repeat(Operation):
    """Each number in a block of ``factor`` rows and columns."""

    factor: Size


@dataclass(frozen=True)
class Distances(Operation):
    """The squared distances to ``centres`` (classes, D)."""

    centres: Array


@dataclass(frozen=True)
class Pointwise(Operation):
    """A function of each number."""

    function: type[Function]


def operations_of(layer: Layer) -> list[Operation]:
    """Return what a built layer computes outside of training; nothing for dropout.

    Raises
    ------
    ConfigError
        No export has this type of layer.
    """
    return dispatched(DESCRIPTIONS, layer, "has no export", "train a network without it")(layer)


def dispatched(
    table: Mapping[Any, Made], layer: Layer | Operation, problem: str, remedy: str
) -> Made:
    """Return the entry of a table for the exact type, or refuse the layer."""
    if type(layer) in table:
        return table[type(layer)]
    name, kind = (
        (layer.name, type(layer).__name__)
        if isinstance(layer, Layer)
        else (layer.layer, layer.kind)
    )
    raise ConfigError(f"{kind} {problem}", remedy=remedy, key=f"layer {name}")


def refused(operation: Operation, problem: str, remedy: str) -> ConfigError:
    """Return the error for an operation that a target cannot express."""
    key = f"layer {operation.layer}"
    return ConfigError(f"{operation.kind} {problem}", remedy=remedy, key=key)


def is_one_patch(layer: Convolution) -> bool:
    """Return whether the only patch is the input: the product is that of a linear layer."""
    return layer.direct and (layer.Ho, layer.Wo, layer.groups) == (1, 1, 1)


# --- The layers -----------------------------------------------------------------------------------


def _head(layer: Any, output: Shape) -> tuple[str, str, Shape, Shape]:  # noqa: ANN401
    return layer.name, type(layer).__name__, layer.shape, output


def _window(layer: Convolution | TransposedConvolution | Pooling) -> Window:
    return Window(layer.kernel, layer.stride, layer.edges, layer.dilation)


def _convolution(layer: Convolution) -> list[Operation]:
    head, bias = _head(layer, (layer.F, layer.Ho, layer.Wo)), layer.bias.value
    return [
        Product(*head, layer.multiplied, bias, _window(layer), layer.groups, is_one_patch(layer))
    ]


def _linear(layer: Linear) -> list[Operation]:
    return [Affine(*_head(layer, (layer.F,)), layer.weight.value, layer.bias.value)]


def _transposed(layer: TransposedConvolution) -> list[Operation]:
    head, window = _head(layer, (layer.F, layer.Ho, layer.Wo)), _window(layer)
    weight, bias = layer.weight.value, layer.bias.value
    return [Transposed(*head, weight, bias, window, layer.groups, layer.output_padding)]


def _max_pooling(layer: MaxPooling) -> list[Operation]:
    return [Maximum(*_head(layer, layer.output_shape), _window(layer))]


def _average_pooling(layer: AveragePooling) -> list[Operation]:
    allocated = deepcopy(layer)  # the buffers of the network stay as they are
    allocated.allocate(1, np.float32)
    factor = np.asarray(allocated.factor, np.float32)
    factors = np.broadcast_to(factor.reshape(factor.shape[:2]), layer.output_shape[1:])
    return [Sum(*_head(layer, layer.output_shape), _window(layer), factors)]


def _subsampling(layer: Subsampling) -> list[Operation]:
    output = layer.shape[0], layer.Ho, layer.Wo
    head, ones = _head(layer, output), np.ones(output[1:], np.float32)
    scale = Scale(head[0], head[1], output, output, layer.weight.value, layer.bias.value)
    return [Sum(*head, Window(layer.kernel, layer.stride), ones), scale]


def _batch_normalization(layer: BatchNormalization) -> list[Operation]:
    factor = layer.weight.value / np.sqrt(layer.variance + layer.epsilon)
    offset = layer.bias.value - layer.mean * factor
    both = factor.astype(np.float32), offset.astype(np.float32)
    return [Scale(*_head(layer, layer.shape), *both)]


def _repeat(layer: RepeatUnpooling) -> list[Operation]:
    C, H, W = layer.shape
    output = C, H * layer.kernel[0], W * layer.kernel[1]
    return [Repeat(*_head(layer, output), layer.kernel)]


def _rbf(layer: RBF) -> list[Operation]:
    centres = layer.centres.astype(np.float32)
    return [Distances(*_head(layer, (len(centres),)), centres)]


DESCRIPTIONS: Final[dict[type[Layer], Callable[[Any], list[Operation]]]] = {
    Convolution: _convolution,
    Linear: _linear,
    TransposedConvolution: _transposed,
    MaxPooling: _max_pooling,
    AveragePooling: _average_pooling,
    GlobalAveragePooling: _average_pooling,
    Subsampling: _subsampling,
    MaxUnpooling: lambda layer: [Unpool(*_head(layer, layer.pooling.shape), layer.pooling)],
    RepeatUnpooling: _repeat,
    BatchNormalization: _batch_normalization,
    RBF: _rbf,
    Activation: lambda layer: [Pointwise(*_head(layer, layer.shape), layer.function)],
    Dropout: lambda _: [],
}

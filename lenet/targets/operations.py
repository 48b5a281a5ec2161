"""What layers compute outside of training, as a few elementary operations with their numbers.

This is the one description that C, its 8-bit form, ONNX and the page share: kernels as they are
multiplied, biases, windows, factors. It is looked up by the exact type of a layer: a subclass may
compute something else, and is refused.
"""

from __future__ import annotations

import ast
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
    """Return what a built layer computes outside of training; nothing for dropout."""
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


# --- Formulas of activations in other languages ---------------------------------------------------


FUNCTIONS: Final = ("abs", "exp", "log", "sqrt", "tanh", "max", "min")
SYMBOLS: Final[dict[type[ast.AST], str]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Gt: ">",
}
Value = TypeVar("Value")


@dataclass(frozen=True)
class Writer:
    """A language: its numbers, and what it makes of an operation and its operands."""

    number: Callable[[float], Any]
    combine: Callable[[str, list[Any]], Any]


def formulas(function: type[Function]) -> tuple[str, str] | None:
    """Return expression and slope, or None if the class itself does not state them.

    A subclass does not inherit them: it may compute something else.
    """
    own = vars(function)
    return (function.expression, function.slope) if "expression" in own else None


def written(formula: str, writer: Writer, argument: object) -> Any:  # noqa: ANN401 - the writer's
    """Return a formula in a language, with ``argument`` in the place of x or y.

    Examples
    --------
    >>> written("max(x, 0) + log(1 + exp(-abs(x)))", C, "x[i]")
    '((x[i] > 0.0f ? x[i] : 0.0f) + logf((1.0f + expf((-fabsf(x[i]))))))'
    >>> written("2 / 3 * (1 - y * y)", JAVASCRIPT, "y")
    '(0.6666666666666666 * (1 - (y * y)))'
    """

    def value(node: ast.AST) -> Any:  # noqa: ANN401
        constant = _constant(node)
        if constant is not None:
            return writer.number(constant)
        match node:
            case ast.Name("x" | "y"):
                return argument
            case ast.UnaryOp(ast.USub(), operand):
                return writer.combine("neg", [value(operand)])
            case ast.BinOp(left, operator, right) if type(operator) in SYMBOLS:
                return writer.combine(SYMBOLS[type(operator)], [value(left), value(right)])
            case ast.Compare(left, [ast.Gt()], [right]):
                return writer.combine(">", [value(left), value(right)])
            case ast.Call(ast.Name(name), arguments, []) if name in FUNCTIONS:
                return writer.combine(name, [value(part) for part in arguments])
        raise ValueError(f"{ast.unparse(node)!r} in the formula {formula!r} is unknown")

    return value(ast.parse(formula, mode="eval").body)


def _constant(node: ast.AST) -> float | None:
    """Return the value of a part without the argument, or None if the argument is in it."""
    match node:
        case ast.Constant(int() | float() as number):
            return number
        case ast.BinOp(left, ast.Div(), right):
            a, b = _constant(left), _constant(right)
            return None if a is None or b is None else a / b
    return None


def _infix(calls: Mapping[str, str], number: Callable[[float], str], truth: str) -> Writer:
    """Return a language with the operators of C."""

    def combine(name: str, parts: list[str]) -> str:
        if name == "neg":
            return f"(-{parts[0]})"
        if name == ">":
            return f"({parts[0]} > {parts[1]}{truth})"
        if name in ("max", "min"):
            sign = ">" if name == "max" else "<"
            return f"({parts[0]} {sign} {parts[1]} ? {parts[0]} : {parts[1]})"
        if name in calls:
            return f"{calls[name]}({', '.join(parts)})"
        return f"({f' {name} '.join(parts)})"

    return Writer(number, combine)


C: Final = _infix(
    {name: f"{'f' * (name == 'abs')}{name}f" for name in FUNCTIONS},
    lambda number: f"{np.float32(number)!s}f",
    " ? 1.0f : 0.0f",
)
JAVASCRIPT: Final = _infix({name: f"Math.{name}" for name in FUNCTIONS}, repr, " ? 1 : 0")
NUMPY: Final = Writer(
    lambda number: number,
    lambda name, parts: {
        **{f: getattr(np, f) for f in FUNCTIONS},
        "max": np.maximum,
        "min": np.minimum,
        "neg": np.negative,
        "+": np.add,
        "-": np.subtract,
        "*": np.multiply,
        "/": np.divide,
        ">": np.greater,
    }[name](*parts),
)

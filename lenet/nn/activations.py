"""Activations: pointwise functions whose derivative is computed from their own output.

Every function here is non-decreasing, so that it commutes with the maximum of max pooling, and its
derivative is a function of y = f(x) alone: only the output is kept for ``backward``. The functions
are separate classes because the fused layers apply them too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike

from lenet.arrays import Array, Shape
from lenet.nn.layer import Layer
from lenet.system.registry import lookup


class Function(ABC):
    """A pointwise function for arrays of one shape, for which it keeps its scratch memory.

    Attributes
    ----------
    expression, slope
        f(x) as a formula in x, and f′(x) as one in y = f(x), in Python's notation with numbers,
        ``+ - * / >`` and the functions of :mod:`lenet.targets.operations`. C, ONNX and the page of
        ``lenet play`` are derived from them; without them each refuses the function.
    torch, onnx
        The class of ``torch.nn`` and the operator of ONNX that compute it, if there are any.
    """

    expression: ClassVar[str] = ""
    slope: ClassVar[str] = ""
    torch: ClassVar[str] = ""
    onnx: ClassVar[str] = ""

    def __init__(self, shape: Shape, dtype: DTypeLike) -> None:
        self.shape, self.dtype = shape, dtype

    @abstractmethod
    def apply(self, x: Array, out: Array) -> None:
        """Set out to f(x); out may be x."""

    @abstractmethod
    def derive(self, y: Array, dy: Array, out: Array) -> None:
        """Set out to dy ⊙ f′(x), given y = f(x); out is neither y nor dy."""


class ReLU(Function):
    """f(x) = max(x, 0); its derivative is 1 above zero and 0 at zero and below."""

    expression, slope = "max(x, 0)", "y > 0"
    torch, onnx = "ReLU", "Relu"

    def __init__(self, shape: Shape, dtype: DTypeLike) -> None:
        super().__init__(shape, dtype)
        # The maximum of two arrays runs three times as fast as that of an array and a number.
        self.zeros = np.zeros((1, *shape[1:]), dtype)
        self.positive = np.empty(shape, np.bool_)

    def apply(self, x: Array, out: Array) -> None:
        np.maximum(x, self.zeros, out=out)

    def derive(self, y: Array, dy: Array, out: Array) -> None:
        np.greater(y, 0, out=self.positive)
        np.multiply(dy, self.positive, out=out)


class Sigmoid(Function):
    """f(x) = 1/(1 + exp(−x)) = (1 + tanh(x/2))/2, which cannot overflow; f′ = y(1 − y)."""

    expression, slope = "1 / (1 + exp(-x))", "y * (1 - y)"
    torch = onnx = "Sigmoid"

    def apply(self, x: Array, out: Array) -> None:
        np.multiply(x, 0.5, out=out)
        np.tanh(out, out=out)
        out += 1
        out *= 0.5

    def derive(self, y: Array, dy: Array, out: Array) -> None:
        np.subtract(1, y, out=out)
        out *= y
        out *= dy


class Tanh(Function):
    """f(x) = tanh(x); f′ = 1 − y²."""

    expression, slope = "tanh(x)", "1 - y * y"
    torch = onnx = "Tanh"

    def apply(self, x: Array, out: Array) -> None:
        np.tanh(x, out=out)

    def derive(self, y: Array, dy: Array, out: Array) -> None:
        np.multiply(y, y, out=out)
        np.subtract(1, out, out=out)
        out *= dy


class LeCunTanh(Function):
    """f(x) = A·tanh(Sx) with A = 1.7159 and S = 2/3; f′ = S(A − y²/A).

    Y. LeCun et al., "Gradient-Based Learning Applied to Document Recognition" (1998),
    appendix A: f(±1) = ±1, and the curvature is largest there.
    """

    A = 1.7159
    S = 2.0 / 3.0
    expression, slope = f"{A} * tanh(2 / 3 * x)", f"2 / 3 * ({A} - y * y / {A})"

    def apply(self, x: Array, out: Array) -> None:
        np.multiply(x, self.S, out=out)
        np.tanh(out, out=out)
        out *= self.A

    def derive(self, y: Array, dy: Array, out: Array) -> None:
        np.multiply(y, y, out=out)
        out *= -self.S / self.A
        out += self.S * self.A
        out *= dy


class Identity(Function):
    """f(x) = x, for a fused layer without an activation."""

    def apply(self, x: Array, out: Array) -> None:
        if out is not x:
            np.copyto(out, x)

    def derive(self, y: Array, dy: Array, out: Array) -> None:  # noqa: ARG002
        np.copyto(out, dy)


FUNCTIONS: dict[str, type[Function]] = {
    "relu": ReLU,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "lecun_tanh": LeCunTanh,
}


class Activation(Layer):
    """One of :data:`FUNCTIONS` applied to every number.

    Raises
    ------
    ConfigError
        There is no function of this name.
    """

    def __init__(self, name: str, function: str) -> None:
        super().__init__(name)
        self.function = lookup(FUNCTIONS, function, key=f"layer {name}: activation")

    def option(self, name: str) -> object:  # noqa: ARG002 - its only one
        return next(key for key, function in FUNCTIONS.items() if function is self.function)

    def build(self, shape: Shape) -> Shape:
        self.shape = shape
        return shape

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        shape = (*self.shape, N)
        self.y = self.buffer("y", shape, dtype)
        self.dx = self.buffer("dx", shape, dtype)
        self.f = self.function(shape, dtype)

    def forward(self, x: Array) -> Array:
        self.f.apply(x, out=self.y)
        return self.y

    def backward(self, dy: Array) -> Array:
        self.f.derive(self.y, dy, out=self.dx)
        return self.dx

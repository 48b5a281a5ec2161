"""What every layer is: built once, given buffers for a batch, then run forward and backward.

A layer is a function of arrays (C,H,W,N), C-contiguous, the batch innermost. Every layer file
tells its story in the same order: constructor, ``build``, ``allocate``, ``forward``, ``backward``.

* ``build`` takes the shape of one input without the batch, refuses what does not fit, declares
  the layer's parameters and returns the shape of one output.
* ``allocate`` takes the number of images and sizes every buffer, so that ``forward`` and
  ``backward`` allocate nothing.
* ``forward`` returns an array that belongs to the layer and is overwritten by the next call;
  what it was given must not change until ``backward`` has been called.
* ``backward`` takes ∂E/∂y, overwrites the gradients of the parameters (never adds to them), and
  returns ∂E/∂x, or None where :attr:`Layer.needs_dx` is False.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, NoReturn, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from lenet.nn.im2col import Array, output_size
from lenet.system.errors import ConfigError, OrderError

Shape: TypeAlias = tuple[int, ...]


@dataclass
class Parameter:
    """A trained array of a layer; the network gives it its place in the two flat vectors.

    ``fan_in`` and ``fan_out`` are the numbers of inputs and outputs that one unit is connected
    to, for the initialisation; weight decay applies to weights and not to biases (``decays``).
    """

    name: str
    shape: Shape
    fan_in: int
    fan_out: int
    decays: bool
    value: Array = field(default_factory=lambda: np.empty(0), repr=False)
    gradient: Array = field(default_factory=lambda: np.empty(0), repr=False)

    @property
    def size(self) -> int:
        """The number of trained numbers."""
        return prod(self.shape)


class Layer(ABC):
    """A step of the network with its derivative."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)

    def __init__(self, name: str) -> None:
        self.name = name
        self.parameters: tuple[Parameter, ...] = ()
        self.needs_dx = True
        self._memory: dict[str, Array] = {}

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            """Explain an attribute that ``build``, ``allocate`` or ``forward`` would have set."""
            if name.startswith("_") or "name" not in self.__dict__:
                raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
            raise OrderError(
                f"has no {name!r}, or not yet",
                remedy="call build, allocate, forward and backward in this order",
                key=f"layer {self.name}",
            )

    @abstractmethod
    def build(self, shape: Shape) -> Shape:
        """Fit the layer to inputs of ``shape`` and return the shape of its outputs.

        Raises
        ------
        ConfigError
            The input does not fit the layer; the message names it.
        """

    @abstractmethod
    def allocate(self, N: int, dtype: DTypeLike) -> None:
        """Size every buffer for batches of N images."""

    @abstractmethod
    def forward(self, x: Array) -> Array:
        """Return y = f(x)."""

    @abstractmethod
    def backward(self, dy: Array) -> Array | None:
        """Return ∂E/∂x for ∂E/∂y, and set the gradients of the parameters."""

    @property
    def patch_matrix(self) -> tuple[int, int] | None:
        """The shape (Ho·Wo, K) of one image's patch matrix, for layers that have one."""
        return None

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of the matrix product for one image."""
        return 0

    def buffer(self, name: str, shape: Shape, dtype: DTypeLike) -> Array:
        """Return zeros of ``shape`` over memory that the layer keeps under ``name``.

        A smaller batch is given a view of the memory of the larger one: the last, incomplete
        batch of an epoch costs no memory of its own.
        """
        size = prod(shape)
        memory = self._memory.get(name)
        if memory is None or memory.size < size or memory.dtype != np.dtype(dtype):
            memory = self._memory[name] = np.empty(size, dtype)
        array = memory[:size].reshape(shape)
        array.fill(0)
        return array

    def misfit(self, problem: str) -> ConfigError:
        """Return the error for an input that does not fit this layer."""
        return ConfigError(
            problem,
            key=f"layer {self.name}",
            remedy="change the input size or the model's options so that the shapes fit",
        )

    def image_shape(self, shape: Shape) -> tuple[int, int, int]:
        """Return ``shape`` as (C,H,W), or refuse it."""
        if len(shape) != 3:
            raise self.misfit(f"takes images (C,H,W), is given the shape {shape}")
        return shape[0], shape[1], shape[2]

    def output_image(self, shape: Shape, padding: tuple[int, int] = (0, 0)) -> tuple[int, int]:
        """Return (Ho, Wo) for this layer's kernel and stride, or refuse a kernel that is larger."""
        _, H, W = self.image_shape(shape)
        try:
            Ho, Wo = (
                output_size(size, k, s, p)
                for size, k, s, p in zip((H, W), self.kernel, self.stride, padding, strict=True)
            )
        except ValueError as error:
            raise self.misfit(str(error)) from None
        return Ho, Wo

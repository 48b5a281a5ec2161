"""The affine layer: every output is connected to every input.

Images (C,H,W,N) are taken as vectors (D,N) with D = C·H·W, which is a view. In the batch
derivation of LeNet-5 this is F6 and F7, with X and Z transposed (one image per row there, one per
column here):

    Z  = W · X + b      (F × D) · (D × N)      forward
    dW = dZ · Xᵀ        (F × N) · (N × D)      weight gradient
    db = dZ · 1         the plain sum over the batch: 1/N is in dZ already
    dX = Wᵀ · dZ        (D × F) · (F × N)      data gradient
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import DTypeLike

from lenet.arrays import Array, Shape
from lenet.nn.layer import Multipliers, TrainedLayer, Window


class Linear(TrainedLayer):
    """F weighted sums of all inputs, each with a bias.

    Parameters
    ----------
    name
        The name used in parameters, summaries and messages.
    units
        F, the number of outputs.
    initializer, lr_mult, decay_mult
        See :class:`~lenet.nn.layer.TrainedLayer`.
    """

    def __init__(
        self,
        name: str,
        units: int,
        *,
        initializer: str | None = None,
        lr_mult: Multipliers = 1.0,
        decay_mult: Multipliers = (1.0, 0.0),
    ) -> None:
        super().__init__(name, initializer, lr_mult, decay_mult)
        self.F = self.count("units", units)

    def build(self, shape: Shape) -> Shape:
        self.shape, self.D = shape, prod(shape)
        self.weight, self.bias = self.parameters = self.weight_and_bias(
            (self.F, self.D), (self.F,), self.D, self.F
        )
        return (self.F,)

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        self.z = self.buffer("z", (self.F, N), dtype)
        self.dx = self.buffer("dx", (self.D, N), dtype)

    def forward(self, x: Array) -> Array:
        self.x = x.reshape(self.D, -1)
        np.matmul(self.weight.value, self.x, out=self.z)  # (F × D) · (D × N)
        self.z += self.bias.value[:, None]
        return self.z

    def backward(self, dz: Array) -> Array | None:
        np.matmul(dz, self.x.T, out=self.weight.gradient)  # (F × N) · (N × D)
        np.sum(dz, axis=1, out=self.bias.gradient)
        if not self.needs_dx:
            return None
        np.matmul(self.weight.value.T, dz, out=self.dx)  # (D × F) · (F × N)
        return self.dx.reshape(*self.shape, -1)

    @property
    def units(self) -> int:
        """F, the number of outputs."""
        return self.F

    @property
    def patch_matrix(self) -> tuple[int, int]:
        return 1, self.D

    @property
    def multiply_adds(self) -> int:
        return self.F * self.D

    @property
    def connections(self) -> int:
        return self.F * (self.D + 1)

    @property
    def window(self) -> Window:
        size = (self.shape[1], self.shape[2]) if len(self.shape) == 3 else (1, 1)
        return size, (1, 1)

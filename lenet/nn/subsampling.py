"""Trainable subsampling: S2 and S4 of the first LeNet-5.

Every map has one coefficient w and one bias b; an output is w times the *sum* of its window plus b:

    y  = w · Σ x + b           s = Σ x, over the window
    dw = Σ dy · s
    db = Σ dy
    dx = w · dy                at every place of the window

S2 has 6 maps and so 12 parameters, S4 16 maps and 32; the activation is a separate layer.
Y. LeCun et al. (1998), Gradient-based learning applied to document recognition, II.B.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import DTypeLike

from lenet.arrays import Array, Pair, Shape
from lenet.nn.im2col import places
from lenet.nn.layer import Multipliers, TrainedLayer


class Subsampling(TrainedLayer):
    """The sum of every window, times a coefficient of the map, plus a bias of the map.

    Parameters
    ----------
    name
        The name used in parameters, summaries and messages.
    kernel, stride
        A number, or a pair (vertical, horizontal); the stride is the kernel unless given.
    initializer, lr_mult, decay_mult
        See :class:`~lenet.nn.layer.TrainedLayer`. The fan-in is the size of the window.
    """

    def __init__(
        self,
        name: str,
        kernel: Pair = 2,
        stride: Pair | None = None,
        *,
        initializer: str | None = None,
        lr_mult: Multipliers = 1.0,
        decay_mult: Multipliers = (1.0, 0.0),
    ) -> None:
        super().__init__(name, initializer, lr_mult, decay_mult)
        self.kernel = self.pair("kernel", kernel)
        self.stride = self.kernel if stride is None else self.pair("stride", stride)

    def option(self, name: str) -> object:
        # The stride is the kernel unless given.
        return None if name == "stride" and self.stride == self.kernel else super().option(name)

    def build(self, shape: Shape) -> Shape:
        C, _, _ = self.shape = self.image_shape(shape)
        self.Ho, self.Wo = self.output_image(shape)
        self.weight, self.bias = self.parameters = self.weight_and_bias(
            (C,), (C,), prod(self.kernel), 1
        )
        return C, self.Ho, self.Wo

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        self.y = self.buffer("y", (self.shape[0], self.Ho, self.Wo, N), dtype)
        self.dx = self.buffer("dx", (*self.shape, N), dtype)
        self.sums = self.buffer("sums", self.y.shape, dtype)
        self.share = self.buffer("share", self.y.shape, dtype)

    def forward(self, x: Array) -> Array:
        self.sums.fill(0)
        for place in places(x, self.kernel, self.stride, (self.Ho, self.Wo)):
            self.sums += place
        np.multiply(self.sums, self.weight.value[:, None, None, None], out=self.y)
        self.y += self.bias.value[:, None, None, None]
        return self.y

    def backward(self, dy: Array) -> Array | None:
        np.multiply(dy, self.sums, out=self.share)
        np.sum(self.share, axis=(1, 2, 3), out=self.weight.gradient)
        np.sum(dy, axis=(1, 2, 3), out=self.bias.gradient)
        if not self.needs_dx:
            return None
        np.multiply(dy, self.weight.value[:, None, None, None], out=self.share)
        self.dx.fill(0)
        for place in places(self.dx, self.kernel, self.stride, (self.Ho, self.Wo)):
            place += self.share
        return self.dx

    @property
    def patch_matrix(self) -> tuple[int, int]:
        return self.shape[0] * self.Ho * self.Wo, prod(self.kernel)

    @property
    def connections(self) -> int:
        return self.shape[0] * self.Ho * self.Wo * (prod(self.kernel) + 1)

"""Unpooling: layers that enlarge a pooled image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import DTypeLike

from lenet.arrays import Array, Pair, Shape
from lenet.nn.layer import Layer, Window, transposed
from lenet.nn.pooling import MaxPooling


class MaxUnpooling(Layer):
    """Put every value back where a max pooling layer found it, with zeros elsewhere."""

    def __init__(self, name: str, pooling: MaxPooling) -> None:
        super().__init__(name)
        self.pooling = pooling

    def option(self, name: str) -> object:  # noqa: ARG002 - its only one
        return self.pooling.name

    def build(self, shape: Shape) -> Shape:
        if shape != self.pooling.output_shape:
            raise self.misfit(
                f"is given {shape}, but {self.pooling.name} pools to {self.pooling.output_shape}"
            )
        self.shape = shape
        return self.pooling.shape

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        pooling = self.pooling
        self.y = self.buffer("y", (*pooling.shape, N), dtype)
        self.dx = self.buffer("dx", (*self.shape, N), dtype)
        self.share = self.buffer("share", self.dx.shape, dtype)
        self.padded = self.y
        if pooling.padded:
            self.padded = self.buffer("padded", (self.shape[0], *pooling.surrounded, N), dtype)

    def forward(self, x: Array) -> Array:
        self.padded.fill(0)
        for place, switch in zip(
            self.pooling.places(self.padded), self.pooling.switches, strict=True
        ):
            np.multiply(x, switch, out=self.share)
            place += self.share
        if self.padded is not self.y:
            np.copyto(self.y, self.padded[self.pooling.inside])
        return self.y

    def backward(self, dy: Array) -> Array:
        if self.padded is not self.y:
            np.copyto(self.padded[self.pooling.inside], dy)
            dy = self.padded
        self.dx.fill(0)
        for place, switch in zip(self.pooling.places(dy), self.pooling.switches, strict=True):
            np.multiply(place, switch, out=self.share)
            self.dx += self.share
        return self.dx

    @property
    def window(self) -> Window:
        return transposed(self.pooling.window)


class RepeatUnpooling(Layer):
    """Enlarge an image by an integer factor: every value fills its window."""

    def __init__(self, name: str, kernel: Pair = 2) -> None:
        super().__init__(name)
        self.kernel = self.pair("kernel", kernel)

    def build(self, shape: Shape) -> Shape:
        C, H, W = self.shape = self.image_shape(shape)
        return C, H * self.kernel[0], W * self.kernel[1]

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        (C, H, W), (kh, kw) = self.shape, self.kernel
        self.y = self.buffer("y", (C, H * kh, W * kw, N), dtype)
        self.dx = self.buffer("dx", (C, H, W, N), dtype)

    def forward(self, x: Array) -> Array:
        for place in self._places(self.y):
            np.copyto(place, x)
        return self.y

    def backward(self, dy: Array) -> Array:
        self.dx.fill(0)
        for place in self._places(dy):
            self.dx += place
        return self.dx

    @property
    def window(self) -> Window:
        return transposed((self.kernel, self.kernel))

    def _places(self, y: Array) -> Iterator[Array]:
        kh, kw = self.kernel
        for m in range(kh):
            for n in range(kw):
                yield y[:, m::kh, n::kw]

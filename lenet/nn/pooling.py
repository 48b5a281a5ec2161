"""Pooling: one number for every window; and unpooling, its way back.

Windows may overlap (stride below the kernel) or leave a rest at the edge that no window covers.
Both poolings walk over the kh·kw places of a window, not over the windows: each place is one large
strided view of the image.

Max pooling sends the gradient to the first maximum of a window in row order, as argmax does.
Ties are the normal case on a blank background: a mask by equality alone would count the
gradient once for every tie. The masks of the first maxima are the *switches* with which
unpooling puts the numbers back where they came from (docs/derivation.md, 9 and 12).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
from numpy.typing import DTypeLike

from lenet.nn.im2col import Array, Pair, pair
from lenet.nn.layer import Layer, Shape


class Pooling(Layer):
    """What max and average pooling share: the windows."""

    def __init__(self, name: str, kernel: Pair = 2, stride: Pair | None = None) -> None:
        super().__init__(name)
        self.kernel = pair(kernel, 1)
        self.stride = self.kernel if stride is None else pair(stride, 1)

    def build(self, shape: Shape) -> Shape:
        self.shape = self.image_shape(shape)
        self.output_shape = (self.shape[0], *self.output_image(shape))
        return self.output_shape

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        self.y = self.buffer("y", (*self.output_shape, N), dtype)
        self.dx = self.buffer("dx", (*self.shape, N), dtype)
        self.share = self.buffer("share", self.y.shape, dtype)

    def places(self, x: Array) -> Iterator[Array]:
        """Yield, for every place of the window in row order, its pixels in x: (C,Ho,Wo,N)."""
        (kh, kw), (sh, sw), (_, Ho, Wo) = self.kernel, self.stride, self.output_shape
        for m in range(kh):
            for n in range(kw):
                yield x[:, m : m + sh * Ho : sh, n : n + sw * Wo : sw]

    @property
    def patch_matrix(self) -> tuple[int, int]:
        return prod(self.output_shape), prod(self.kernel)  # every channel has windows of its own


class MaxPooling(Pooling):
    """The largest number of every window."""

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        super().allocate(N, dtype)
        kh, kw = self.kernel
        self.switches = self.buffer("switches", (kh * kw, *self.y.shape), np.bool_)
        self.taken = self.buffer("taken", self.y.shape, np.bool_)

    def forward(self, x: Array) -> Array:
        first, *others = self.places(x)
        np.copyto(self.y, first)
        for place in others:
            np.maximum(self.y, place, out=self.y)
        self.taken.fill(False)
        for place, switch in zip(self.places(x), self.switches, strict=True):
            np.equal(place, self.y, out=switch)
            np.greater(switch, self.taken, out=switch)  # a maximum, and none before it
            np.logical_or(self.taken, switch, out=self.taken)
        return self.y

    def backward(self, dy: Array) -> Array:
        self.dx.fill(0)
        for place, switch in zip(self.places(self.dx), self.switches, strict=True):
            np.multiply(dy, switch, out=self.share)
            place += self.share
        return self.dx


class AveragePooling(Pooling):
    """The mean of every window."""

    def forward(self, x: Array) -> Array:
        self.y.fill(0)
        for place in self.places(x):
            self.y += place
        self.y *= 1 / (self.kernel[0] * self.kernel[1])
        return self.y

    def backward(self, dy: Array) -> Array:
        np.multiply(dy, 1 / (self.kernel[0] * self.kernel[1]), out=self.share)
        self.dx.fill(0)
        for place in self.places(self.dx):
            place += self.share
        return self.dx


class MaxUnpooling(Layer):
    """Put every number back to where a max pooling layer found it, zeros elsewhere."""

    def __init__(self, name: str, pooling: MaxPooling) -> None:
        super().__init__(name)
        self.pooling = pooling

    def build(self, shape: Shape) -> Shape:
        if shape != self.pooling.output_shape:
            raise self.misfit(
                f"is given {shape}, but {self.pooling.name} pools to {self.pooling.output_shape}"
            )
        self.shape = shape
        return self.pooling.shape

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        self.y = self.buffer("y", (*self.pooling.shape, N), dtype)
        self.dx = self.buffer("dx", (*self.shape, N), dtype)
        self.share = self.buffer("share", self.dx.shape, dtype)

    def forward(self, x: Array) -> Array:
        self.y.fill(0)
        for place, switch in zip(self.pooling.places(self.y), self.pooling.switches, strict=True):
            np.multiply(x, switch, out=self.share)
            place += self.share
        return self.y

    def backward(self, dy: Array) -> Array:
        self.dx.fill(0)
        for place, switch in zip(self.pooling.places(dy), self.pooling.switches, strict=True):
            np.multiply(place, switch, out=self.share)
            self.dx += self.share
        return self.dx


class RepeatUnpooling(Layer):
    """Enlarge an image by a whole factor: every number fills its window."""

    def __init__(self, name: str, kernel: Pair = 2) -> None:
        super().__init__(name)
        self.factor = pair(kernel, 1)

    def build(self, shape: Shape) -> Shape:
        C, H, W = self.shape = self.image_shape(shape)
        return C, H * self.factor[0], W * self.factor[1]

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        (C, H, W), (kh, kw) = self.shape, self.factor
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

    def _places(self, y: Array) -> Iterator[Array]:
        kh, kw = self.factor
        for m in range(kh):
            for n in range(kw):
                yield y[:, m::kh, n::kw]

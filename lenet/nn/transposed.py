"""Transposed convolution ("deconvolution"): the backward pass of a convolution, run forward.

What carries a convolution's gradient from its outputs to its inputs is a layer in its own right,
and its gradient is the convolution's forward pass. With x of C channels taken as a matrix X (C ×
H·W·N) and the filters as rows of W (C × F·kh·kw):

    cols  = Wᵀ · X         (F·kh·kw × C) · (C × HWN)       forward, then col2im: y
    dW    = X  · dcolsᵀ    (C × HWN) · (HWN × F·kh·kw)     where dcols = im2col(dy)
    dX    = W  · dcols     (C × F·kh·kw) · (F·kh·kw × HWN)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from lenet.nn.im2col import Array, Pair, add_windows, pair, windows
from lenet.nn.layer import Layer, Parameter, Shape


class TransposedConvolution(Layer):
    """C filters, each painting its kh×kw kernel over F output channels.

    The output is (H − 1)·s + kh − 2p high: the size for which a convolution of the same kernel,
    stride and padding gives H.
    """

    def __init__(
        self, name: str, F: int, kernel: Pair, stride: Pair = 1, padding: Pair = 0
    ) -> None:
        super().__init__(name)
        self.F = F
        self.kernel, self.stride, self.padding = pair(kernel, 1), pair(stride, 1), pair(padding)

    def build(self, shape: Shape) -> Shape:
        C, H, W = self.shape = self.image_shape(shape)
        (kh, kw), (sh, sw), (ph, pw) = self.kernel, self.stride, self.padding
        self.full = ((H - 1) * sh + kh, (W - 1) * sw + kw)
        self.Ho, self.Wo = self.full[0] - 2 * ph, self.full[1] - 2 * pw
        if self.Ho < 1 or self.Wo < 1:
            raise self.misfit(f"padding {self.padding} leaves nothing of the output {self.full}")
        fan_in, fan_out = C, self.F * kh * kw
        self.weight = Parameter(f"{self.name}.weight", (C, self.F, kh, kw), fan_in, fan_out, True)
        self.bias = Parameter(f"{self.name}.bias", (self.F,), fan_in, fan_out, False)
        self.parameters = (self.weight, self.bias)
        return self.F, self.Ho, self.Wo

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        (C, H, W), (kh, kw), (ph, pw) = self.shape, self.kernel, self.padding
        self.painted = self.buffer("painted", (self.F, *self.full, N), dtype)
        self.dpainted = self.buffer("dpainted", self.painted.shape, dtype)
        self.inside = slice(None), slice(ph, ph + self.Ho), slice(pw, pw + self.Wo)
        self.y = self.buffer("y", (self.F, self.Ho, self.Wo, N), dtype)
        self.cols = self.buffer("cols", (self.F, kh, kw, H, W, N), dtype)
        self.dx = self.buffer("dx", (C, H, W, N), dtype)

    def forward(self, x: Array) -> Array:
        self.x = x.reshape(self.shape[0], -1)
        cols = self.cols.reshape(-1, self.x.shape[1])
        np.matmul(self._w.T, self.x, out=cols)  # (F·kh·kw × C) · (C × HWN)
        add_windows(self.cols, self.stride, out=self.painted)
        np.add(self.painted[self.inside], self.bias.value[:, None, None, None], out=self.y)
        return self.y

    def backward(self, dy: Array) -> Array | None:
        np.sum(dy.reshape(self.F, -1), axis=1, out=self.bias.gradient)
        np.copyto(self.dpainted[self.inside], dy)
        np.copyto(self.cols, windows(self.dpainted, self.kernel, self.stride))
        dcols = self.cols.reshape(-1, self.x.shape[1])
        dw = self.weight.gradient.reshape(self.shape[0], -1)
        np.matmul(self.x, dcols.T, out=dw)  # (C × HWN) · (HWN × F·kh·kw)
        if not self.needs_dx:
            return None
        dx = self.dx.reshape(self.shape[0], -1)
        np.matmul(self._w, dcols, out=dx)  # (C × F·kh·kw) · (F·kh·kw × HWN)
        return self.dx

    @property
    def _w(self) -> Array:
        return self.weight.value.reshape(self.shape[0], -1)

    @property
    def multiply_adds(self) -> int:
        C, H, W = self.shape
        return C * self.F * self.kernel[0] * self.kernel[1] * H * W

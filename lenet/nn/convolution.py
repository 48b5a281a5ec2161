"""Convolution: im2col, then one matrix product for the whole batch, as in Caffe.

With the filters as rows of W (F × K) and the patches as columns of cols (K × P), where K = C·kh·kw
and P = Ho·Wo·N, Caffe's three products are

    Z     = W  · cols       (F × K) · (K × P)      forward
    dW    = dZ · colsᵀ      (F × P) · (P × K)      weight gradient
    dcols = Wᵀ · dZ         (K × F) · (F × P)      data gradient, then col2im: dX

and db is the sum of dZ over its columns. What Caffe sums image by image (beta = 1) is one
product here. With g groups the filters of a group see only its C/g channels: the same products,
g times, on K = C/g·kh·kw rows. Where a patch is a pixel (1×1, stride 1) or the whole image, the
patch matrix *is* the input, and neither im2col nor col2im runs.

The products are cross-correlations; ``flip=True`` turns the kernel by 180° and makes them true
convolutions (docs/derivation.md, 8).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from lenet.nn.gemm import DEFAULT_BLOCK, block_count, column_blocks
from lenet.nn.im2col import Array, Pair, add_windows, pair, windows
from lenet.nn.layer import Layer, Parameter, Shape


class Convolution(Layer):
    """F filters of kh×kw over C channels, with a bias each.

    Parameters
    ----------
    name
        The name that parameters, summaries and messages carry.
    F
        The number of filters.
    kernel, stride, padding
        A number, or a pair (vertical, horizontal).
    groups
        Into how many groups channels and filters are divided; divides both.
    flip
        True convolution instead of cross-correlation.
    block
        The most multiply-adds of one matrix product (:mod:`lenet.nn.gemm`).
    """

    def __init__(
        self,
        name: str,
        F: int,
        kernel: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        groups: int = 1,
        flip: bool = False,
        block: int = DEFAULT_BLOCK,
    ) -> None:
        super().__init__(name)
        self.F, self.groups, self.flip, self.block = F, groups, flip, block
        self.kernel, self.stride, self.padding = pair(kernel, 1), pair(stride, 1), pair(padding)

    def build(self, shape: Shape) -> Shape:
        C, H, W = self.shape = self.image_shape(shape)
        if C % self.groups or self.F % self.groups:
            raise self.misfit(
                f"{self.groups} groups do not divide {C} channels and {self.F} filters"
            )
        self.Ho, self.Wo = self.output_image(shape, self.padding)
        kh, kw = self.kernel
        self.K = C // self.groups * kh * kw
        a_patch_is_a_pixel = self.kernel == self.stride == (1, 1)
        a_patch_is_the_image = self.kernel == (H, W)
        self.direct = self.padding == (0, 0) and (a_patch_is_a_pixel or a_patch_is_the_image)
        fan_out = self.F // self.groups * kh * kw
        self.weight = Parameter(
            f"{self.name}.weight", (self.F, C // self.groups, kh, kw), self.K, fan_out, True
        )
        self.bias = Parameter(f"{self.name}.bias", (self.F,), self.K, fan_out, False)
        self.parameters = (self.weight, self.bias)
        return self.F, self.Ho, self.Wo

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        (C, H, W), (kh, kw), (ph, pw), g = self.shape, self.kernel, self.padding, self.groups
        P = self.Ho * self.Wo * N
        self.z = self.buffer("z", (self.F, self.Ho, self.Wo, N), dtype)
        # A long patch matrix is cut into blocks, and its weight gradient is faster as (cols·dZᵀ)ᵀ.
        self.long = P > self.K
        self.blocks = block_count(self.F // g, self.K, P, self.block) if self.long else 1
        if self.long:
            self.dw = self.buffer("dw", (g, self.blocks, self.K, self.F // g), dtype)
        if not self.direct:
            self.cols = self.buffer("cols", (C, kh, kw, self.Ho, self.Wo, N), dtype)
        if self.padding != (0, 0):
            self.padded = self.buffer("padded", (C, H + 2 * ph, W + 2 * pw, N), dtype)
            self.inside = slice(None), slice(ph, ph + H), slice(pw, pw + W)
        if self.needs_dx:
            self.dx = self.buffer("dx", (C, H, W, N), dtype)
            self.dcols = self.dx if self.direct else self.buffer("dcols", self.cols.shape, dtype)
            self.dpadded = self.buffer("dpadded", self.padded.shape, dtype) if ph or pw else self.dx

    def forward(self, x: Array) -> Array:
        self.rows = column_blocks(self._patches(x).reshape(self.groups, self.K, -1), self.blocks)
        self.w = self._turned(self.weight.value).reshape(self.groups, 1, -1, self.K)
        np.matmul(self.w, self.rows, out=self._by_filter(self.z))  # (F × K) · (K × P)
        self.z += self.bias.value[:, None, None, None]
        return self.z

    def backward(self, dz: Array) -> Array | None:
        by_filter = self._by_filter(dz)
        if self.long:
            np.matmul(self.rows, by_filter.swapaxes(-1, -2), out=self.dw)  # (K × P) · (P × F)
            dw = self.dw.sum(axis=1).swapaxes(-1, -2).reshape(self.weight.shape)
            np.copyto(self.weight.gradient, self._turned(dw))
        else:
            dw = self.weight.gradient.reshape(self.w.shape)
            np.matmul(by_filter, self.rows.swapaxes(-1, -2), out=dw)  # (F × P) · (P × K)
            if self.flip:
                np.copyto(self.weight.gradient, self._turned(self.weight.gradient).copy())
        np.sum(dz.reshape(self.F, -1), axis=1, out=self.bias.gradient)
        if not self.needs_dx:
            return None
        dcols = column_blocks(self.dcols.reshape(self.groups, self.K, -1), self.blocks)
        np.matmul(self.w.swapaxes(-1, -2), by_filter, out=dcols)  # (K × F) · (F × P)
        if not self.direct:
            add_windows(self.dcols, self.stride, out=self.dpadded)
        if self.padding != (0, 0):
            np.copyto(self.dx, self.dpadded[self.inside])
        return self.dx

    def _patches(self, x: Array) -> Array:
        """Return the patch matrix of x, with axes that flatten to (C·kh·kw, Ho·Wo·N)."""
        if self.direct:
            return x
        if self.padding != (0, 0):
            np.copyto(self.padded[self.inside], x)
            x = self.padded
        np.copyto(self.cols, windows(x, self.kernel, self.stride))
        return self.cols

    def _by_filter(self, z: Array) -> Array:
        """View z (F,Ho,Wo,N) as blocks (g, blocks, F/g, P/blocks), the rows of the products."""
        return column_blocks(z.reshape(self.groups, self.F // self.groups, -1), self.blocks)

    def _turned(self, weight: Array) -> Array:
        """Return the kernel turned by 180° for a true convolution: rows and columns reversed."""
        return weight[:, :, ::-1, ::-1] if self.flip else weight

    @property
    def patch_matrix(self) -> tuple[int, int]:
        return self.Ho * self.Wo, self.K * self.groups

    @property
    def multiply_adds(self) -> int:
        return self.F * self.K * self.Ho * self.Wo

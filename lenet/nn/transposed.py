"""Transposed convolution ("deconvolution"): the backward pass of a convolution, run forward.

The step that carries a convolution's gradient from its outputs to its inputs, as a layer; its
gradient is the convolution's forward pass. With x of C channels taken as a matrix X (C ×
H·W·N) and the filters as rows of W (C × F·kh·kw):

    cols  = Wᵀ · X         (F·kh·kw × C) · (C × HWN)       forward, then col2im: y
    dW    = X  · dcolsᵀ    (C × HWN) · (HWN × F·kh·kw)     where dcols = im2col(dy)
    dX    = W  · dcols     (C × F·kh·kw) · (F·kh·kw × HWN)

With g groups these are g products each, of C/g channels and F/g filters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from lenet.arrays import Array, Padding, Pair, Shape, shortest
from lenet.nn.im2col import add_windows, extent, windows
from lenet.nn.layer import Multipliers, TrainedLayer, Window, transposed


class TransposedConvolution(TrainedLayer):
    """C filters, each adding its kh×kw kernel to F output channels.

    The output is (H − 1)·s + d·(kh − 1) + 1 + o − 2p high, with output padding o: the size for
    which a convolution of the same kernel, stride, dilation and padding gives H.

    Parameters
    ----------
    name
        The name used in parameters, summaries and messages.
    filters
        The number of output channels.
    kernel, stride, dilation
        A number, or a pair (vertical, horizontal).
    padding
        Cut off the edges of the output: a number, a pair (vertical, horizontal), or four numbers
        (top, left, bottom, right).
    output_padding
        Rows below and columns to the right that are added to the output before the cut: fewer
        than the stride or the dilation. Of the sizes that a strided convolution maps to the same
        H it chooses one.
    groups
        Into how many groups channels and filters are divided; divides both.
    initializer, lr_mult, decay_mult
        See :class:`~lenet.nn.layer.TrainedLayer`.
    """

    def __init__(
        self,
        name: str,
        filters: int,
        kernel: Pair,
        stride: Pair = 1,
        padding: Padding = 0,
        *,
        output_padding: Pair = 0,
        groups: int = 1,
        dilation: Pair = 1,
        initializer: str | None = None,
        lr_mult: Multipliers = 1.0,
        decay_mult: Multipliers = (1.0, 0.0),
    ) -> None:
        super().__init__(name, initializer, lr_mult, decay_mult)
        self.F, self.groups = self.count("filters", filters), self.count("groups", groups)
        self.kernel, self.stride = self.pair("kernel", kernel), self.pair("stride", stride)
        self.dilation, self.edges = self.pair("dilation", dilation), self.padding_edges(padding)
        self.output_padding = self.pair("output_padding", output_padding, least=0)
        limits = map(max, self.stride, self.dilation)
        if any(o >= limit for o, limit in zip(self.output_padding, limits, strict=True)):
            raise self.wrong_option(
                "output_padding",
                f"is {self.output_padding} at stride {self.stride} and dilation {self.dilation}",
                "give less than the stride or the dilation",
            )

    def build(self, shape: Shape) -> Shape:
        C, H, W = self.shape = self.image_shape(shape)
        if C % self.groups or self.F % self.groups:
            raise self.misfit(
                f"{self.groups} groups do not divide {C} channels and {self.F} filters"
            )
        (kh, kw), (sh, sw), (oh, ow) = self.kernel, self.stride, self.output_padding
        (eh, ew), (top, left, bottom, right) = extent(self.kernel, self.dilation), self.edges
        self.reached = ((H - 1) * sh + eh, (W - 1) * sw + ew)
        self.full = (self.reached[0] + oh, self.reached[1] + ow)
        self.Ho, self.Wo = self.full[0] - top - bottom, self.full[1] - left - right
        if self.Ho < 1 or self.Wo < 1:
            raise self.misfit(f"padding {self.padding} leaves nothing of the output {self.full}")
        filters = self.F // self.groups
        self.weight, self.bias = self.parameters = self.weight_and_bias(
            (C, filters, kh, kw), (self.F,), C // self.groups, filters * kh * kw
        )
        return self.F, self.Ho, self.Wo

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        (C, H, W), (kh, kw), (top, left, *_) = self.shape, self.kernel, self.edges
        self.painted = self.buffer("painted", (self.F, *self.full, N), dtype)
        self.dpainted = self.buffer("dpainted", self.painted.shape, dtype)
        self.inside = slice(None), slice(top, top + self.Ho), slice(left, left + self.Wo)
        self.y = self.buffer("y", (self.F, self.Ho, self.Wo, N), dtype)
        self.cols = self.buffer("cols", (self.F, kh, kw, H, W, N), dtype)
        self.dx = self.buffer("dx", (C, H, W, N), dtype)

    def forward(self, x: Array) -> Array:
        self.x = self._by_group(x)
        cols = self._by_group(self.cols)
        np.matmul(self._w.swapaxes(1, 2), self.x, out=cols)  # (F·kh·kw × C) · (C × HWN)
        add_windows(self.cols, self.stride, self.painted, self.dilation)
        np.add(self.painted[self.inside], self.bias.value[:, None, None, None], out=self.y)
        return self.y

    def backward(self, dy: Array) -> Array | None:
        np.sum(dy.reshape(self.F, -1), axis=1, out=self.bias.gradient)
        np.copyto(self.dpainted[self.inside], dy)
        reached = self.dpainted[:, : self.reached[0], : self.reached[1]]
        np.copyto(self.cols, windows(reached, self.kernel, self.stride, self.dilation))
        dcols = self._by_group(self.cols)
        dw = self.weight.gradient.reshape(self._w.shape)
        np.matmul(self.x, dcols.swapaxes(1, 2), out=dw)  # (C × HWN) · (HWN × F·kh·kw)
        if not self.needs_dx:
            return None
        np.matmul(self._w, dcols, out=self._by_group(self.dx))  # (C × F·kh·kw) · (F·kh·kw × HWN)
        return self.dx

    def _by_group(self, x: Array) -> Array:
        """View x, of C channels or F·kh·kw rows, as matrices (g, rows/g, H·W·N)."""
        _, H, W = self.shape
        return x.reshape(self.groups, -1, H * W * x.shape[-1])

    @property
    def _w(self) -> Array:
        return self.weight.value.reshape(self.groups, self.shape[0] // self.groups, -1)

    @property
    def filters(self) -> int:
        """F, the number of filters."""
        return self.F

    @property
    def padding(self) -> tuple[int, ...]:
        """Vertical and horizontal padding; (top, left, bottom, right) where sides differ."""
        return shortest(self.edges)

    @property
    def multiply_adds(self) -> int:
        C, H, W = self.shape
        return C * (self.F // self.groups) * self.kernel[0] * self.kernel[1] * H * W

    @property
    def window(self) -> Window:
        return transposed(super().window)

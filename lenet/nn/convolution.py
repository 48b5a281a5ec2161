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

With a table of connections the missing ones are zeros in W, and only the others are parameters.

The products are cross-correlations; ``flip=True`` turns the kernel by 180° and makes them true
convolutions (docs/derivation.md, 8).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lenet.arrays import Array, Padding, Pair, Shape, shortest
from lenet.nn.gemm import DEFAULT_BLOCK, block_count, column_blocks
from lenet.nn.im2col import add_windows, extent, windows
from lenet.nn.initializers import Fan
from lenet.nn.layer import Multipliers, TrainedLayer

Table: TypeAlias = Sequence[Sequence[int]]


class Convolution(TrainedLayer):
    """F filters of kh×kw over C channels, with a bias each.

    Parameters
    ----------
    name
        The name used in parameters, summaries and messages.
    filters
        F, the number of filters.
    kernel, stride, dilation
        A number, or a pair (vertical, horizontal). With a dilation d the kernel's pixels are d
        apart on the image, and it covers d·(k − 1) + 1.
    padding
        Zeros around the image: a number, a pair (vertical, horizontal), or four numbers (top,
        left, bottom, right).
    groups
        Into how many groups channels and filters are divided; divides both.
    table
        For every filter, the list of the channels that it is connected to, counted from 0; None
        connects all with all. Only these have weights. C3 of the first LeNet-5 has such a table
        (Y. LeCun et al. (1998), table I).
    flip
        True convolution instead of cross-correlation.
    block
        The maximum number of multiply-adds in one matrix product (:mod:`lenet.nn.gemm`).
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
        groups: int = 1,
        flip: bool = False,
        block: int = DEFAULT_BLOCK,
        *,
        dilation: Pair = 1,
        table: Table | None = None,
        initializer: str | None = None,
        lr_mult: Multipliers = 1.0,
        decay_mult: Multipliers = (1.0, 0.0),
    ) -> None:
        super().__init__(name, initializer, lr_mult, decay_mult)
        self.F, self.groups = self.count("filters", filters), self.count("groups", groups)
        self.flip, self.block, self.table = flip, block, table
        self.kernel, self.stride = self.pair("kernel", kernel), self.pair("stride", stride)
        self.dilation, self.edges = self.pair("dilation", dilation), self.padding_edges(padding)

    def build(self, shape: Shape) -> Shape:
        C, H, W = self.shape = self.image_shape(shape)
        if C % self.groups or self.F % self.groups:
            raise self.misfit(
                f"{self.groups} groups do not divide {C} channels and {self.F} filters"
            )
        self.Ho, self.Wo = self.output_image(shape, self.edges)
        kh, kw = self.kernel
        self.K = C // self.groups * kh * kw
        a_patch_is_a_pixel = self.kernel == self.stride == (1, 1)
        a_patch_is_the_image = self.kernel == (H, W) == extent(self.kernel, self.dilation)
        self.direct = not any(self.edges) and (a_patch_is_a_pixel or a_patch_is_the_image)
        weight: Shape = (self.F, C // self.groups, kh, kw)
        fan_in: Fan = self.K
        fan_out: Fan = self.F // self.groups * kh * kw
        if self.table is not None:
            filters, maps = self.connected = self._connected(self.table)
            weight = (len(maps), kh, kw)
            fan_in = np.bincount(filters)[filters, None, None] * kh * kw
            fan_out = np.bincount(maps)[maps, None, None] * kh * kw
        self.weight, self.bias = self.parameters = self.weight_and_bias(
            weight, (self.F,), fan_in, fan_out
        )
        return self.F, self.Ho, self.Wo

    def _connected(self, table: Table) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return filter and channel of every connection of the table, in its order."""
        C = self.shape[0]
        if self.groups > 1:
            raise self.wrong_option("table", "excludes groups", "give one or the other")
        if not isinstance(table, list | tuple):
            problem = f"must be a list, is {table!r}"
            raise self.wrong_option("table", problem, "give the channels of every filter")
        if len(table) != self.F:
            problem = f"has {len(table)} rows for {self.F} filters"
            raise self.wrong_option("table", problem, "give the channels of every filter")
        for f, maps in enumerate(table):
            known = isinstance(maps, list | tuple) and all(
                isinstance(c, int | np.integer) and 0 <= c < C for c in maps
            )
            if not known or not maps or len(set(maps)) < len(maps):
                problem = f"filter {f} has {maps!r}"
                remedy = f"give one or more different channels from 0 to {C - 1}"
                raise self.wrong_option("table", problem, remedy)
        pairs = [(f, c) for f, maps in enumerate(table) for c in maps]
        filters, channels = np.array(pairs, np.intp).T
        return filters, channels

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        (C, H, W), (kh, kw), g = self.shape, self.kernel, self.groups
        top, left, bottom, right = self.edges
        P = self.Ho * self.Wo * N
        self.z = self.buffer("z", (self.F, self.Ho, self.Wo, N), dtype)
        # A long patch matrix is cut into blocks, and its weight gradient is faster as (cols·dZᵀ)ᵀ.
        self.long = P > self.K
        self.blocks = block_count(self.F // g, self.K, P, self.block) if self.long else 1
        if self.long:
            self.dw = self.buffer("dw", (g, self.blocks, self.K, self.F // g), dtype)
        if not self.direct:
            self.cols = self.buffer("cols", (C, kh, kw, self.Ho, self.Wo, N), dtype)
        if any(self.edges):
            padded = (C, H + top + bottom, W + left + right, N)
            self.padded = self.buffer("padded", padded, dtype)
            self.inside = slice(None), slice(top, top + H), slice(left, left + W)
        if self.needs_dx:
            self.dx = self.buffer("dx", (C, H, W, N), dtype)
            self.dcols = self.dx if self.direct else self.buffer("dcols", self.cols.shape, dtype)
            self.dpadded = self.buffer("dpadded", padded, dtype) if any(self.edges) else self.dx
        if self.table is not None:
            self.all_to_all = self.buffer("all to all", (self.F, C, kh, kw), dtype)
            self.dall_to_all = self.buffer("dall to all", self.all_to_all.shape, dtype)

    def forward(self, x: Array) -> Array:
        self.rows = column_blocks(self._patches(x).reshape(self.groups, self.K, -1), self.blocks)
        self.w = self._turned(self._dense_kernels()).reshape(self.groups, 1, -1, self.K)
        np.matmul(self.w, self.rows, out=self._by_filter(self.z))  # (F × K) · (K × P)
        self.z += self.bias.value[:, None, None, None]
        return self.z

    def backward(self, dz: Array) -> Array | None:
        by_filter = self._by_filter(dz)
        gradient = self.weight.gradient if self.table is None else self.dall_to_all
        if self.long:
            np.matmul(self.rows, by_filter.swapaxes(-1, -2), out=self.dw)  # (K × P) · (P × F)
            dw = self.dw.sum(axis=1).swapaxes(-1, -2).reshape(gradient.shape)
            np.copyto(gradient, self._turned(dw))
        else:
            dw = gradient.reshape(self.w.shape)
            np.matmul(by_filter, self.rows.swapaxes(-1, -2), out=dw)  # (F × P) · (P × K)
            if self.flip:
                np.copyto(gradient, self._turned(gradient).copy())
        if self.table is not None:
            np.copyto(self.weight.gradient, gradient[self.connected])
        np.sum(dz.reshape(self.F, -1), axis=1, out=self.bias.gradient)
        if not self.needs_dx:
            return None
        dcols = column_blocks(self.dcols.reshape(self.groups, self.K, -1), self.blocks)
        np.matmul(self.w.swapaxes(-1, -2), by_filter, out=dcols)  # (K × F) · (F × P)
        if not self.direct:
            add_windows(self.dcols, self.stride, self.dpadded, self.dilation)
        if any(self.edges):
            np.copyto(self.dx, self.dpadded[self.inside])
        return self.dx

    def _patches(self, x: Array) -> Array:
        """Return the patch matrix of x, with axes that flatten to (C·kh·kw, Ho·Wo·N)."""
        if self.direct:
            return x
        if any(self.edges):
            np.copyto(self.padded[self.inside], x)
            x = self.padded
        np.copyto(self.cols, windows(x, self.kernel, self.stride, self.dilation))
        return self.cols

    def _dense_kernels(self) -> Array:
        """Return :attr:`kernels` without allocating."""
        if self.table is None:
            return self.weight.value
        self.all_to_all[self.connected] = self.weight.value
        return self.all_to_all

    def _by_filter(self, z: Array) -> Array:
        """View z (F,Ho,Wo,N) as blocks (g, blocks, F/g, P/blocks), the rows of the products."""
        return column_blocks(z.reshape(self.groups, self.F // self.groups, -1), self.blocks)

    def _turned(self, weight: Array) -> Array:
        """Return the kernel turned by 180° for a true convolution: rows and columns reversed."""
        return weight[:, :, ::-1, ::-1] if self.flip else weight

    @property
    def kernels(self) -> Array:
        """The weights (F, C/groups, kh, kw), with zeros where the table connects nothing."""
        if self.table is None:
            return self.weight.value
        kernels = np.zeros((self.F, self.shape[0], *self.kernel), self.weight.value.dtype)
        kernels[self.connected] = self.weight.value
        return kernels

    @property
    def multiplied(self) -> Array:
        """The weights as they are multiplied with patches: :attr:`kernels`, turned if ``flip``."""
        return self._turned(self.kernels)

    @property
    def filters(self) -> int:
        """F, the number of filters."""
        return self.F

    @property
    def padding(self) -> tuple[int, ...]:
        """Vertical and horizontal padding; (top, left, bottom, right) where sides differ."""
        return shortest(self.edges)

    @property
    def patch_matrix(self) -> tuple[int, int]:
        return self.Ho * self.Wo, self.K * self.groups

    @property
    def multiply_adds(self) -> int:
        return self.F * self.K * self.Ho * self.Wo

    @property
    def connections(self) -> int:
        return (self.weight.size + self.F) * self.Ho * self.Wo

"""Convolution, activation and 2×2 max pooling in one layer: the same numbers, in half the time.

Layers floor. The three layers stay the reference that the tests compare with; a pass over the
layer list (:func:`fuse`) puts this one in their place. Parameters, names and results, to
rounding, are theirs. Three observations make it fast.

**Pooling is a maximum of four large arrays** if the outputs are sorted by their place (a,b) in
the pooling window, a,b ∈ {0,1}. A convolution computes its outputs in any order it likes: its
patch matrix's columns are sorted, and z comes out as four blocks

    z[a,b] = W · cols[a,b]       (F × K) · (K × HpWpN)

each in runs of thousands of numbers. Bias and activation, being non-decreasing, come after the
maximum, on a quarter of the numbers.

**The patch matrix is a window that slides over a matrix kw times as large as the image.**
Unfolded along its width only, a row h of the image is a matrix of kw·C rows. The patches of the
output row i are the kh such matrices from h = i on, one below the other. They lie one behind the
other in memory: the patch matrix is a view, and a factor of kh in copying is gone.

**The adjoint slides too.** What reaches the unfolded row h comes from the kh output rows
i = h − m, one below the other in memory as well, so that the sum over m is inside the product:

    dunfolded[h] = [W_m]ᵀ · [dz[h − m]]      (kw·C × kh·F) · (kh·F × WpN)

and col2im is left with the width alone: kw additions where there were kh·kw.

The multiplications are those of the plain convolution. Placing the kernel at the four offsets in
a (kh+1)×(kw+1) kernel of zeros gives the four blocks in one product of a smaller patch matrix,
but costs 36/25 of the multiplications; docs/benchmarks.md compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import DTypeLike

from lenet.gemm import block_count, column_blocks
from lenet.im2col import Array
from lenet.layers.activations import Activation
from lenet.layers.base import Layer, Shape
from lenet.layers.conv import Convolution
from lenet.layers.pooling import MaxPooling


class FusedConvolution(Layer):
    """A convolution of stride 1, its activation and its 2×2 max pooling.

    An odd last row or column of the convolution, which no pooling window covers, is not computed.
    """

    def __init__(self, conv: Convolution, activation: Activation, pooling: MaxPooling) -> None:
        super().__init__(conv.name)
        self.conv, self.activation, self.pooling = conv, activation, pooling

    def build(self, shape: Shape) -> Shape:
        self.shape = self.image_shape(shape)
        _, self.Hp, self.Wp = self.output_shape = self.pooling.image_shape(
            self.pooling.build(self.conv.build(shape))
        )
        self.parameters = self.conv.parameters
        self.F, self.K = self.conv.F, self.conv.K
        self.H = 2 * self.Hp + self.conv.kernel[0] - 1  # the rows of the image that are used
        return self.output_shape

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        (C, _, _), (kh, kw), F, Hp, Wp = self.shape, self.conv.kernel, self.F, self.Hp, self.Wp
        P = Wp * N
        # Columns are split into even and odd: [b] is the parity of the output's columns.
        half = (2 * Wp + kw) // 2
        self.halves = self.buffer("halves", (2, self.H, C, half, N), dtype)
        self.unfolded = self.buffer("unfolded", (2, self.H, kw, C, Wp, N), dtype)
        self.z = self.buffer("z", (2, Hp, 2, F, P), dtype)
        self.top, self.left, self.left_below = (
            self.buffer(name, (Hp, F, P), np.bool_) for name in ("top", "left", "left below")
        )
        self.upper, self.lower = (self.buffer(s, (Hp, F, P), dtype) for s in ("upper", "lower"))
        self.y = self.buffer("y", (F, Hp, Wp, N), dtype)
        self.f = self.activation.function(self.y.shape, dtype)
        self.g = self.buffer("g", (Hp, F, P), dtype)
        self.w = self.buffer("w", (F, kh, kw, C), dtype)
        self.blocks = block_count(F, self.K, P, self.conv.block)
        self.dw = self.buffer("dw", (2, 2 * Hp, self.blocks, self.K, F), dtype)
        # With sixteen filters and more, a product with dzᵀ written out is faster than with a view.
        self.dz_t = self.buffer("dz_t", (2, 2 * Hp, P, F), dtype) if F >= 16 else None
        self.cols = column_blocks(_slide(self.unfolded.reshape(2, self.H, -1, P), kh), self.blocks)
        self.halves_of_x = self._halves_of_x()
        if self.needs_dx:
            self.dhalves = self.buffer("dhalves", self.halves.shape, dtype)
            self.dunfolded = self.buffer("dunfolded", self.unfolded.shape, dtype)
            self.w_t = self.buffer("w_t", (kw, C, kh, F), dtype)
            self.dx = self.buffer("dx", (*self.shape, N), dtype)

    def forward(self, x: Array) -> Array:
        for here, there in self.halves_of_x:
            np.copyto(self.halves[here], x[there].swapaxes(0, 1))
        for part, place in self._places(self.halves, self.unfolded):
            np.copyto(place, part)
        np.copyto(self.w, self.conv.weight.value.transpose(0, 2, 3, 1))
        rows = self.z.reshape(2, -1, self.F, self.z.shape[-1])
        w = self.w.reshape(self.F, -1)
        np.matmul(w, self.cols, out=column_blocks(rows, self.blocks))  # (F × K) · (K × WpN)
        return self._pool()

    def backward(self, dy: Array) -> Array | None:
        dz = self._unpool(dy)
        if self.dz_t is None:
            dz_t = dz.swapaxes(-1, -2)
        else:
            dz_t = self.dz_t
            np.copyto(dz_t, dz.swapaxes(-1, -2))
        blocks_of_dz_t = dz_t.reshape(2, dz.shape[1], self.blocks, -1, self.F)
        np.matmul(self.cols, blocks_of_dz_t, out=self.dw)  # (K × WpN) · (WpN × F)
        dw = self.dw.sum(axis=(0, 1, 2)).reshape(*self.w.shape[1:], self.F)
        np.copyto(self.conv.weight.gradient, dw.transpose(3, 2, 0, 1))
        if not self.needs_dx:
            return None
        self._slide_back(dz)
        self.dhalves.fill(0)
        for part, place in self._places(self.dhalves, self.dunfolded):
            part += place
        for here, there in self.halves_of_x:
            np.copyto(self.dx[there], self.dhalves[here].swapaxes(0, 1))
        return self.dx

    def _pool(self) -> Array:
        """Return y = f(max z + b), and remember where the first maxima are."""
        (upper_left, lower_left), (upper_right, lower_right) = self.z.transpose(0, 2, 1, 3, 4)
        np.greater_equal(upper_left, upper_right, out=self.left)
        np.maximum(upper_left, upper_right, out=self.upper)
        np.greater_equal(lower_left, lower_right, out=self.left_below)
        np.maximum(lower_left, lower_right, out=self.lower)
        np.greater_equal(self.upper, self.lower, out=self.top)
        np.maximum(self.upper, self.lower, out=self.upper)
        pooled = self.upper.swapaxes(0, 1).reshape(self.y.shape)
        np.add(pooled, self.conv.bias.value[:, None, None, None], out=self.y)
        self.f.apply(self.y, out=self.y)
        return self.y

    def _unpool(self, dy: Array) -> Array:
        """Return dz, sorted as z is, whose memory it takes: all of dy at the first maxima."""
        g = self.g
        self.f.derive(self.y, dy, out=g.reshape(self.Hp, self.F, self.Wp, -1).swapaxes(0, 1))
        (upper_left, lower_left), (upper_right, lower_right) = self.z.transpose(0, 2, 1, 3, 4)
        np.sum(g, axis=(0, 2), out=self.conv.bias.gradient)
        np.multiply(g, self.top, out=self.upper)
        np.subtract(g, self.upper, out=self.lower)
        np.multiply(self.upper, self.left, out=upper_left)
        np.subtract(self.upper, upper_left, out=upper_right)
        np.multiply(self.lower, self.left_below, out=lower_left)
        np.subtract(self.lower, lower_left, out=lower_right)
        return self.z.reshape(2, -1, self.F, g.shape[-1])

    def _slide_back(self, dz: Array) -> None:
        """Set dunfolded: to every unfolded row, from the up to kh output rows that read it."""
        kh, F, rows = self.conv.kernel[0], self.F, dz.shape[1]
        # Rows i = h − m in ascending order are m in descending order.
        np.copyto(self.w_t, self.conv.weight.value[:, :, ::-1].transpose(3, 1, 2, 0))
        w_t = self.w_t.reshape(-1, kh * F)
        dz = dz.reshape(2, rows * F, -1)
        out = self.dunfolded.reshape(2, self.H, w_t.shape[0], -1)
        for h in range(self.H):
            first, last = max(0, h - kh + 1), min(rows - 1, h)
            skipped = kh - 1 - (h - first)
            some = w_t[:, skipped * F : (skipped + last - first + 1) * F]
            np.matmul(some, dz[:, first * F : (last + 1) * F], out=out[:, h])

    def _halves_of_x(self) -> list[tuple[tuple[object, ...], tuple[object, ...]]]:
        """Return for even and odd columns: where they stand in ``halves``, and where in x."""
        (_, H, W), (ph, pw), half = self.shape, self.conv.padding, self.halves.shape[3]
        rows = min(H, self.H - ph)
        pairs: list[tuple[tuple[object, ...], tuple[object, ...]]] = []
        for parity in (0, 1):
            first = (parity - pw) % 2
            start = (first + pw) // 2
            count = min(half - start, -(-(W - first) // 2))
            here = parity, slice(ph, ph + rows), slice(None), slice(start, start + count)
            there = slice(None), slice(rows), slice(first, first + 2 * count - 1, 2)
            pairs.append((here, there))
        return pairs

    def _places(self, halves: Array, unfolded: Array) -> list[tuple[Array, Array]]:
        """Return for every place n of the kernel and parity b: its columns in both arrays."""
        return [
            (halves[(n + b) % 2, :, :, (n + b) // 2 : (n + b) // 2 + self.Wp], unfolded[b, :, n])
            for b in (0, 1)
            for n in range(self.conv.kernel[1])
        ]


def _slide(rows: Array, height: int) -> Array:
    """View rows (2,H,M,P) as every ``height`` of them, one below the other: (2,Ho,height·M,P)."""
    two, H, M, P = rows.shape
    return as_strided(
        rows, (two, H - height + 1, height * M, P), rows.strides, writeable=False
    )  # fmt: skip


def fuse(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers with every fusable run of three replaced by one layer.

    A convolution of stride 1 without groups, then an activation, then 2×2 max pooling at stride
    2. Everything else is left as it is.
    """
    fused: list[Layer] = []
    for layer in layers:
        fused.append(layer)
        match fused[-3:]:
            case [Convolution() as conv, Activation() as activation, MaxPooling() as pooling] if (
                conv.stride == (1, 1)
                and conv.groups == 1
                and not conv.flip
                and pooling.kernel == pooling.stride == (2, 2)
            ):
                fused[-3:] = [FusedConvolution(conv, activation, pooling)]
    return fused

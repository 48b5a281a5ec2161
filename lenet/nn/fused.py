"""Convolution and 2×2 pooling in one layer: the same numbers, in half the time.

The plain layers stay the reference that the tests compare with; a pass over the layer list
(:func:`fuse`) puts these in their place. Parameters, names and results, to rounding, are theirs.
Three observations make convolution, activation and pooling fast.

**Pooling is a maximum, or a mean, of four large arrays** if the outputs are sorted by their place
(a,b) in the pooling window, a,b ∈ {0,1}. A convolution can compute its outputs in any order: its
patch matrix's columns are sorted, and z comes out as four blocks

    z[a,b] = W · cols[a,b]       (F × K) · (K × HpWpN)

each in runs of thousands of numbers. Bias and activation, being non-decreasing, come after a
maximum, on a quarter of the numbers; before a mean, on all.

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

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import DTypeLike

from lenet.arrays import Array, Shape
from lenet.nn.activations import Activation, Identity
from lenet.nn.convolution import Convolution
from lenet.nn.gemm import block_count, column_blocks
from lenet.nn.layer import Layer
from lenet.nn.pooling import AveragePooling, MaxPooling, Pooling
from lenet.nn.unpooling import MaxUnpooling

Place: TypeAlias = tuple[int | slice, ...]


class FusedConvolution(Layer):
    """A convolution of stride 1, its activation and its 2×2 pooling, of either kind.

    An odd last row or column of the convolution, which no pooling window covers, is not computed.
    """

    def __init__(self, conv: Convolution, activation: Activation | None, pooling: Pooling) -> None:
        super().__init__(conv.name)
        self.conv, self.activation, self.pooling = conv, activation, pooling
        self.function = activation.function if activation else Identity

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
        (C, H, W), (kh, kw), F, Hp, Wp = self.shape, self.conv.kernel, self.F, self.Hp, self.Wp
        P, rows = Wp * N, 2 * Hp
        self.y = self.buffer("y", (F, Hp, Wp, N), dtype)
        # [b] is the parity of a column: even and odd columns are apart in all that follows.
        self.halves = self.buffer("halves", (2, self.H, C, Wp + kw // 2, N), dtype)
        self.unfolded = self.buffer("unfolded", (2, self.H, kw, C, Wp, N), dtype)
        self.z = self.buffer("z", (2, Hp, 2, F, P), dtype)
        self.w = self.buffer("w", (F, kh, kw, C), dtype)
        blocks = block_count(F, self.K, P, self.conv.block)
        # Every block has its sum dW, K × F, which should be small beside its patches.
        dw_blocks = block_count(F, self.K, P, self.conv.block, least=4 * F)
        self.dw = self.buffer("dw", (2 * rows * dw_blocks, kh, kw, C, F), dtype)
        self.dw_blocks = self.dw.reshape(2, rows, dw_blocks, self.K, F)

        # All views are made here, once: making one takes as long as a small product.
        self.parts_of_x = self._parts_of_x()
        self.copies = self._shifts(self.halves, self.unfolded)
        cols = _slide(self.unfolded.reshape(2, self.H, -1, P), kh)
        self.cols, self.dw_cols = (column_blocks(cols, count) for count in (blocks, dw_blocks))
        self.z_blocks = column_blocks(self.z.reshape(2, rows, F, P), blocks)
        self._allocate_pooling(N, dtype)
        self.dz = self.z.reshape(2, rows, F, P).swapaxes(-1, -2)
        # With many filters and large patches, a product with dzᵀ written out is faster than with a
        # view of it.
        written = F >= 16 and self.K >= 64
        self.dz_t = self.buffer("dz_t", self.dz.shape, dtype) if written else self.dz
        self.dz_t_blocks = self.dz_t.reshape(2, rows, dw_blocks, -1, F)
        if self.needs_dx:
            self.dhalves = self.buffer("dhalves", self.halves.shape, dtype)
            self.dunfolded = self.buffer("dunfolded", self.unfolded.shape, dtype)
            self.additions = self._shifts(self.dhalves, self.dunfolded)
            self.w_t = self.buffer("w_t", (kw, C, kh, F), dtype)
            self.slides = self._slides()
            self.dx = self.buffer("dx", (C, H, W, N), dtype)

    def forward(self, x: Array) -> Array:
        for here, there in self.parts_of_x:
            np.copyto(self.halves[here], x[there].swapaxes(0, 1))
        for half, unfolded in self.copies:
            np.copyto(unfolded, half)
        np.copyto(self.w, self.conv.weight.value.transpose(0, 2, 3, 1))
        w = self.w.reshape(self.F, self.K)
        np.matmul(w, self.cols, out=self.z_blocks)  # (F × K) · (K × WpN)
        return self._pool()

    def backward(self, dy: Array) -> Array | None:
        self._unpool(dy)
        if self.dz_t is not self.dz:
            np.copyto(self.dz_t, self.dz)
        np.matmul(self.dw_cols, self.dz_t_blocks, out=self.dw_blocks)  # (K × WpN) · (WpN × F)
        np.copyto(self.conv.weight.gradient, self.dw.sum(axis=0).transpose(3, 2, 0, 1))
        if not self.needs_dx:
            return None
        # Rows i = h − m in ascending order are m in descending order.
        np.copyto(self.w_t, self.conv.weight.value[:, :, ::-1].transpose(3, 1, 2, 0))
        for w_t, dz, dunfolded in self.slides:
            np.matmul(w_t, dz, out=dunfolded)  # (kw·C × kh·F) · (kh·F × WpN)
        self.dhalves[:, :, :, self.Wp :].fill(0)
        for dhalf, dunfolded in self.additions[:2]:  # the first columns of even and odd
            np.copyto(dhalf, dunfolded)
        for dhalf, dunfolded in self.additions[2:]:
            dhalf += dunfolded
        for here, there in self.parts_of_x:
            np.copyto(self.dx[there], self.dhalves[here].swapaxes(0, 1))
        return self.dx

    @abstractmethod
    def _allocate_pooling(self, N: int, dtype: DTypeLike) -> None:
        """Allocate what ``_pool`` and ``_unpool`` work on, once y and z are allocated."""

    @abstractmethod
    def _pool(self) -> Array:
        """Return y, given z = W · cols without its bias."""

    @abstractmethod
    def _unpool(self, dy: Array) -> None:
        """Set z to ∂E/∂z and the bias's gradient, given ∂E/∂y."""

    @property
    def parts(self) -> tuple[Layer, ...]:
        return tuple(filter(None, (self.conv, self.activation, self.pooling)))

    @property
    def patch_matrix(self) -> tuple[int, int]:
        return self.conv.patch_matrix

    @property
    def multiply_adds(self) -> int:
        return self.conv.multiply_adds

    def _parts_of_x(self) -> list[tuple[Place, Place]]:
        """Return for even and odd columns: where they stand in ``halves``, and where in x."""
        (_, H, W), (ph, pw, *_), half = self.shape, self.conv.edges, self.halves.shape[3]
        rows = min(H, self.H - ph)
        parts: list[tuple[Place, Place]] = []
        for parity in (0, 1):
            first = (parity + pw) % 2  # column of x, whose number in the padded image is + pw
            start = (first + pw) // 2
            count = min(half - start, -(-(W - first) // 2))
            here = parity, slice(ph, ph + rows), slice(None), slice(start, start + count)
            there = slice(None), slice(rows), slice(first, first + 2 * count - 1, 2)
            parts.append((here, there))
        return parts

    def _shifts(self, halves: Array, unfolded: Array) -> list[tuple[Array, Array]]:
        """Return for every parity b and place n of the kernel: its columns in both arrays."""
        return [
            (halves[(n + b) % 2, :, :, (n + b) // 2 : (n + b) // 2 + self.Wp], unfolded[b, :, n])
            for b in (0, 1)
            for n in range(self.conv.kernel[1])
        ]

    def _slides(self) -> list[tuple[Array, Array, Array]]:
        """Return the products that set dunfolded: every row h from the output rows that read it.

        Those are up to kh rows i = h − m; fewer at the edges, and in between the same number for
        all, in one stack of products.
        """
        kh, F, rows, P = self.conv.kernel[0], self.F, 2 * self.Hp, self.z.shape[-1]
        w_t = self.w_t.reshape(-1, kh * F)
        dz = self.z.reshape(2, rows, F, P)
        out = self.dunfolded.reshape(2, self.H, -1, P)
        products = [(w_t, _slide(dz, kh), out[:, kh - 1 : rows])] if rows >= kh else []
        for h in range(self.H):
            first, last = max(0, h - kh + 1), min(rows - 1, h)
            if last - first + 1 < kh:
                skipped = kh - 1 - (h - first)
                some = w_t[:, skipped * F : (skipped + last - first + 1) * F]
                products.append((some, dz[:, first : last + 1].reshape(2, -1, P), out[:, h]))
        return products


class FusedMaxPooling(FusedConvolution):
    """A convolution of stride 1, its activation and its 2×2 max pooling.

    Bias and activation, being non-decreasing, come after the maximum, on a quarter of the numbers.
    """

    def _allocate_pooling(self, N: int, dtype: DTypeLike) -> None:
        self.f = self.function(self.y.shape, dtype)
        self.corners = _corners(self.z)
        upper = self.corners[0]
        self.pooled = upper.reshape(self.Hp, self.F, self.Wp, N).swapaxes(0, 1)
        self.lower, self.right, self.right_below = (
            self.buffer(name, upper.shape, np.bool_) for name in ("lower", "right", "right below")
        )

    def _pool(self) -> Array:
        """Return y = f(max z + b), and remember where in its window each maximum is.

        A later value replaces an earlier one only if it is larger: the first of equal values wins.
        """
        upper, upper_right, lower, lower_right = self.corners
        np.greater(upper_right, upper, out=self.right)
        np.maximum(upper, upper_right, out=upper)
        np.greater(lower_right, lower, out=self.right_below)
        np.maximum(lower, lower_right, out=lower)
        np.greater(lower, upper, out=self.lower)
        np.maximum(upper, lower, out=upper)
        np.add(self.pooled, self.conv.bias.value[:, None, None, None], out=self.y)
        self.f.apply(self.y, out=self.y)
        return self.y

    def _unpool(self, dy: Array) -> None:
        """Put dz in the place of z: dy ⊙ f′ where the maxima were, zeros elsewhere."""
        upper, upper_right, lower, lower_right = self.corners
        self.f.derive(self.y, dy, out=self.pooled)
        np.sum(upper, axis=(0, 2), out=self.conv.bias.gradient)
        np.multiply(upper, self.lower, out=lower)
        np.subtract(upper, lower, out=upper)
        np.multiply(upper, self.right, out=upper_right)
        np.subtract(upper, upper_right, out=upper)
        np.multiply(lower, self.right_below, out=lower_right)
        np.subtract(lower, lower_right, out=lower)


class FusedAveragePooling(FusedConvolution):
    """A convolution of stride 1, its activation and its 2×2 average pooling.

    A mean is not a maximum: the activation comes before it, on all four blocks.
    """

    def _allocate_pooling(self, N: int, dtype: DTypeLike) -> None:
        self.f = self.function(self.z.shape, dtype)
        self.a = self.buffer("a", self.z.shape, dtype)
        self.corners = _corners(self.a)
        self.sum = self.buffer("sum", (self.Hp, self.F, self.Wp * N), dtype)
        self.pooled = self.sum.reshape(self.Hp, self.F, self.Wp, N).swapaxes(0, 1)
        self.rows = self.z.reshape(-1, self.Wp * N)
        self.ones = self.buffer("ones", (self.Wp * N,), dtype)
        self.ones.fill(1)

    def _pool(self) -> Array:
        """Return y, the mean of the four blocks a = f(z + b)."""
        self.z += self.conv.bias.value[:, None]
        self.f.apply(self.z, out=self.a)
        upper, upper_right, lower, lower_right = self.corners
        np.add(upper, upper_right, out=self.sum)
        self.sum += lower
        self.sum += lower_right
        np.multiply(self.pooled, 0.25, out=self.y)
        return self.y

    def _unpool(self, dy: Array) -> None:
        """Put dz in the place of z: a quarter of dy ⊙ f′ at every place of the window."""
        np.multiply(dy, 0.25, out=self.pooled)
        self.f.derive(self.a, self.sum[:, None], out=self.z)
        sums = self.rows @ self.ones  # a product, because BLAS adds faster than np.sum
        np.sum(sums.reshape(-1, self.F), axis=0, out=self.conv.bias.gradient)


def _corners(z: Array) -> tuple[Array, Array, Array, Array]:
    """View z (2,Hp,2,F,P) as its blocks (0,0), (0,1), (1,0), (1,1), each (Hp,F,P)."""
    (upper, lower), (upper_right, lower_right) = z.transpose(0, 2, 1, 3, 4)
    return upper, upper_right, lower, lower_right


def _slide(rows: Array, height: int) -> Array:
    """View rows (2,H,M,P) as every ``height`` of them, one below the other: (2,Ho,height·M,P)."""
    two, H, M, P = rows.shape
    return as_strided(
        rows, (two, H - height + 1, height * M, P), rows.strides, writeable=False
    )  # fmt: skip


class AveragedConvolution(Layer):
    """A convolution of stride 1 followed directly by 2×2 average pooling, as one convolution.

    The mean of the four outputs of a window is linear in the patch that they share: it is one
    output, at stride 2, of the (kh+1)×(kw+1) kernel that is the mean of W placed at the offsets
    (0,0), (0,1), (1,0), (1,1). The gradient of W is the mean of the same four windows of the
    large kernel's gradient.
    """

    def __init__(self, conv: Convolution, pooling: AveragePooling) -> None:
        super().__init__(conv.name)
        self.conv, self.pooling = conv, pooling
        kh, kw = conv.kernel
        self.wide = Convolution(
            conv.name, conv.F, (kh + 1, kw + 1), 2, conv.padding, conv.groups, block=conv.block
        )

    def build(self, shape: Shape) -> Shape:
        self.shape = self.image_shape(shape)
        self.pooling.build(self.conv.build(shape))
        self.parameters = self.conv.parameters
        return self.wide.build(shape)

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        weight = self.wide.weight
        weight.value = self.buffer("wide weight", weight.shape, dtype)
        weight.gradient = self.buffer("wide gradient", weight.shape, dtype)
        self.quarter = self.buffer("quarter", self.conv.weight.shape, dtype)
        self.wide.needs_dx = self.needs_dx
        self.wide.allocate(N, dtype)

    def forward(self, x: Array) -> Array:
        np.multiply(self.conv.weight.value, 0.25, out=self.quarter)
        self.wide.weight.value.fill(0)
        for place in self._offsets(self.wide.weight.value):
            place += self.quarter
        self.wide.bias.value = self.conv.bias.value
        return self.wide.forward(x)

    def backward(self, dy: Array) -> Array | None:
        self.wide.bias.gradient = self.conv.bias.gradient
        dx = self.wide.backward(dy)
        gradient = self.conv.weight.gradient
        gradient.fill(0)
        for place in self._offsets(self.wide.weight.gradient):
            gradient += place
        gradient *= 0.25
        return dx

    @property
    def parts(self) -> tuple[Layer, ...]:
        return self.conv, self.pooling

    @property
    def patch_matrix(self) -> tuple[int, int]:
        return self.wide.patch_matrix

    @property
    def multiply_adds(self) -> int:
        return self.wide.multiply_adds

    def _offsets(self, wide: Array) -> list[Array]:
        """Return the four windows of the size of W in the large kernel."""
        kh, kw = self.conv.kernel
        return [wide[:, :, a : a + kh, b : b + kw] for a in (0, 1) for b in (0, 1)]


FUSED: dict[type[Pooling], type[FusedConvolution]] = {
    MaxPooling: FusedMaxPooling,
    AveragePooling: FusedAveragePooling,
}


def fuse(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers with every fusable run replaced by one layer.

    A convolution of stride 1, then an activation, then 2×2 max or average pooling; or the
    convolution and the pooling without an activation between. The other options of the convolution
    must be the usual ones: no dilation, no table of connections, no flipped kernel, equal padding
    on opposite sides and, but for a mean directly after it, one group. So must those of the
    pooling: no padding, no rounding up; and no unpooling layer may use its switches. Whatever does
    not fit is left as it is, and so are classes derived from these.
    """
    unpooled = [layer.pooling for layer in layers if isinstance(layer, MaxUnpooling)]
    fused: list[Layer] = []
    for layer in layers:
        fused.append(layer)
        match fused:
            case [*_, Convolution() as conv, Activation() as activation, Pooling() as pooling]:
                if _fits(conv, pooling) and conv.groups == 1 and pooling not in unpooled:
                    fused[-3:] = [FUSED[type(pooling)](conv, activation, pooling)]
            case [*_, Convolution() as conv, MaxPooling() as pooling]:
                if _fits(conv, pooling) and conv.groups == 1 and pooling not in unpooled:
                    fused[-2:] = [FusedMaxPooling(conv, None, pooling)]
            case [*_, Convolution() as conv, AveragePooling() as mean]:
                if _fits(conv, mean):
                    fused[-2:] = [AveragedConvolution(conv, mean)]
    return fused


def _fits(conv: Convolution, pooling: Pooling) -> bool:
    kinds = type(conv) is Convolution and type(pooling) in FUSED  # a subclass may do otherwise
    usual = conv.stride == conv.dilation == (1, 1) and conv.table is None and not conv.flip
    symmetric = len(conv.padding) == 2
    two_by_two = pooling.kernel == pooling.stride == (2, 2) and pooling.dilation == (1, 1)
    cut = not any(pooling.edges) and not pooling.round_up
    return kinds and usual and symmetric and two_by_two and cut

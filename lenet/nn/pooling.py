"""Max and average pooling.

Windows may overlap (stride below the kernel) or leave pixels at the edge that no window covers.
Both poolings loop over the kh·kw places of a window, not over the windows: each place is one large
strided view of the image.

Max pooling sends the gradient to the first maximum of a window in row order, as argmax does.
Ties are the normal case on a blank background: a mask by equality alone would count the
gradient once for every tie. The masks of the first maxima are the *switches* with which
unpooling puts the numbers back where they came from (docs/derivation.md, 9 and 11).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from math import prod
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike

from lenet.arrays import Array, Padding, Pair, Shape, shortest
from lenet.nn.im2col import extent, places
from lenet.nn.layer import Layer


class Pooling(Layer):
    """The windows of max and average pooling.

    Parameters
    ----------
    name
        The name used in summaries and messages.
    kernel, stride, dilation
        A number, or a pair (vertical, horizontal); the stride is the kernel unless given.
    padding
        Around the image: a number, a pair (vertical, horizontal), or four numbers (top, left,
        bottom, right).
    round_up
        Round the number of windows up, so that the last one may reach beyond the padding, as in
        Caffe; it must still begin on the image or on the padding before it.
    """

    outside: ClassVar[float]
    """The value of the padding."""

    def __init__(
        self,
        name: str,
        kernel: Pair = 2,
        stride: Pair | None = None,
        padding: Padding = 0,
        *,
        dilation: Pair = 1,
        round_up: bool = False,
    ) -> None:
        super().__init__(name)
        self.kernel, self.dilation = self.pair("kernel", kernel), self.pair("dilation", dilation)
        self.stride = self.kernel if stride is None else self.pair("stride", stride)
        self.edges, self.round_up = self.padding_edges(padding), round_up

    def option(self, name: str) -> object:
        # The stride is the kernel unless given.
        return None if name == "stride" and self.stride == self.kernel else super().option(name)

    def build(self, shape: Shape) -> Shape:
        C, H, W = self.shape = self.image_shape(shape)
        top, left, bottom, right = self.edges
        Ho, Wo = self.output_image(shape, self.edges)
        if self.round_up:
            Ho, Wo = self._rounded_up(0, Ho), self._rounded_up(1, Wo)
        self.output_shape = C, Ho, Wo
        eh, ew = extent(self.kernel, self.dilation)
        (sh, sw), (H_padded, W_padded) = self.stride, (top + H + bottom, left + W + right)
        # As large as the windows need; larger than the padded image where one reaches beyond it.
        self.surrounded = max(H_padded, (Ho - 1) * sh + eh), max(W_padded, (Wo - 1) * sw + ew)
        self.padded = self.surrounded != (H, W)
        self.inside = slice(None), slice(top, top + H), slice(left, left + W)
        if any(
            self.edges[axis] >= covered or not self._places_in(axis, on_padding=False).all()
            for axis, covered in enumerate((eh, ew))
        ):
            raise self.wrong_option(
                "padding", "leaves windows without a pixel of the image", "use less padding"
            )
        return self.output_shape

    def _rounded_up(self, axis: int, n: int) -> int:
        """Return the windows along an axis, of which n fit, if one more begins on the image."""
        size, before, after = self.shape[1 + axis], self.edges[axis], self.edges[2 + axis]
        last = (n - 1) * self.stride[axis]
        whole = last + extent(self.kernel, self.dilation)[axis] == before + size + after
        return n if whole or last + self.stride[axis] >= before + size else n + 1

    def _places_in(self, axis: int, *, on_padding: bool) -> Array:
        """Return how many places of each window, along an axis, are on the image.

        With ``on_padding`` those on the padding count too.
        """
        size, before, after = self.shape[1 + axis], self.edges[axis], self.edges[2 + axis]
        starts = self.stride[axis] * np.arange(self.output_shape[1 + axis])
        place = starts[:, None] + self.dilation[axis] * np.arange(self.kernel[axis])
        first, end = (0, before + size + after) if on_padding else (before, before + size)
        counts: Array = ((first <= place) & (place < end)).sum(axis=1)
        return counts

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        C = self.shape[0]
        self.y = self.buffer("y", (*self.output_shape, N), dtype)
        self.dx = self.buffer("dx", (*self.shape, N), dtype)
        self.share = self.buffer("share", self.y.shape, dtype)
        self.dpadded = self.dx
        if self.padded:
            self.x_padded = self.buffer("padded", (C, *self.surrounded, N), dtype)
            self.x_padded.fill(self.outside)
            self.dpadded = self.buffer("dpadded", self.x_padded.shape, dtype)
        self.allocate_masks()

    @abstractmethod
    def allocate_masks(self) -> None:
        """Allocate what only one kind of pooling needs, once y is allocated."""

    def surround(self, x: Array) -> Array:
        """Return x with its padding around it; x itself where there is none."""
        if not self.padded:
            return x
        np.copyto(self.x_padded[self.inside], x)
        return self.x_padded

    def uncover(self) -> Array:
        """Return dx, the inside of dpadded."""
        if self.padded:
            np.copyto(self.dx, self.dpadded[self.inside])
        return self.dx

    def places(self, x: Array) -> Iterator[Array]:
        """Yield, for every place of the window in row order, its pixels in x: (C,Ho,Wo,N)."""
        _, Ho, Wo = self.output_shape
        return places(x, self.kernel, self.stride, (Ho, Wo), self.dilation)

    @property
    def padding(self) -> tuple[int, ...]:
        """Vertical and horizontal padding; (top, left, bottom, right) where sides differ."""
        return shortest(self.edges)

    @property
    def patch_matrix(self) -> tuple[int, int]:
        return prod(self.output_shape), prod(self.kernel)  # every channel has its windows


class MaxPooling(Pooling):
    """The largest number of every window. Padding is never the largest."""

    outside = -np.inf

    def allocate_masks(self) -> None:
        kh, kw = self.kernel
        self.switches = self.buffer("switches", (kh * kw, *self.y.shape), np.bool_)
        self.taken = self.buffer("taken", self.y.shape, np.bool_)

    def forward(self, x: Array) -> Array:
        x = self.surround(x)
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
        self.dpadded.fill(0)
        for place, switch in zip(self.places(self.dpadded), self.switches, strict=True):
            np.multiply(dy, switch, out=self.share)
            place += self.share
        return self.uncover()


class AveragePooling(Pooling):
    """The mean of every window.

    Parameters
    ----------
    count_padding
        Divide by the number of places on the image and its padding, as Caffe does; otherwise by
        those on the image alone. Places beyond the padding (``round_up``) are never counted.
    """

    outside = 0.0

    def __init__(
        self,
        name: str,
        kernel: Pair = 2,
        stride: Pair | None = None,
        padding: Padding = 0,
        *,
        dilation: Pair = 1,
        round_up: bool = False,
        count_padding: bool = True,
    ) -> None:
        super().__init__(name, kernel, stride, padding, dilation=dilation, round_up=round_up)
        self.count_padding = count_padding

    def allocate_masks(self) -> None:
        rows, columns = (self._places_in(axis, on_padding=self.count_padding) for axis in (0, 1))
        counts = np.outer(rows, columns)
        if (counts == prod(self.kernel)).all():
            self.factor: Array | float = 1 / prod(self.kernel)
        else:
            self.factor = (1 / counts).astype(self.y.dtype)[:, :, None]

    def forward(self, x: Array) -> Array:
        x = self.surround(x)
        self.y.fill(0)
        for place in self.places(x):
            self.y += place
        self.y *= self.factor
        return self.y

    def backward(self, dy: Array) -> Array:
        np.multiply(dy, self.factor, out=self.share)
        self.dpadded.fill(0)
        for place in self.places(self.dpadded):
            place += self.share
        return self.uncover()


class GlobalAveragePooling(AveragePooling):
    """The mean of every channel: average pooling with one window, the whole image.

    M. Lin, Q. Chen, S. Yan (2014), Network in network, section 3.2. The layers after it do not
    depend on the size of the image.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)

    def build(self, shape: Shape) -> Shape:
        _, H, W = self.image_shape(shape)
        self.kernel = self.stride = H, W
        return super().build(shape)

"""A convolution of one image as matrix products, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from lenet.arrays import Array
from lenet.inspect.responses import find_convolution, gradients, input_of
from lenet.nn.convolution import Convolution
from lenet.nn.im2col import col2im, extent, im2col, pad
from lenet.nn.network import Network


@dataclass(frozen=True)
class Product:
    """A convolution of one image as a matrix product: weights (F,K) · patches (K,P) = z (F,P).

    ``x`` (C,H,W) is the convolution's input with its padding, K = C·kh·kw; the bias is not in
    ``z``.
    """

    conv: Convolution
    x: Array
    weights: Array
    patches: Array

    @property
    def z(self) -> Array:
        return self.weights @ self.patches


def product(network: Network, x: Array, name: str) -> Product:
    """Return the matrices of a convolution of one image x (C,H,W,1)."""
    conv = find_convolution(network, name)
    padded = pad(input_of(network, x, name)[..., None], conv.edges)[..., 0]
    patches = im2col(padded[None], conv.kernel, conv.stride, dilation=conv.dilation).T
    return Product(conv, padded, _filter_rows(conv), patches)


@dataclass(frozen=True)
class BackwardProduct:
    """The data gradient of a convolution: weights (F,K)ᵀ · dz (F,P) = dcols (K,P), then col2im."""

    conv: Convolution
    weights: Array
    dz: Array

    @property
    def dcols(self) -> Array:
        return self.weights.T @ self.dz

    def add(self, chosen: Array) -> Array:
        """Return the sum (C,H,W) of the chosen patches (P,) of dcols: for all of them, dX."""
        C = self.conv.shape[0]
        return self._col2im(np.where(chosen, self.dcols, 0), C)

    def counts(self, chosen: Array) -> Array:
        """Return how many of the chosen patches (P,) each pixel (H,W) is part of."""
        ones = np.ones((prod(self.conv.kernel), chosen.size), np.intp)
        counts: Array = self._col2im(ones * chosen, 1)[0]
        return counts

    def _col2im(self, columns: Array, C: int) -> Array:
        conv = self.conv
        image: Array
        (image,) = col2im(
            columns.T,
            (1, C, *conv.shape[1:]),
            conv.kernel,
            conv.stride,
            conv.edges,
            dilation=conv.dilation,
        )
        return image

    def spread(self) -> Array:
        """Return dz as maps (F,·,·) with s − 1 zeros between and a border of zeros.

        Every window of it, as large as the kernel, gives a pixel of dX with its padding.
        """
        conv, (sh, sw) = self.conv, self.conv.stride
        top, left, bottom, right = conv.edges
        (_, H, W), (eh, ew) = conv.shape, extent(conv.kernel, conv.dilation)
        padded = top + H + bottom + eh - 1, left + W + right + ew - 1
        maps = np.zeros((conv.F, *padded), self.dz.dtype)
        below, beyond = eh - 1 + sh * conv.Ho, ew - 1 + sw * conv.Wo
        maps[:, eh - 1 : below : sh, ew - 1 : beyond : sw] = self.dz.reshape(conv.F, conv.Ho, -1)
        return maps

    def turned(self, c: int) -> Array:
        """Return the kernels (F,kh,kw) of one input map, turned by 180°."""
        conv = self.conv
        return self.weights.reshape(conv.F, -1, *conv.kernel)[:, c, ::-1, ::-1]

    def full_convolution(self, c: int) -> Array:
        """Return dX (H,W) of one input map, as a correlation of dz with the turned kernels."""
        conv = self.conv
        (_, H, W), (top, left, _, _) = conv.shape, conv.edges
        maps = self.spread()
        eh, ew = extent(conv.kernel, conv.dilation)
        height, width = maps.shape[1] - eh + 1, maps.shape[2] - ew + 1
        windows = im2col(maps[None], conv.kernel, dilation=conv.dilation)
        whole = (windows @ self.turned(c).ravel()).reshape(height, width)
        inside: Array = whole[top : top + H, left : left + W]
        return inside


def backward_product(network: Network, x: Array, name: str, label: int) -> BackwardProduct:
    """Return the matrices of the data gradient of a convolution, for one image x and its label."""
    conv = find_convolution(network, name)
    dz = gradients(network, x, label)[name]
    return BackwardProduct(conv, _filter_rows(conv), dz.reshape(conv.F, -1))


def _filter_rows(conv: Convolution) -> Array:
    """Return the filters as rows (F, C·kh·kw), zero for the channels of the other groups."""
    C, g = conv.shape[0], conv.groups
    w = conv.multiplied
    rows = np.zeros((g, conv.F // g, g, C // g, *conv.kernel), w.dtype)
    for group, part in enumerate(np.split(w, g)):
        rows[group, :, group] = part
    return rows.reshape(conv.F, -1)


def places_to_mark(contrast: Array, kernel: int) -> list[tuple[int, int]]:
    """Choose up to three places (i, j) of a patch, given the contrast (Ho,Wo) of every patch.

    The first has the largest contrast, the second is its right neighbour, the third does not
    overlap the first.
    """
    Ho, Wo = contrast.shape
    columns = max(Wo - 1, 1)
    i, j = divmod(int(contrast[:, :columns].argmax()), columns)
    places = [(i, j), (i, j + 1)] if Wo > 1 else [(i, j)]
    rows_away, columns_away = np.abs(np.arange(Ho) - i)[:, None], np.abs(np.arange(Wo) - j)
    apart = np.maximum(rows_away, columns_away) > kernel
    if apart.any():
        places.append(divmod(int(np.where(apart, contrast, -1).argmax()), Wo))
    return places

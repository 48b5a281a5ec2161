"""The patch matrix and its adjoint: im2col and col2im.

A convolution is a sum of products over patches of the image. im2col writes every patch out as a
row of a matrix, so that the convolution becomes one matrix product; col2im takes a matrix of that
shape and adds every row back onto the patch that it came from. It is the adjoint of im2col:
⟨im2col(x), c⟩ = ⟨x, col2im(c)⟩, which is why it carries the gradient back.

Notation, used as variable names throughout the package:

    N         images in a batch              kh, kw    height and width of the kernel
    C         channels of the input          s         stride
    H, W      height and width of the input  p         padding with zeros, on each side
    F         filters: output channels       d         dilation: a pixel of the kernel every d
    Ho, Wo    height and width of the output: Ho = ⌊(H + 2p − d·(kh − 1) − 1)/s⌋ + 1
    K         C·kh·kw, the length of a patch
    P         Ho·Wo·N, the number of patches of a batch

Two layouts of the same matrix:

* In the documentation: images (N,C,H,W), patch matrix (N·Ho·Wo, C·kh·kw), one patch per row
  (:func:`im2col`, :func:`col2im`).
* Inside the network: images (C,H,W,N), patch matrix (C·kh·kw, Ho·Wo·N), one patch per column. With
  the batch innermost every copy moves runs of N numbers or more, whatever the kernel, and the
  product W·cols *is* the next layer's input: nothing is ever transposed.

:func:`windows` and :func:`add_windows` are the one implementation under both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from lenet.arrays import Array, Padding, Pair, padding_edges, pair


def extent(kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the patch that a dilated kernel covers: d·(k − 1) + 1.

    Examples
    --------
    >>> extent((3, 3), (1, 2))
    (3, 5)
    """
    (kh, kw), (dh, dw) = kernel, dilation
    return dh * (kh - 1) + 1, dw * (kw - 1) + 1


def output_size(
    size: int, kernel: int, stride: int = 1, padding: int | tuple[int, int] = 0, dilation: int = 1
) -> int:
    """Return ⌊(size + 2·padding − extent)/stride⌋ + 1, the positions of a kernel along an axis.

    The extent of the kernel is dilation·(kernel − 1) + 1. The result is the largest n for which
    the last window still lies on the padded axis: (n − 1)·stride + extent ≤ size + 2·padding. A
    pair of paddings is that before and that after the axis.

    Raises
    ------
    ValueError
        The kernel is larger than the padded axis: no position fits.

    Examples
    --------
    >>> output_size(32, kernel=5), output_size(5, kernel=3, stride=2, padding=1)
    (28, 3)
    """
    before, after = padding if isinstance(padding, tuple) else (padding, padding)
    covered = dilation * (kernel - 1) + 1
    if covered > size + before + after:
        raise ValueError(f"a window of {covered} does not fit {size} pixels with padding {padding}")
    return (size + before + after - covered) // stride + 1


def pad(x: Array, padding: Padding) -> Array:
    """Return x (C,H,W,N) with zeros around every image; x itself if there is no padding."""
    edges = top, left, bottom, right = padding_edges(padding)
    if not any(edges):
        return x
    C, H, W, N = x.shape
    padded = np.zeros((C, H + top + bottom, W + left + right, N), x.dtype)
    padded[:, top : top + H, left : left + W] = x
    return padded


def windows(
    x: Array, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int] = (1, 1)
) -> Array:
    """Return all patches of x (C,H,W,N) as a view (C,kh,kw,Ho,Wo,N): no number is copied.

    Entry [c,m,n,i,j,·] is x[c, i·s + m·d, j·s + n·d, ·]. The view's memory overlaps: read only.
    """
    (C, H, W, N), (kh, kw), (sh, sw), (dh, dw) = x.shape, kernel, stride, dilation
    Ho, Wo = output_size(H, kh, sh, dilation=dh), output_size(W, kw, sw, dilation=dw)
    c, h, w, n = x.strides
    return as_strided(
        x, (C, kh, kw, Ho, Wo, N), (c, dh * h, dw * w, sh * h, sw * w, n), writeable=False
    )  # fmt: skip


def places(
    x: Array,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    output: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> Iterator[Array]:
    """Yield, for every place of the window in row order, its pixels in x (C,H,W,N): (C,Ho,Wo,N)."""
    (kh, kw), (sh, sw), (Ho, Wo), (dh, dw) = kernel, stride, output, dilation
    for m in range(0, dh * kh, dh):
        for n in range(0, dw * kw, dw):
            yield x[:, m : m + sh * Ho : sh, n : n + sw * Wo : sw]


def add_windows(
    patches: Array, stride: tuple[int, int], out: Array, dilation: tuple[int, int] = (1, 1)
) -> None:
    """Set out (C,H,W,N) to the sum of patches (C,kh,kw,Ho,Wo,N), each added where it belongs."""
    (_, kh, kw, Ho, Wo, _), (sh, sw), (dh, dw) = patches.shape, stride, dilation
    out.fill(0)
    for m in range(kh):
        for n in range(kw):
            h, w = m * dh, n * dw
            out[:, h : h + sh * Ho : sh, w : w + sw * Wo : sw] += patches[:, m, n]


def im2col(
    x: Array,
    kernel: Pair,
    stride: Pair = 1,
    padding: Padding = 0,
    out: Array | None = None,
    *,
    dilation: Pair = 1,
) -> Array:
    """Write every patch of a batch of images as a row of a matrix.

    Parameters
    ----------
    x
        Images (N,C,H,W), of any strides; the type of the numbers is kept.
    kernel, stride, padding, dilation
        A number for both directions, or a pair (vertical, horizontal); of the padding also all
        four sides, (top, left, bottom, right).
    out
        Where to write: (N·Ho·Wo, C·kh·kw) of x's type, any strides; allocated if None.

    Returns
    -------
    The patch matrix (N·Ho·Wo, C·kh·kw): rows in the order n, then i, then j; columns in the
    order c, then m, then n, so that a filter (C,kh,kw) flattens into the matching vector.

    Raises
    ------
    ValueError
        x does not have four axes, the kernel does not fit, or ``out`` has another shape or type.

    Examples
    --------
    The two-by-two patches of a three-by-three image, and a convolution as a product:

    >>> x = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    >>> im2col(x, kernel=2)
    array([[1., 2., 4., 5.],
           [2., 3., 5., 6.],
           [4., 5., 7., 8.],
           [5., 6., 8., 9.]])
    >>> im2col(x, kernel=2) @ np.array([0, 1, 2, 3])
    array([25., 31., 43., 49.])
    """
    if x.ndim != 4:
        raise ValueError(f"images have the four axes N,C,H,W, not the shape {x.shape}")
    patches = windows(
        pad(x.transpose(1, 2, 3, 0), padding),
        pair(kernel, 1),
        pair(stride, 1),
        pair(dilation, 1),
    )
    C, kh, kw, Ho, Wo, N = patches.shape
    if out is None:
        out = np.empty((N * Ho * Wo, C * kh * kw), x.dtype)
    np.copyto(_by_patch(out, patches, x.dtype), patches)
    return out


def col2im(
    cols: Array,
    shape: tuple[int, int, int, int],
    kernel: Pair,
    stride: Pair = 1,
    padding: Padding = 0,
    out: Array | None = None,
    *,
    dilation: Pair = 1,
) -> Array:
    """Add every row of a patch matrix back onto the images: the adjoint of :func:`im2col`.

    Where patches overlap their numbers add up; what fell on the padding is dropped.

    Parameters
    ----------
    cols
        A matrix (N·Ho·Wo, C·kh·kw), of any strides.
    shape
        The shape (N,C,H,W) of the images that the patches were taken from.
    kernel, stride, padding, dilation
        As given to im2col.
    out
        Where to write: (N,C,H,W) of the type of ``cols``, any strides; allocated if None.

    Raises
    ------
    ValueError
        The shapes do not belong together.

    Examples
    --------
    How many two-by-two patches each pixel of a three-by-three image is part of:

    >>> col2im(np.ones((4, 4)), (1, 1, 3, 3), kernel=2)[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    N, C, H, W = shape
    top, left, bottom, right = padding_edges(padding)
    size, step, spread = pair(kernel, 1), pair(stride, 1), pair(dilation, 1)
    padded = np.zeros((C, H + top + bottom, W + left + right, N), cols.dtype)
    patches = _by_patch(cols, windows(padded, size, step, spread), cols.dtype)
    add_windows(patches, step, padded, spread)
    if out is None:
        out = np.empty(shape, cols.dtype)
    elif out.shape != shape or out.dtype != cols.dtype:
        raise ValueError(f"out must be {cols.dtype} of shape {shape}, is {out.dtype} {out.shape}")
    np.copyto(out, padded[:, top : top + H, left : left + W].transpose(3, 0, 1, 2))
    return out


def _by_patch(cols: Array, like: Array, dtype: np.dtype[Any]) -> Array:
    """View a patch matrix (N·Ho·Wo, C·kh·kw) with the six axes (C,kh,kw,Ho,Wo,N) of ``like``."""
    C, kh, kw, Ho, Wo, N = like.shape
    wanted = (N * Ho * Wo, C * kh * kw)
    if cols.shape != wanted or cols.dtype != dtype:
        raise ValueError(
            f"the patch matrix must be {dtype} of shape {wanted}, is {cols.dtype} {cols.shape}"
        )
    row, column = cols.strides
    return as_strided(
        cols,
        (C, kh, kw, Ho, Wo, N),
        (kh * kw * column, kw * column, column, Wo * row, row, Ho * Wo * row),
    )

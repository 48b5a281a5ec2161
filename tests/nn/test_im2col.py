"""The patch matrix: against loops, its definition, and its adjoint."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from oracles import EXAMPLES, patches, positions
from scipy.signal import convolve2d, correlate2d

from lenet.nn.im2col import add_windows, col2im, im2col, output_size, pad, windows

SIZES = st.integers(1, 7)
PAIRS = st.tuples(st.integers(1, 4), st.integers(1, 4))
PADDINGS = st.tuples(st.integers(0, 3), st.integers(0, 3))
quick = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def geometries(draw):
    """A shape (N,C,H,W), and a kernel, stride and padding that fit it."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 3), SIZES, SIZES))
    padding = draw(PADDINGS)
    kernel = tuple(
        draw(st.integers(1, min(5, size + 2 * p)))
        for size, p in zip(shape[2:], padding, strict=True)
    )
    return shape, kernel, draw(PAIRS), padding


def integers(shape, dtype=np.float64, seed=0):
    """Whole numbers: sums of them are exact in every order."""
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(dtype)


# --- The output size ----------------------------------------------------------------------------


@quick
@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 9), st.integers(0, 6))
def test_output_size_is_the_largest_that_fits(size, kernel, stride, padding):
    # Seed 000's constraint in its right form: (n − 1)·s + k ≤ size + 2p.
    if kernel > size + 2 * padding:
        with pytest.raises(ValueError, match=f"a window of {kernel} does not fit {size} pixels"):
            output_size(size, kernel, stride, padding)
    else:
        n = output_size(size, kernel, stride, padding)
        assert n == positions(size, kernel, stride, padding)
        assert (n - 1) * stride + kernel <= size + 2 * padding < n * stride + kernel


# --- im2col -------------------------------------------------------------------------------------


@quick
@given(geometries())
def test_im2col_against_loops(geometry):
    shape, kernel, stride, padding = geometry
    x = integers(shape)
    assert_array_equal(im2col(x, kernel, stride, padding), patches(x, kernel, stride, padding))


def test_a_number_means_both_directions():
    x = integers((2, 3, 6, 7))
    assert_array_equal(im2col(x, 3, 2, 1), im2col(x, (3, 3), (2, 2), (1, 1)))
    cols = im2col(x, 3, 2, 1)
    assert_array_equal(
        col2im(cols, x.shape, 3, 2, 1), col2im(cols, x.shape, (3, 3), (2, 2), (1, 1))
    )


@pytest.mark.parametrize("example", EXAMPLES["correlation"], ids=lambda e: e["name"])
def test_the_slides_as_one_product(example):
    # The slides print two of these sums wrongly (slide_differs); the numbers here are right.
    x, w = np.array(example["x"], float), np.array(example["w"], float)
    cols = im2col(x[None, None], w.shape, example["stride"], example["padding"])
    assert_array_equal((cols @ w.ravel()).reshape(np.shape(example["y"])), example["y"])


VIEWS = {
    "transposed": lambda x: x.transpose(3, 2, 1, 0),
    "every other": lambda x: x[:, ::2, 1::2, ::3],
    "backwards": lambda x: x[::-1, :, ::-1, ::-1],
    "repeated": lambda x: np.broadcast_to(x[:1, :1], x.shape),
    "Fortran": np.asfortranarray,
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_arrays_of_any_strides(view):
    x = view(integers((4, 5, 6, 7)))
    kernel, stride, padding = (2, 1), (1, 2), (1, 0)
    cols = patches(x, kernel, stride, padding)
    assert_array_equal(im2col(x, kernel, stride, padding), cols)
    skewed = np.asfortranarray(cols)[:, ::-1]
    back = col2im(np.ascontiguousarray(cols[:, ::-1]), x.shape, kernel, stride, padding)
    assert_array_equal(col2im(skewed, x.shape, kernel, stride, padding), back)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_the_type_of_the_numbers_is_kept(dtype):
    x = np.arange(32, dtype=dtype).reshape(1, 2, 4, 4)
    cols = im2col(x, 3, padding=1)
    assert cols.dtype == dtype
    assert col2im(cols, x.shape, 3, padding=1).dtype == dtype


@pytest.mark.parametrize("skew", [False, True])
def test_out_takes_the_result(skew):
    x, shape = integers((2, 3, 5, 5)), (2, 3, 5, 5)
    rows = np.full((100, 54), np.nan)
    out = rows[::2, ::-2] if skew else rows[:50, :27]
    cols = im2col(x, 3, padding=1, out=out)
    assert cols is out
    assert_array_equal(out, patches(x, (3, 3), (1, 1), (1, 1)))
    images = np.full((2, 3, 10, 5), np.nan)
    back = images[:, ::-1, ::2] if skew else images[:, :, :5]
    assert col2im(cols, shape, 3, padding=1, out=back) is back
    assert_array_equal(back, col2im(cols.copy(), shape, 3, padding=1))
    assert np.isnan(rows).any()
    assert np.isnan(images).any()


def test_no_images_have_no_patches():
    assert im2col(np.empty((0, 2, 5, 5)), 3).shape == (0, 18)
    assert col2im(np.empty((0, 18)), (0, 2, 5, 5), 3).shape == (0, 2, 5, 5)


# --- col2im -------------------------------------------------------------------------------------


@quick
@given(geometries(), st.sampled_from([np.float32, np.float64]))
def test_col2im_is_the_adjoint_of_im2col(geometry, dtype):
    shape, kernel, stride, padding = geometry
    x = integers(shape, dtype)
    cols = im2col(x, kernel, stride, padding)
    c = integers(cols.shape, dtype, seed=1)
    back = col2im(c, shape, kernel, stride, padding)
    assert back.dtype == dtype
    assert np.vdot(cols, c) == np.vdot(x, back)  # ⟨im2col(x), c⟩ = ⟨x, col2im(c)⟩, exactly


@quick
@given(geometries())
def test_col2im_counts_the_patches_that_cover_a_pixel(geometry):
    shape, kernel, stride, padding = geometry
    cover = np.zeros(shape)
    (sh, sw), (ph, pw) = stride, padding
    Ho, Wo = (positions(*axis) for axis in zip(shape[2:], kernel, stride, padding, strict=True))
    for i, j, h, w in np.ndindex(Ho, Wo, *shape[2:]):
        inside = 0 <= h + ph - i * sh < kernel[0] and 0 <= w + pw - j * sw < kernel[1]
        cover[:, :, h, w] += inside
    ones = np.ones((shape[0] * Ho * Wo, shape[1] * kernel[0] * kernel[1]))
    assert_array_equal(col2im(ones, shape, kernel, stride, padding), cover)


@pytest.mark.parametrize(("kh", "kw"), [(1, 1), (2, 2), (3, 3), (5, 5), (2, 4), (5, 1)])
def test_the_gradient_is_the_full_convolution_with_the_rotated_kernel(kh, kw):
    """Seed 002's question, answered: col2im(Wᵀ·dZ) rotates the weights by itself."""
    (H, W), C, F = (8, 9), 2, 3
    w = integers((F, C, kh, kw))
    dz = integers((F, H - kh + 1, W - kw + 1), seed=1)
    dcols = dz.reshape(F, -1).T @ w.reshape(F, -1)  # (HoWo × F) · (F × K)
    dx = col2im(dcols, (1, C, H, W), (kh, kw))[0]
    for c in range(C):
        full = [correlate2d(dz[f], np.rot90(w[f, c], 2), mode="full") for f in range(F)]
        assert_array_equal(dx[c], sum(full))
        assert_array_equal(dx[c], sum(convolve2d(dz[f], w[f, c], mode="full") for f in range(F)))


def test_the_batch_innermost_matrix_is_the_same_matrix():
    x = integers((3, 2, 6, 5))
    inside = windows(pad(x.transpose(1, 2, 3, 0), (1, 1)), (3, 2), (2, 1))
    C, kh, kw, Ho, Wo, N = inside.shape
    in_order_of_n = inside.reshape(C * kh * kw, Ho * Wo, N).transpose(2, 1, 0)
    assert_array_equal(in_order_of_n.reshape(N * Ho * Wo, -1), im2col(x, (3, 2), (2, 1), (1, 1)))
    with pytest.raises(ValueError, match="read-only"):
        inside[0] = 0


def test_add_windows_overwrites():
    out = np.full((1, 4, 4, 1), np.nan)
    add_windows(np.ones((1, 2, 2, 2, 2, 1)), (2, 2), out=out)
    assert_array_equal(out, np.ones((1, 4, 4, 1)))


# --- What is refused ----------------------------------------------------------------------------

X = np.zeros((2, 3, 5, 5))
REFUSED = {
    "four axes N,C,H,W": lambda: im2col(X[0], 3),
    "a window of 6 does not fit 5 pixels": lambda: im2col(X, 6),
    "a window of 8 does not fit": lambda: col2im(X, X.shape, 8, 1, 1),
    "integers of 1 or more, is 0$": lambda: im2col(X, 0),
    "integers of 1 or more, is \\(1, 0\\)": lambda: im2col(X, 3, (1, 0)),
    "integers of 0 or more, is -1": lambda: im2col(X, 3, 1, -1),
    "integers of 1 or more, is 2.5": lambda: im2col(X, 2.5),
    "integers of 1 or more, is \\(3, 3, 3\\)": lambda: im2col(X, (3, 3, 3)),
    "float64 of shape \\(18, 27\\), is float64 \\(27, 18\\)": lambda: im2col(
        X, 3, out=np.empty((27, 18))
    ),
    "float64 of shape \\(18, 27\\), is float32": lambda: im2col(
        X, 3, out=np.empty((18, 27), np.float32)
    ),
    "of shape \\(18, 27\\), is float64 \\(18, 26\\)": lambda: col2im(
        np.empty((18, 26)), X.shape, 3
    ),
    "out must be float64": lambda: col2im(np.empty((18, 27)), X.shape, 3, out=X.astype(np.float32)),
}


@pytest.mark.parametrize(("message", "call"), REFUSED.items(), ids=REFUSED)
def test_what_does_not_belong_together_is_refused(message, call):
    with pytest.raises(ValueError, match=message):
        call()

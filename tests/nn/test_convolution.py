"""Convolution: against the slides, SciPy, loops, and Caffe's groups."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracles import EXAMPLES, LECUN_TABLE, batch_first, batch_last, correlate, ready
from scipy.signal import convolve2d, correlate2d

from lenet.errors import ConfigError
from lenet.models.packaged import TABLE_I
from lenet.nn.convolution import Convolution
from lenet.nn.network import Network

rng = np.random.default_rng(0)


def single(w, **options):
    """A convolution of one filter over one channel, without bias."""
    layer = Convolution("C", 1, w.shape, **options)
    return layer, w[None, None]


@pytest.mark.parametrize("example", EXAMPLES["correlation"], ids=lambda e: e["name"])
def test_the_slides(example):
    x, y = np.array(example["x"], float), np.array(example["y"], float)
    layer, w = single(
        np.array(example["w"], float), stride=example["stride"], padding=example["padding"]
    )
    ready(layer, (1, *x.shape), N=1)
    layer.weight.value[...], layer.bias.value[...] = w, 0
    assert_array_equal(layer.forward(x[None, :, :, None])[0, :, :, 0], y)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 5), (2, 4), (7, 8)])
def test_against_scipy(kernel, flip):
    """Several channels add up; cross-correlation by default, true convolution by the flag."""
    x = rng.standard_normal((3, 2, 7, 8))
    layer = ready(Convolution("C", 4, kernel, flip=flip), (2, 7, 8), N=3)
    z = batch_first(layer.forward(batch_last(x)))
    scipy_product = convolve2d if flip else correlate2d
    for n, f in np.ndindex(3, 4):
        w, b = layer.weight.value[f], layer.bias.value[f]
        expected = sum(scipy_product(x[n, c], w[c], mode="valid") for c in range(2)) + b
        assert_allclose(z[n, f], expected, rtol=1e-12, atol=1e-12)


GEOMETRIES = {
    "stride 2": {"kernel": (3, 3), "stride": (2, 2)},
    "stride (3, 1), a rest": {"kernel": (2, 3), "stride": (3, 1)},
    "padding (1, 2)": {"kernel": (3, 3), "padding": (1, 2)},
    "stride and padding": {"kernel": (3, 2), "stride": (2, 3), "padding": (2, 1)},
    "groups": {"kernel": (3, 3), "groups": 2},
    "groups, stride, padding": {"kernel": (2, 3), "stride": (1, 2), "padding": (1, 0), "groups": 4},
    "dilation": {"kernel": (2, 2), "dilation": (2, 3)},
    "padding, other on each side": {"kernel": (3, 2), "padding": (0, 1, 2, 0)},
    "dilation, stride, padding, groups": {
        "kernel": (2, 3),
        "stride": (2, 1),
        "padding": (1, 2),
        "groups": 2,
        "dilation": (3, 2),
    },
    "1x1": {"kernel": (1, 1)},
    "1x1 dilated": {"kernel": (1, 1), "dilation": (2, 2)},
    "1x1 groups": {"kernel": (1, 1), "groups": 2},
    "1x1 stride 2": {"kernel": (1, 1), "stride": (2, 2)},
    "whole image": {"kernel": (5, 6)},
    "whole image, groups": {"kernel": (5, 6), "groups": 4},
    "whole image, dilated": {"kernel": (3, 2), "dilation": (2, 5)},
}


@pytest.mark.parametrize("block", [1, 300, 1_000_000])
@pytest.mark.parametrize("options", GEOMETRIES.values(), ids=GEOMETRIES)
def test_against_loops(options, block):
    x = rng.standard_normal((2, 4, 5, 6))
    layer = ready(Convolution("C", 4, **options, block=block), (4, 5, 6), N=2)
    z = batch_first(layer.forward(batch_last(x)))
    geometry = {"stride": (1, 1), "padding": (0, 0), "groups": 1, **options}
    del geometry["kernel"]
    expected = correlate(x, layer.weight.value, layer.bias.value, **geometry)
    assert_allclose(z, expected, rtol=1e-12, atol=1e-12)


# --- The table of connections -------------------------------------------------------------------


def test_the_table_of_the_paper():
    """LeCun et al. (1998), table I: 60 connections of 25 weights, and 16 biases."""
    assert [tuple(maps) for maps in TABLE_I] == list(LECUN_TABLE)
    layer = Convolution("C3", 16, 5, table=LECUN_TABLE)
    layer.build((6, 14, 14))
    assert sum(p.size for p in layer.parameters) == 1516
    assert layer.connections == 151_600
    assert [len(maps) for maps in LECUN_TABLE] == [3] * 6 + [4] * 9 + [6]
    assert len({*LECUN_TABLE}) == 16
    counts = np.bincount(np.concatenate(LECUN_TABLE))
    assert_array_equal(counts, 10)  # every map of S2 goes to ten of C3
    assert set(layer.weight.fan_in.ravel()) == {75, 100, 150}
    assert set(layer.weight.fan_out.ravel()) == {250}


@pytest.mark.parametrize("block", [1, 1_000_000])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("kernel", [(3, 2), (6, 7)])
def test_a_table_is_a_convolution_with_zeros_in_its_weights(block, flip, kernel):
    table = [[0, 2], [1], [3, 1, 0]]
    x = rng.standard_normal((4, 6, 7, 2))
    some = ready(Convolution("C", 3, kernel, table=table, flip=flip, block=block), x.shape[:3], 2)
    every = ready(Convolution("C", 3, kernel, flip=flip, block=block), x.shape[:3], 2)
    assert some.weight.shape == (6, *kernel)
    every.weight.value.fill(0)
    pairs = [(f, c) for f, maps in enumerate(table) for c in maps]
    for (f, c), weight in zip(pairs, some.weight.value, strict=True):
        every.weight.value[f, c] = weight
    every.bias.value[...] = some.bias.value
    z = every.forward(x).copy()
    assert_allclose(some.forward(x), z, rtol=1e-12, atol=1e-12)
    assert_array_equal(some.kernels, every.weight.value)
    assert_allclose(some.backward(z), every.backward(z), rtol=1e-12, atol=1e-11)
    for (f, c), gradient in zip(pairs, some.weight.gradient, strict=True):
        assert_allclose(gradient, every.weight.gradient[f, c], rtol=1e-12, atol=1e-11)
    assert_array_equal(some.bias.gradient, every.bias.gradient)


def test_the_weights_of_a_table_are_drawn_for_their_filter():
    layer = Convolution("C", 2, 9, table=[[0], list(range(100))])
    network = Network([layer], (100, 9, 9), np.float64)
    network.initialize(np.random.default_rng(0), "he")
    one, hundred = layer.weight.value[0], layer.weight.value[1:]
    assert one.std() == pytest.approx((2 / 81) ** 0.5, rel=0.2)
    assert hundred.std() == pytest.approx((2 / 8100) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"table": [[0]]}, "has 1 rows for 2 filters; give the channels of every filter"),
        (
            {"table": [[0], []]},
            r"filter 1 has \[\]; give one or more different channels",
        ),
        ({"table": [[0], [1, 1]]}, r"filter 1 has \[1, 1\]"),
        ({"table": [[0], [4]]}, r"filter 1 has \[4\]"),
        ({"table": [[0], [-1]]}, r"filter 1 has \[-1\]"),
        ({"table": [[0], [1]], "groups": 2}, "excludes groups"),
    ],
)
def test_a_table_that_does_not_fit(options, problem):
    with pytest.raises(ConfigError, match=f"^layer C: table: {problem}"):
        Convolution("C", 2, 3, **options).build((4, 6, 7))


def test_the_block_cuts_the_product():
    x = rng.standard_normal((2, 6, 6, 10))
    blocks, results = [], []
    for block in (1, 2_000, 10**9):
        layer = ready(Convolution("C", 3, 3, block=block), (2, 6, 6), N=10)
        z = layer.forward(x).copy()
        results.append([z, layer.backward(z).copy(), layer.weight.gradient])
        blocks.append(layer.blocks)
    assert blocks == [80, 5, 1]  # of 3·18·160 multiply-adds; fewer columns than 3 is too narrow
    for one, other in zip(results[0] + results[1], results[2] * 2, strict=True):
        assert_allclose(one, other, rtol=1e-12, atol=1e-11)


def test_groups_are_separate_convolutions():
    """As in Caffe: every group of filters sees its own channels, by offset."""
    x = rng.standard_normal((6, 5, 5, 2))
    whole = ready(Convolution("C", 4, 3, groups=2), (6, 5, 5), N=2)
    z = whole.forward(x).copy()
    dx = whole.backward(z).copy()
    for g in range(2):
        part = ready(Convolution("C", 2, 3), (3, 5, 5), N=2)
        filters, channels = slice(2 * g, 2 * g + 2), slice(3 * g, 3 * g + 3)
        part.weight.value[...] = whole.weight.value[filters]
        part.bias.value[...] = whole.bias.value[filters]
        assert_allclose(part.forward(x[channels]), z[filters], rtol=1e-12)
        assert_allclose(part.backward(z[filters]), dx[channels], rtol=1e-12, atol=1e-12)
        assert_allclose(part.weight.gradient, whole.weight.gradient[filters], rtol=1e-12)


def test_a_flipped_kernel_is_the_same_layer_with_the_weights_rotated():
    """Three ways to flip: rows and columns, twice by 90°, and the index −x, −y."""
    x = rng.standard_normal((2, 6, 6, 2))
    true, correlation = (Convolution("C", 3, 3, flip=flip) for flip in (True, False))
    ready(true, (2, 6, 6), 2)
    ready(correlation, (2, 6, 6), 2)
    w = true.weight.value
    correlation.weight.value[...] = rotated = w[:, :, ::-1, ::-1]
    assert_array_equal(rotated, np.rot90(w, 2, axes=(2, 3)))
    assert all((rotated[:, :, m, n] == w[:, :, -m - 1, -n - 1]).all() for m, n in np.ndindex(3, 3))
    z = true.forward(x).copy()
    assert_allclose(z, correlation.forward(x), rtol=1e-12)
    assert_allclose(true.backward(z), correlation.backward(z), rtol=1e-12)
    assert_allclose(true.weight.gradient, correlation.weight.gradient[:, :, ::-1, ::-1], rtol=1e-12)


def test_the_gradients_of_the_slides_2x2_network():
    """The slides' formulas, one by one (in the right form: with a of the layer below, not z)."""
    a, w = rng.standard_normal((3, 3)), rng.standard_normal((2, 2))
    delta = rng.standard_normal((2, 2))
    layer, weight = single(w)
    ready(layer, (1, 3, 3), N=1)
    layer.weight.value[...] = weight
    layer.forward(a[None, :, :, None])
    dx = layer.backward(delta[None, :, :, None])[0, :, :, 0]
    for m, n in np.ndindex(2, 2):
        dw = sum(delta[i, j] * a[i + m, j + n] for i, j in np.ndindex(2, 2))
        assert layer.weight.gradient[0, 0, m, n] == pytest.approx(dw, rel=1e-12)
    assert layer.bias.gradient[0] == pytest.approx(delta.sum(), rel=1e-12)
    # δ¹(1,2) = δ²(1,1)·w(1,2) + δ²(1,2)·w(1,1), counted from 1; times f′, which is 1 here
    assert dx[0, 1] == pytest.approx(delta[0, 0] * w[0, 1] + delta[0, 1] * w[0, 0], rel=1e-12)


@pytest.mark.parametrize(("kernel", "shape"), [(1, (2, 5, 6)), ((5, 6), (2, 5, 6))])
def test_where_the_patch_matrix_is_the_input_nothing_is_copied(kernel, shape):
    layer = ready(Convolution("C", 3, kernel), shape, N=2)
    x = rng.standard_normal((*shape, 2))
    layer.forward(x)
    assert np.shares_memory(layer.rows, x)


def test_what_a_filter_is_connected_to():
    layer = Convolution("C", 6, (3, 2), groups=2)
    layer.build((4, 8, 8))
    assert layer.weight.shape == (6, 2, 3, 2)
    assert (layer.weight.fan_in, layer.weight.fan_out) == (2 * 3 * 2, 3 * 3 * 2)
    assert layer.patch_matrix == (6 * 7, 4 * 3 * 2)
    assert layer.multiply_adds == 6 * (2 * 3 * 2) * (6 * 7)


@pytest.mark.parametrize(
    ("layer", "shape", "problem"),
    [
        (Convolution("C3", 4, 5), (1, 4, 9), "a window of 5 does not fit 4 pixels"),
        (Convolution("C3", 4, 7, padding=1), (1, 9, 4), "fit 4 pixels with padding 1"),
        (Convolution("C3", 4, 3, groups=2), (3, 9, 9), "2 groups do not divide 3 channels"),
        (Convolution("C3", 3, 3, groups=2), (4, 9, 9), "4 channels and 3 filters"),
        (Convolution("C3", 3, 3, dilation=2), (1, 4, 9), "a window of 5 does not fit 4 pixels"),
        (
            Convolution("C3", 3, 5, padding=(0, 0, 1, 0)),
            (1, 3, 9),
            r"with padding \(0, 1\)",
        ),
        (Convolution("C3", 3, 3), (84,), r"takes images \(C,H,W\), is given the shape \(84,\)"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(layer, shape, problem):
    with pytest.raises(ConfigError, match=f"^layer C3: .*{problem}.*; "):
        layer.build(shape)

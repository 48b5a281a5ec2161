"""Pooling and unpooling: against the slides and loops, with ties, rests and overlaps."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracles import (
    EXAMPLES,
    assert_gradient,
    average_pooling,
    batch_first,
    batch_last,
    max_pooling,
    ready,
)

from lenet.errors import ConfigError
from lenet.nn.network import Network
from lenet.nn.pooling import AveragePooling, GlobalAveragePooling, MaxPooling
from lenet.nn.unpooling import MaxUnpooling, RepeatUnpooling

WINDOWS = [
    ((2, 2), (2, 2)),
    ((2, 2), (1, 1)),
    ((3, 3), (2, 2)),
    ((3, 2), (1, 2)),
    ((1, 1), (1, 1)),
    ((2, 2), (3, 3)),
    ((5, 7), (5, 7)),
]
windows = pytest.mark.parametrize(("kernel", "stride"), WINDOWS)
SHAPE = (2, 5, 7)  # odd: most windows leave a rest at the edge

IMAGES = {
    "all different": np.random.default_rng(0).permutation(3 * 70).reshape(3, *SHAPE) * 1.0,
    "many ties": np.random.default_rng(0).integers(-1, 2, (3, *SHAPE)) * 1.0,
    "blank": np.zeros((3, *SHAPE)),
    "negative": -1 - np.random.default_rng(0).integers(0, 3, (3, *SHAPE)) * 1.0,
}
images = pytest.mark.parametrize("x", IMAGES.values(), ids=IMAGES)


@pytest.mark.parametrize("example", EXAMPLES["max_pooling"], ids=lambda e: f"stride {e['stride']}")
def test_the_slides(example):
    # At stride 2 the slide prints 3 at row 1, column 1, where the maximum is 4.
    x = np.array(example["x"], float)
    layer = ready(MaxPooling("S", example["window"], example["stride"]), (1, *x.shape), N=1)
    assert_array_equal(layer.forward(x[None, :, :, None])[0, :, :, 0], example["y"])


@windows
@images
def test_the_first_maximum_gets_the_gradient(x, kernel, stride):
    layer = ready(MaxPooling("S", kernel, stride), SHAPE, N=3)
    y, source = max_pooling(x, kernel, stride)
    assert_array_equal(batch_first(layer.forward(batch_last(x))), y)
    dy = np.random.default_rng(1).integers(-9, 10, y.shape) * 1.0
    dx = np.zeros_like(x)
    for window, pixel in source.items():
        dx[pixel] += dy[window]
    assert_array_equal(batch_first(layer.backward(batch_last(dy))), dx)
    assert dx.sum() == dy.sum()  # no gradient is counted twice, and none is lost


OPTIONS = {
    "padding": {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)},
    "padding, other on each side": {"kernel": (3, 2), "stride": (1, 2), "padding": (2, 0, 1, 1)},
    "rounded up": {"kernel": (2, 2), "stride": (2, 2), "round_up": True},
    "rounded up, overlapping": {"kernel": (3, 3), "stride": (2, 2), "round_up": True},
    "rounded up, nothing left over": {"kernel": (3, 3), "stride": (2, 4), "round_up": True},
    "rounded up, padding": {
        "kernel": (3, 2),
        "stride": (3, 2),
        "padding": (1, 1),
        "round_up": True,
    },
    "rounded up, gaps": {"kernel": (1, 1), "stride": (3, 3), "round_up": True},
    "dilation": {"kernel": (2, 3), "stride": (1, 1), "dilation": (3, 2)},
    "everything": {
        "kernel": (3, 2),
        "stride": (2, 2),
        "padding": (1, 1, 2, 1),
        "dilation": (2, 2),
        "round_up": True,
    },
}
options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def assert_averages(x, options):
    layer = ready(AveragePooling("S", **options), x.shape[1:], N=len(x))
    y, shares = average_pooling(x, **options)
    assert_allclose(batch_first(layer.forward(batch_last(x))), y, rtol=1e-13, atol=1e-14)
    # The mean's gradient: a share of δ for every pixel.
    dy = np.random.default_rng(1).standard_normal(y.shape)
    dx = np.zeros_like(x)
    for window, pixels in shares.items():
        for pixel, share in pixels.items():
            dx[pixel] += dy[window] * share
    assert_allclose(batch_first(layer.backward(batch_last(dy))), dx, rtol=1e-12, atol=1e-14)


@windows
def test_averages(kernel, stride):
    x = IMAGES["all different"]
    assert_averages(x, {"kernel": kernel, "stride": stride})
    y, _ = average_pooling(x, kernel, stride)
    assert y[1, 1, 0, 0] == pytest.approx(x[1, 1, : kernel[0], : kernel[1]].mean())


@options
@pytest.mark.parametrize("count_padding", [True, False])
def test_averages_with_padding(options, count_padding):
    assert_averages(IMAGES["all different"], {**options, "count_padding": count_padding})


@options
@images
def test_the_first_maximum_with_padding(x, options):
    """Padding is never the maximum, not even of negative numbers."""
    layer = ready(MaxPooling("S", **options), SHAPE, N=3)
    y, source = max_pooling(x, **options)
    dy = np.random.default_rng(1).integers(-9, 10, y.shape) * 1.0
    dx, back = np.zeros_like(x), np.zeros_like(x)
    for window, pixel in source.items():
        dx[pixel] += dy[window]
        back[pixel] += y[window]
    for N in (3, 1, 3):  # what surrounds the image must survive a smaller batch
        layer.allocate(N, np.float64)
        assert_array_equal(batch_first(layer.forward(batch_last(x[:N]))), y[:N])
        assert_array_equal(batch_first(layer.backward(batch_last(dy[:N]))), dx[:N])
    unpooling = ready(MaxUnpooling("U", layer), layer.output_shape, N=3)
    assert_array_equal(batch_first(unpooling.forward(batch_last(y))), back)
    r = batch_last(np.random.default_rng(2).standard_normal(x.shape))
    left = np.vdot(unpooling.forward(batch_last(dy)), r)
    assert left == pytest.approx(np.vdot(batch_last(dy), unpooling.backward(r)), rel=1e-12)


def test_rounding_up_as_caffe_does():
    """⌈(H + 2p − k)/s⌉ + 1 windows, unless the last would begin behind image and padding."""
    for size, kernel, stride, padding in np.ndindex(12, 5, 5, 3):
        size, kernel, stride = size + 1, kernel + 1, stride + 1
        if kernel > size + 2 * padding or padding >= kernel:
            continue
        expected = -(-(size + 2 * padding - kernel) // stride) + 1
        if (expected - 1) * stride >= size + padding:
            expected -= 1
        layer = MaxPooling("S", (kernel, 1), (stride, 1), (padding, 0), round_up=True)
        assert layer.build((1, size, 1)) == (1, expected, 1)


def test_the_stride_is_the_window_unless_given():
    assert MaxPooling("S", (2, 3)).stride == (2, 3)
    assert AveragePooling("S", 3, stride=1).stride == (1, 1)


def test_small_shifts_are_tolerated():
    """A stroke that moves within its windows leaves the pooled image as it is."""
    x = np.zeros((1, 6, 6, 2))
    x[0, 1:5, 2, 0] = x[0, 1:5, 3, 1] = 1
    y = ready(MaxPooling("S", 2), (1, 6, 6), N=2).forward(x)
    assert_array_equal(y[..., 0], y[..., 1])


# --- Unpooling ----------------------------------------------------------------------------------


@windows
@images
def test_unpooling_puts_the_numbers_back(x, kernel, stride):
    pooling = MaxPooling("S", kernel, stride)
    y, source = max_pooling(x, kernel, stride)
    network = Network([pooling, MaxUnpooling("U", pooling)], SHAPE, np.float64)
    back = np.zeros_like(x)
    for window, pixel in source.items():
        back[pixel] += y[window]
    for N in (3, 1, 3):  # a smaller batch, and a full one again
        assert_array_equal(batch_first(network.forward(batch_last(x[:N]))), back[:N])


def test_unpooling_gradient():
    """The switches are given, so the layer is linear in what it puts back."""
    pooling = ready(MaxPooling("S", 3, 2), SHAPE, N=2)
    pooling.forward(batch_last(IMAGES["many ties"][:2]))
    layer = ready(MaxUnpooling("U", pooling), pooling.output_shape, N=2)
    rng = np.random.default_rng(1)
    x, r = rng.standard_normal(pooling.y.shape), rng.standard_normal((*SHAPE, 2))
    assert layer.forward(x).shape == r.shape
    assert_gradient(lambda: float(np.vdot(r, layer.forward(x))), x, layer.backward(r).copy())


@pytest.mark.parametrize("factor", [(2, 2), (1, 3)])
def test_repetition(factor):
    x = np.random.default_rng(0).standard_normal((3, 14, 14, 2))
    layer = ready(RepeatUnpooling("U", factor), (3, 14, 14), N=2)
    expected = x.repeat(factor[0], axis=1).repeat(factor[1], axis=2)
    assert_array_equal(layer.forward(x), expected)
    # Its gradient adds up what the copies get: the adjoint of repeating.
    dy = np.random.default_rng(1).standard_normal(expected.shape)
    assert np.vdot(expected, dy) == pytest.approx(np.vdot(x, layer.backward(dy)), rel=1e-12)


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"^layer S2: a window of 3 does not fit 2 pixels"):
        MaxPooling("S2", 3).build((4, 2, 5))
    with pytest.raises(ConfigError, match=r"^layer S2: takes images"):
        AveragePooling("S2", 2).build((84,))
    with pytest.raises(ConfigError, match=r"^layer S2: padding: leaves windows without a pixel"):
        MaxPooling("S2", 2, padding=2).build((4, 6, 6))
    with pytest.raises(ConfigError, match=r"^layer S2: padding: .* is \(1, 2, 3\); give a number"):
        MaxPooling("S2", 2, padding=(1, 2, 3))
    with pytest.raises(ConfigError, match=r"^layer S2: kernel: must be one or two integers of 1"):
        MaxPooling("S2", 0)
    pooling = MaxPooling("S2", 2)
    pooling.build((4, 6, 6))
    with pytest.raises(ConfigError, match=r"^layer U: is given \(4, 6, 6\), but S2 pools to"):
        MaxUnpooling("U", pooling).build((4, 6, 6))
    with pytest.raises(ConfigError, match=r"^layer U: takes images"):
        RepeatUnpooling("U", 2).build((84,))


@pytest.mark.parametrize("shape", [(3, 1, 1), (2, 5, 7), (4, 8, 8)])
def test_global_average_pooling_is_the_mean_of_every_channel(shape):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(6, *shape))
    layer = ready(GlobalAveragePooling("S"), shape, N=6)
    y = batch_first(layer.forward(batch_last(x)))
    assert_allclose(y, x.mean(axis=(2, 3), keepdims=True), rtol=1e-12)
    dy = rng.normal(size=y.shape)
    dx = batch_first(layer.backward(batch_last(dy)))
    assert_allclose(dx, np.broadcast_to(dy / (shape[1] * shape[2]), x.shape), rtol=1e-12)
    assert layer.output_shape == (shape[0], 1, 1)


def test_a_vector_has_no_global_average():
    with pytest.raises(ConfigError, match="S"):
        GlobalAveragePooling("S").build((10,))

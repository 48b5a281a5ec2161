"""The fused layers, compared with the plain layers that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from lenet.errors import ConfigError
from lenet.models.lenet5 import lenet5
from lenet.models.specification import Specification, expanded
from lenet.nn.activations import FUNCTIONS, Activation
from lenet.nn.convolution import Convolution
from lenet.nn.fused import FUSED, fuse
from lenet.nn.linear import Linear
from lenet.nn.losses import SoftmaxCrossEntropy
from lenet.nn.network import Network
from lenet.nn.pooling import AveragePooling, MaxPooling
from lenet.nn.unpooling import MaxUnpooling

N = 3
both_poolings = pytest.mark.parametrize("pooling", FUSED, ids=lambda pooling: pooling.__name__)


def three(F=3, kernel=3, function="relu", pooling=MaxPooling, **options):
    between = [Activation("A", function)] if function else []
    return [Convolution("C", F, kernel, **options), *between, pooling("S", 2)]


def step(layers, x, draw, needs_dx=True):
    """Run one pass forward and back; return y, the gradients, and ∂E/∂x if ``needs_dx``."""
    network = Network(layers, x.shape[:-1], np.float64)
    layers[0].needs_dx = needs_dx
    draw(network.parameters)
    y = network.forward(x)
    dy = np.random.default_rng(1).integers(-4, 5, y.shape) * 1.0
    dx = dy
    for layer in reversed(layers):
        dx = layer.backward(dx)
    return [y, network.gradients, *([dx] if needs_dx else [])]


def normal(parameters):
    parameters[:] = np.random.default_rng(2).standard_normal(parameters.size)


def integers(parameters):
    """Products and sums of integers are exact: equal numbers are equal in any order of addition."""
    parameters[:] = np.random.default_rng(2).integers(-2, 3, parameters.size)


def assert_same(x, draw=normal, **options):
    plain, fused = three(**options), fuse(three(**options))
    assert [type(layer) for layer in fused] == [FUSED[type(plain[-1])]]
    for one, other in zip(step(plain, x, draw), step(fused, x, draw), strict=True):
        assert_allclose(other, one, rtol=1e-12, atol=1e-12)


KERNELS = [1, 2, 3, 4, 5, (1, 4), (5, 2)]


@both_poolings
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("padding", [0, 1, 2, 3, (0, 3), (2, 1)])
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_outputs_and_gradients(kernel, padding, function, pooling):
    """Even and odd sizes: an odd last row or column of the convolution is left out."""
    for H, W in [(6, 8), (7, 6), (6, 7), (9, 7)]:
        x = np.random.default_rng(0).standard_normal((2, H, W, N))
        assert_same(x, kernel=kernel, padding=padding, function=function, pooling=pooling)


@pytest.mark.parametrize("padding", [0, 2, (0, 3)])
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_max_pooling_directly_after_the_convolution(kernel, padding):
    """Caffe's LeNet has no activation between them."""
    for H, W in [(6, 8), (9, 7)]:
        x = np.random.default_rng(0).standard_normal((2, H, W, N))
        assert_same(x, kernel=kernel, padding=padding, function=None)
        assert_same(np.round(x), integers, kernel=kernel, padding=padding, function=None)


def test_the_layers_of_caffes_lenet():
    layers = [
        Convolution("conv1", 20, 5),
        MaxPooling("pool1", 2),
        Convolution("conv2", 50, 5),
        MaxPooling("pool2", 2),
        Linear("ip1", 500),
        Activation("relu1", "relu"),
        Linear("ip2", 10),
    ]
    plain = Network(layers, (1, 28, 28), np.float64)
    plain.initialize(np.random.default_rng(0))
    fused = plain.rebuilt(fused=True)
    assert [type(layer).__name__ for layer in fused.executed[:3]] == [
        "FusedMaxPooling",
        "FusedMaxPooling",
        "Linear",
    ]
    assert fused.parameters.size == 431_080
    x = np.random.default_rng(1).random((1, 28, 28, 2))
    dz = np.random.default_rng(2).standard_normal((10, 2))
    for network in (plain, fused):
        network.forward(x)
        network.backward(dz)
    assert_allclose(fused.gradients, plain.gradients, rtol=1e-9, atol=1e-12)


@both_poolings
@pytest.mark.parametrize("F", [1, 15, 16, 17])
@pytest.mark.parametrize("kernel", [3, 5])  # patches of 27 and of 75
@pytest.mark.parametrize("block", [1, 700, 10**9])
def test_any_number_of_filters_and_blocks(F, kernel, block, pooling):
    x = np.random.default_rng(0).standard_normal((3, 7, 8, N))
    assert_same(x, F=F, kernel=kernel, block=block, pooling=pooling)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (2, 1)])
def test_images_smaller_than_their_padding(size):
    x = np.random.default_rng(0).standard_normal((2, *size, N))
    for kernel in (1, 2, 3, 4):
        assert_same(x, kernel=kernel, padding=3, function="tanh")


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("padding", [0, 2])
def test_ties_go_to_the_first(function, padding):
    """Blank images, blots on blank ones, and images of few levels: ties are the normal case."""
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2, (2, 9, 8, 5)) * 1.0
    x[..., 0] = 0
    x[..., 1] = 1
    x[:, :, 2:, 2] = 0
    for kernel in KERNELS:
        assert_same(x, integers, kernel=kernel, padding=padding, function=function)


def test_all_the_gradient_of_a_blank_image_goes_to_the_first_place():
    [layer] = layers = fuse(three(F=1, kernel=1, function="tanh"))
    _, _, dx = step(layers, np.zeros((1, 4, 4, 1)), lambda w: w.fill(0.5))
    assert (dx[:, ::2, ::2] != 0).any()
    dx[:, ::2, ::2] = 0
    assert_array_equal(dx, 0)
    assert layer.name == "C"


def test_windows_with_nothing_positive():
    """ReLU's output is zero all over, and so is the gradient."""

    def sunk(parameters):
        parameters.fill(-1.0)

    x = np.random.default_rng(0).random((2, 7, 6, N))
    assert_same(x, sunk)
    y, gradients, dx = step(fuse(three()), x, sunk)
    for array in (y, gradients, dx):
        assert_array_equal(array, 0)


def test_no_dx_where_it_is_not_needed():
    x = np.random.default_rng(0).standard_normal((2, 8, 8, N))
    _, expected, _ = step(fuse(three()), x, normal)
    layers = fuse(three())
    _, gradients = step(layers, x, normal, needs_dx=False)
    assert_array_equal(gradients, expected)
    assert not hasattr(layers[0], "dx")


@both_poolings
def test_changing_batches_leave_nothing_behind(pooling):
    """The zeros around the images must survive a smaller batch and a full one again."""
    x = np.random.default_rng(0).standard_normal((2, 7, 8, 6))
    plain, fused = (
        Network(layers, (2, 7, 8), np.float64)
        for layers in (three(padding=2, pooling=pooling), fuse(three(padding=2, pooling=pooling)))
    )
    for network in (plain, fused):
        network.executed[0].needs_dx = True
        normal(network.parameters)
    for n in (6, 2, 6, 5, 1, 6):
        y = plain.forward(x[..., :n])
        assert_allclose(fused.forward(x[..., :n]), y, rtol=1e-12, atol=1e-12)
        dx = y
        for layer in reversed(plain.executed):
            dx = layer.backward(dx)
        assert_allclose(fused.executed[0].backward(y.copy()), dx, rtol=1e-12, atol=1e-12)
        assert_allclose(fused.gradients, plain.gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_ten_steps_of_training(function, pooling):
    """LeNet-5 whole, with blank images and a smaller last batch every third step."""
    rng = np.random.default_rng(0)
    x = rng.random((1, 32, 32, 8)) * (rng.random((1, 32, 32, 8)) < 0.3)
    x[..., :2] = 0
    labels = rng.integers(0, 10, 8)
    options = {"dtype": np.float64, "activation": function, "pooling": pooling}
    plain, fused = (lenet5(fused=way, **options) for way in (False, True))
    for network in (plain, fused):
        network.initialize(np.random.default_rng(1))
        loss = SoftmaxCrossEntropy(10)
        velocity = np.zeros_like(network.parameters)
        for i in range(10):
            n = 5 if i % 3 == 2 else 8
            loss.forward(network.forward(x[..., :n]), labels[:n])
            network.backward(loss.backward())
            velocity *= 0.9
            velocity += network.gradients
            network.parameters -= 0.02 * velocity
    scale = np.abs(plain.parameters).max()
    assert_allclose(fused.parameters, plain.parameters, rtol=0, atol=1e-12 * scale)


# --- The pass over the layer list ---------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_parameters_keep_their_names_and_places(pooling):
    plain, fused = (lenet5(fused=way, pooling=pooling) for way in (False, True))
    assert len(fused.executed) == len(plain.executed) - 4
    assert [(p.name, p.shape) for p in fused.parameter_list] == [
        (p.name, p.shape) for p in plain.parameter_list
    ]
    assert_array_equal(fused.decays, plain.decays)


LEFT_ALONE = {
    "stride": three(stride=2),
    "groups": three(groups=2, F=4),
    "a flipped kernel": three(flip=True),
    "groups and average pooling": three(groups=2, F=4, pooling=AveragePooling),
    "overlapping windows": [*three()[:2], MaxPooling("S", 2, stride=1)],
    "larger windows": [*three()[:2], MaxPooling("S", 3)],
    "dilation": three(dilation=2),
    "a table of connections": three(table=[[0], [1], [0, 1]]),
    "other padding below than above": three(padding=(0, 1, 1, 1)),
    "pooling with padding": [*three()[:2], MaxPooling("S", 2, padding=1)],
    "pooling that rounds up": [*three()[:2], AveragePooling("S", 2, round_up=True)],
    "pooling with dilation": [*three()[:2], MaxPooling("S", 2, dilation=2)],
    "no activation, groups": three(groups=2, F=4, function=None),
    "no activation, overlapping windows": [three()[0], MaxPooling("S", 3, stride=2)],
    "the mean of a table": three(table=[[0], [1], [0, 1]], function=None, pooling=AveragePooling),
    "a derived class": [*three()[:2], type("Own", (MaxPooling,), {})("S", 2)],
    "a layer between": [three()[0], three()[1], Activation("B", "tanh"), three()[2]],
    "a linear layer": [Linear("F", 3), *three()[1:]],
}


@pytest.mark.parametrize("layers", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_the_fused_layer_cannot_do_is_left_as_it_is(layers):
    assert fuse(layers) == layers


def test_pooling_before_the_activation():
    [fused, activation] = fuse([three()[0], three()[2], three()[1]])
    assert isinstance(fused, FUSED[MaxPooling])
    assert isinstance(activation, Activation)


def test_a_pooling_layer_whose_switches_are_used_is_left_as_it_is():
    layers = three()
    layers.append(MaxUnpooling("U", layers[2]))
    assert fuse(layers) == layers
    x = np.random.default_rng(0).standard_normal((2, 6, 6, N))
    assert Network(fuse(layers), (2, 6, 6), np.float64).forward(x).shape == (3, 4, 4, N)


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"^layer C: a window of 5 does not fit 4 pixels"):
        fuse(three(kernel=5))[0].build((1, 4, 9))
    with pytest.raises(ConfigError, match=r"^layer S: a window of 2 does not fit 1 pixels"):
        fuse(three(kernel=5))[0].build((1, 5, 9))
    with pytest.raises(ConfigError, match=r"^layer C: takes images"):
        fuse(three())[0].build((84,))


AVERAGED = [
    {"filters": 4, "kernel": 3},
    {"filters": 4, "kernel": (2, 5), "padding": (1, 2)},
    {"filters": 4, "kernel": 1},
    {"filters": 4, "kernel": 5, "padding": 2, "groups": 2},
]


def test_a_specification_has_them_as_one_convolution():
    entries = [
        {"type": "convolution", "filters": 3, "kernel": 3},
        {"type": "average_pooling"},
        {"type": "linear", "units": 2},
    ]
    layers = Specification((1, 8, 8), expanded(entries)).build(fused=True).executed
    assert [type(layer).__name__ for layer in layers] == ["AveragedConvolution", "Linear"]


@pytest.mark.parametrize("options", AVERAGED, ids=str)
@pytest.mark.parametrize("size", [(8, 8), (9, 7)], ids=str)
def test_convolution_and_average_pooling_are_one_convolution(options, size):
    rng = np.random.default_rng(7)
    plain, fused = (
        Network(make([Convolution("C", **options), AveragePooling("S")]), (2, *size), np.float64)
        for make in (list, fuse)
    )
    assert [type(layer).__name__ for layer in fused.executed] == ["AveragedConvolution"]
    plain.initialize(rng)
    np.copyto(fused.parameters, plain.parameters)
    for network in (plain, fused):
        for layer in network.executed:
            layer.needs_dx = True
    for n in (5, 2, 5):  # a smaller last batch, then a whole one again
        x = rng.normal(size=(2, *size, n))
        y, expected = fused.forward(x), plain.forward(x)
        assert_allclose(y, expected, rtol=0, atol=1e-12)
        dy = rng.normal(size=y.shape)
        dx = fused.executed[0].backward(dy)
        conv, mean = plain.executed
        assert_allclose(dx, conv.backward(mean.backward(dy)), rtol=0, atol=1e-12)
        assert_allclose(fused.gradients, plain.gradients, rtol=0, atol=1e-12)

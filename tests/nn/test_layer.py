"""Every layer with each of its options: its gradient, and the contract of lenet/nn/layer.py.

The forward pass is compared with independent oracles in the test file of the layer; given that,
central differences check the backward pass.
"""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracles import assert_layer_gradients, ready

from lenet.nn.activations import FUNCTIONS, Activation
from lenet.nn.convolution import Convolution
from lenet.nn.dropout import Dropout
from lenet.nn.fused import FUSED, AveragedConvolution
from lenet.nn.linear import Linear
from lenet.nn.normalisation import BatchNormalization
from lenet.nn.pooling import AveragePooling, MaxPooling
from lenet.nn.rbf import RBF
from lenet.nn.subsampling import Subsampling
from lenet.nn.transposed import TransposedConvolution
from lenet.nn.unpooling import RepeatUnpooling

IMAGE = (2, 6, 7)


def conv(F, kernel, **options):
    return lambda: Convolution("L", F, kernel, **options)


def fused(function, F, kernel, pooling=MaxPooling, **options):
    return lambda: FUSED[pooling](
        Convolution("L", F, kernel, **options),
        Activation("L.activation", function) if function else None,
        pooling("P", 2),
    )


LAYERS = {
    "conv": (conv(3, 3), IMAGE),
    "conv rectangular": (conv(3, (2, 4)), IMAGE),
    "conv stride 2, a rest at the edge": (conv(3, 3, stride=2), IMAGE),
    "conv stride (1, 3)": (conv(3, (3, 2), stride=(1, 3)), IMAGE),
    "conv stride beyond the kernel": (conv(3, 2, stride=3), IMAGE),
    "conv padding 1": (conv(3, 3, padding=1), IMAGE),
    "conv padding (2, 0)": (conv(3, 3, padding=(2, 0)), IMAGE),
    "conv padding beyond the kernel": (conv(2, (1, 2), padding=3), IMAGE),
    "conv stride and padding": (conv(3, 3, stride=2, padding=1), IMAGE),
    "conv groups": (conv(6, 3, groups=2), (4, 5, 6)),
    "conv groups, depthwise": (conv(3, 3, groups=3, padding=1), (3, 5, 6)),
    "conv flipped": (conv(3, (3, 2), flip=True), IMAGE),
    "conv with everything": (
        conv(4, (3, 2), stride=(2, 1), padding=(1, 2), groups=2, flip=True, block=100),
        (4, 6, 5),
    ),
    "conv 1x1": (conv(3, 1), IMAGE),
    "conv 1x1 groups": (conv(4, 1, groups=2), (4, 3, 5)),
    "conv 1x1 stride 2": (conv(3, 1, stride=2), IMAGE),
    "conv 1x1 padding 1": (conv(3, 1, padding=1), IMAGE),
    "conv whole image": (conv(5, (6, 7)), IMAGE),
    "conv whole image, groups": (conv(4, 3, groups=2), (4, 3, 3)),
    "conv whole image, flipped, stride 2": (conv(3, 3, stride=2, flip=True), (2, 3, 3)),
    "conv a column a block": (conv(3, 3, block=1), IMAGE),
    "conv several blocks": (conv(3, 3, padding=1, block=1000), IMAGE),
    "conv 1x1, several blocks": (conv(4, 1, groups=2, block=100), (4, 3, 5)),
    "transposed": (lambda: TransposedConvolution("L", 3, 3), (2, 4, 5)),
    "transposed stride": (lambda: TransposedConvolution("L", 3, (3, 2), stride=(2, 3)), (2, 3, 4)),
    "transposed padding": (
        lambda: TransposedConvolution("L", 3, 3, stride=2, padding=(1, 2)),
        (2, 3, 4),
    ),
    "max": (lambda: MaxPooling("L", 2), (2, 4, 6)),
    "max with a rest": (lambda: MaxPooling("L", 2), (2, 5, 7)),
    "max overlapping": (lambda: MaxPooling("L", 3, stride=2), IMAGE),
    "max rectangular": (lambda: MaxPooling("L", (2, 3), stride=(1, 2)), IMAGE),
    "max with gaps": (lambda: MaxPooling("L", 2, stride=3), IMAGE),
    "average": (lambda: AveragePooling("L", 2), (2, 4, 6)),
    "average with a rest": (lambda: AveragePooling("L", 2), (2, 5, 7)),
    "average overlapping": (lambda: AveragePooling("L", (3, 2), stride=(2, 1)), IMAGE),
    "repeat": (lambda: RepeatUnpooling("L", 2), (2, 3, 4)),
    "repeat rectangular": (lambda: RepeatUnpooling("L", (3, 2)), (2, 3, 4)),
    "conv dilation": (conv(3, 2, dilation=(3, 2)), IMAGE),
    "conv padding, other on each side": (conv(3, 3, padding=(0, 1, 2, 0)), IMAGE),
    "conv table": (conv(3, 3, table=[[0], [1, 0], [1]]), IMAGE),
    "conv table, flipped, several blocks": (
        conv(3, (3, 2), table=[[0], [1], [1, 0]], flip=True, stride=2, padding=1, block=100),
        IMAGE,
    ),
    "conv table, whole image": (conv(2, (6, 7), table=[[0], [1]]), IMAGE),
    "transposed groups": (lambda: TransposedConvolution("L", 4, 3, groups=2), (2, 3, 4)),
    "transposed with everything": (
        lambda: TransposedConvolution(
            "L",
            4,
            (2, 3),
            stride=(3, 2),
            padding=(0, 1, 2, 1),
            output_padding=(2, 1),
            groups=2,
            dilation=2,
        ),
        (4, 3, 2),
    ),
    "max padding": (lambda: MaxPooling("L", 3, stride=2, padding=1), IMAGE),
    "max rounded up, dilation": (
        lambda: MaxPooling("L", 2, stride=3, padding=(0, 1, 1, 0), dilation=2, round_up=True),
        IMAGE,
    ),
    "average padding": (lambda: AveragePooling("L", 3, stride=2, padding=1), IMAGE),
    "average padding, not counted": (
        lambda: AveragePooling("L", 3, stride=2, padding=(1, 0, 2, 1), count_padding=False),
        IMAGE,
    ),
    "average rounded up": (lambda: AveragePooling("L", 2, stride=3, round_up=True), IMAGE),
    "subsampling": (lambda: Subsampling("L", 2), (3, 4, 6)),
    "subsampling overlapping": (lambda: Subsampling("L", (3, 2), stride=(1, 2)), IMAGE),
    "dropout": (lambda: Dropout("L", 0.3), IMAGE),
    "dropout of vectors": (lambda: Dropout("L", 0.5), (11,)),
    "normalisation": (lambda: BatchNormalization("L"), IMAGE),
    "RBF": (lambda: RBF("L"), (84,)),
    "RBF on images": (lambda: RBF("L", [[1, 0, -1, 2], [0.5, 1, 1, 0]]), (2, 2, 1)),
    "linear": (lambda: Linear("L", 4), (5,)),
    "linear on images": (lambda: Linear("L", 4), (2, 3, 2)),
    **{name: (lambda name=name: Activation("L", name), IMAGE) for name in FUNCTIONS},
    **{f"fused {name}": (fused(name, 3, 3), IMAGE) for name in FUNCTIONS},
    "fused without activation": (fused(None, 3, 3, padding=1), IMAGE),
    "mean as one convolution": (
        lambda: AveragedConvolution(Convolution("L", 3, 3, padding=1), AveragePooling("P", 2)),
        IMAGE,
    ),
    "fused 5x5": (fused("tanh", 3, 5), (2, 8, 9)),
    "fused even kernel": (fused("tanh", 3, (4, 2), padding=(0, 1)), (2, 8, 7)),
    "fused padding": (fused("tanh", 2, 3, padding=(1, 3)), (2, 4, 5)),
    "fused sixteen filters, several blocks": (fused("tanh", 16, 2, block=500), (2, 4, 5)),
    **{f"fused {name}, average": (fused(name, 3, 3, AveragePooling), IMAGE) for name in FUNCTIONS},
    "fused padding, average": (fused("tanh", 2, 3, AveragePooling, padding=(1, 3)), (2, 4, 5)),
}
every_layer = pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)


def images(shape, N, dtype=np.float64, seed=3):
    return np.random.default_rng([seed, N]).standard_normal((*shape, N)).astype(dtype)


def run(layer, N):
    """The outputs of one forward and backward pass: y, ∂E/∂x and the gradients."""
    x = images(layer.shape, N)
    y = layer.forward(x).copy()
    dx = layer.backward(images(y.shape[:-1], N, seed=4)).copy()
    return [y, dx, *(p.gradient.copy() for p in layer.parameters)]


@every_layer
def test_gradients_against_central_differences(make, shape):
    layer = ready(make(), shape, N=2)
    assert_layer_gradients(layer, images(shape, 2), kinks=0.02)


@every_layer
def test_a_smaller_batch_and_a_full_one_again(make, shape):
    """Nothing stale may be left in a buffer that changes its size."""
    layer = ready(make(), shape, N=5)
    for N in (5, 2, 5, 7, 1):
        layer.allocate(N, np.float64)
        fresh = ready(make(), shape, N)
        for again, once in zip(run(layer, N), run(fresh, N), strict=True):
            assert_allclose(again, once, rtol=1e-12, atol=1e-13)


@every_layer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shapes_types_and_what_must_not_be_written_to(make, shape, dtype):
    layer = make()
    output_shape = layer.build(shape)
    ready(layer, shape, 3, dtype=dtype)
    x = images(shape, 3, dtype)
    y = layer.forward(x)
    assert y.shape == (*output_shape, 3)
    dy = images(output_shape, 3, dtype)
    dx = layer.backward(dy)
    assert dx.shape == x.shape
    for array in (y, dx):
        assert array.dtype == dtype
        assert array.flags.c_contiguous
    assert_array_equal(x, images(shape, 3, dtype))
    assert_array_equal(dy, images(output_shape, 3, dtype))
    for p in layer.parameters:
        assert p.gradient.shape == p.value.shape == p.shape
        assert not np.isnan(p.gradient).any()


with_parameters = [
    name for name, (make, shape) in LAYERS.items() if ready(make(), shape, 1).parameters
]


@pytest.mark.parametrize("name", with_parameters)
def test_no_dx_where_it_is_not_needed(name):
    make, shape = LAYERS[name]
    full, partial = make(), make()
    partial.needs_dx = False
    x = images(shape, 2)
    dy = images(full.build(shape), 2)
    for layer in (full, partial):
        ready(layer, shape, 2).forward(x)
    assert full.backward(dy) is not None
    assert partial.backward(dy) is None
    for p, q in zip(full.parameters, partial.parameters, strict=True):
        assert_array_equal(p.gradient, q.gradient)


def test_weights_decay_and_biases_do_not():
    for name in with_parameters:
        make, shape = LAYERS[name]
        layer = ready(make(), shape, 1)
        weight, bias = layer.parameters
        assert (weight.name, bias.name) == ("L.weight", "L.bias")
        # The scale of batch normalisation is no weight: it starts at 1 and does not decay.
        assert weight.decays is not isinstance(layer, BatchNormalization)
        assert not bias.decays


@every_layer
def test_a_copy_is_built_and_works_by_itself(make, shape):
    """What ``allocate`` and ``forward`` set is not copied, and not needed."""
    layer = ready(make(), shape, N=3)
    expected = run(layer, 3)
    copies = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
    for other in copies:
        other.allocate(3, np.float64)
        for again, once in zip(run(other, 3), expected, strict=True):
            assert_array_equal(again, once)


@every_layer
def test_evaluation_mode_has_its_gradient_too(make, shape):
    layer = ready(make(), shape, N=2)
    layer.training = False
    assert_layer_gradients(layer, images(shape, 2), kinks=0.02)


# --- The options of the constructor ---------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "Convolution('C1', filters=6, kernel=5)",
        "Convolution('C1', filters=2, kernel=[3, 1], padding=[0, 0, 1, 1], table=[[0], [0, 1]])",
        "Linear('F6', units=84, initializer='he', lr_mult=[1.0, 2.0])",
        "MaxPooling('S2')",
        "MaxPooling('S2', kernel=3, stride=2, round_up=True)",
        "AveragePooling('S2', stride=1, count_padding=False)",
        "Subsampling('S2', stride=1)",
        "Activation('C1.activation', function='lecun_tanh')",
        "RBF('R7', centres=[[0.0, 1.0], [1.0, 0.0]])",
        "RBF('R7')",
        "RepeatUnpooling('U1', kernel=[2, 3])",
        "Dropout('D', rate=0.25)",
        "BatchNormalization('B')",
        "TransposedConvolution('T1', filters=3, kernel=2, stride=2, output_padding=[1, 0])",
    ],
)
def test_a_layer_prints_as_the_call_that_makes_it(text):
    made = eval(text)
    assert repr(made) == text


def test_a_layer_that_does_not_store_its_options_prints_its_name():
    class Own(Linear):
        def __init__(self, name: str, hidden: int) -> None:
            super().__init__(name, units=2 * hidden)

    assert repr(Own("F1", 3)) == "Own('F1')"
    assert Linear("F1", 3).options() == {"units": 3}

"""Transposed convolution: the adjoint of the convolution, and SciPy's full convolution."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from oracles import ready
from scipy.signal import convolve2d

from lenet.errors import ConfigError
from lenet.nn.convolution import Convolution
from lenet.nn.transposed import TransposedConvolution

rng = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ((3, 3), (1, 1), (0, 0)),
        ((3, 3), (2, 2), (0, 0)),
        ((3, 2), (2, 1), (1, 0)),
        ((2, 4), (1, 2), (1, 3)),
        ((1, 1), (1, 1), (0, 0)),
        ((2, 2), (3, 3), (0, 0)),
    ],
)
def test_it_is_the_adjoint_of_the_convolution(kernel, stride, padding):
    """⟨conv(x), y⟩ = ⟨x, transposed(y)⟩ with the same kernel, and no bias."""
    transposed = ready(TransposedConvolution("T", 2, kernel, stride, padding), (3, 4, 3), N=2)
    shape = (2, transposed.Ho, transposed.Wo)
    conv = ready(Convolution("C", 3, kernel, stride, padding), shape, N=2)
    conv.weight.value[...] = transposed.weight.value
    conv.bias.value[...] = transposed.bias.value[...] = 0
    x, y = rng.standard_normal((*shape, 2)), rng.standard_normal((3, 4, 3, 2))
    left, right = np.vdot(conv.forward(x), y), np.vdot(x, transposed.forward(y))
    assert left == pytest.approx(right, rel=1e-12)
    # Run forward, it is the convolution's backward pass; and the other way round.
    assert_allclose(transposed.forward(y), conv.backward(y), rtol=1e-12, atol=1e-12)
    assert_allclose(transposed.backward(x), conv.forward(x), rtol=1e-12, atol=1e-12)


OPTIONS = {
    "groups": {"kernel": (3, 2), "groups": 2},
    "dilation": {"kernel": (2, 3), "stride": (2, 1), "dilation": (3, 2)},
    "output padding": {"kernel": (3, 3), "stride": (2, 3), "output_padding": (1, 2)},
    "output padding, padding": {
        "kernel": (3, 3),
        "stride": (2, 2),
        "padding": (1, 0, 1, 1),
        "output_padding": (1, 1),
    },
    "everything": {
        "kernel": (2, 3),
        "stride": (3, 2),
        "padding": (0, 1, 2, 1),
        "output_padding": (2, 1),
        "groups": 2,
        "dilation": (2, 2),
    },
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_it_is_the_adjoint_of_the_convolution_with_every_option(options):
    """The convolution with the same options has H again for what H was enlarged to."""
    transposed = ready(TransposedConvolution("T", 2, **options), (4, 4, 3), N=2)
    shape = (2, transposed.Ho, transposed.Wo)
    forward = {k: v for k, v in options.items() if k != "output_padding"}
    conv = ready(Convolution("C", 4, **forward), shape, N=2)
    assert (conv.Ho, conv.Wo) == (4, 3)
    conv.weight.value[...] = transposed.weight.value
    conv.bias.value[...] = transposed.bias.value[...] = 0
    x, y = rng.standard_normal((*shape, 2)), rng.standard_normal((4, 4, 3, 2))
    assert_allclose(transposed.forward(y), _backward(conv, x, y), rtol=1e-12, atol=1e-12)
    assert_allclose(transposed.backward(x), conv.forward(x), rtol=1e-12, atol=1e-12)
    assert_allclose(transposed.weight.gradient, conv.weight.gradient, rtol=1e-12, atol=1e-12)


def _backward(conv, x, dz):
    conv.forward(x)
    return conv.backward(dz)


def test_at_stride_1_it_is_the_full_convolution():
    x = rng.standard_normal((2, 5, 6, 1))
    layer = ready(TransposedConvolution("T", 3, (3, 2)), (2, 5, 6), N=1)
    y = layer.forward(x)
    for f in range(3):
        full = sum(convolve2d(x[c, :, :, 0], layer.weight.value[c, f], "full") for c in range(2))
        assert_allclose(y[f, :, :, 0], full + layer.bias.value[f], rtol=1e-12)


def test_stride_2_kernel_2_doubles_an_image():
    """14×14 to 28×28, as the slides enlarge it; a kernel of ones repeats every pixel."""
    x = rng.standard_normal((1, 14, 14, 2))
    layer = ready(TransposedConvolution("T", 1, 2, stride=2), (1, 14, 14), N=2)
    layer.weight.value[...], layer.bias.value[...] = 1, 0
    assert_allclose(layer.forward(x), x.repeat(2, axis=1).repeat(2, axis=2), rtol=1e-12)


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"^layer T: .*leaves nothing of the output"):
        TransposedConvolution("T", 1, 3, padding=2).build((1, 2, 5))
    with pytest.raises(ConfigError, match=r"^layer T: takes images"):
        TransposedConvolution("T", 1, 3).build((84,))


def test_options_that_do_not_fit_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"^layer T: 2 groups do not divide 3 channels and 2"):
        TransposedConvolution("T", 2, 3, groups=2).build((3, 4, 4))
    with pytest.raises(
        ConfigError, match=r"^layer T: output_padding: is \(2, 2\) at stride \(2, 2\)"
    ):
        TransposedConvolution("T", 2, 3, stride=2, output_padding=2)


def test_multiply_adds_and_connections():
    layer = TransposedConvolution("T", 3, (3, 2))
    assert layer.build((2, 5, 6)) == (3, 7, 7)
    assert layer.multiply_adds == 2 * 3 * (3 * 2) * (5 * 6)
    assert layer.weight.shape == (2, 3, 3, 2)

"""The affine layer, against a float64 einsum."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from oracles import EXAMPLES, ready

from lenet.nn.linear import Linear


@pytest.mark.parametrize("shape", [(12,), (2, 3, 2)])
def test_against_einsum(shape):
    rng = np.random.default_rng(0)
    layer = ready(Linear("F", 5), shape, N=4)
    x, dz = rng.standard_normal((*shape, 4)), rng.standard_normal((5, 4))
    w, b, flat = layer.weight.value, layer.bias.value, x.reshape(12, 4)
    assert_allclose(layer.forward(x), np.einsum("fd,dn->fn", w, flat) + b[:, None], rtol=1e-12)
    dx = layer.backward(dz)
    assert_allclose(dx.reshape(12, 4), np.einsum("fd,fn->dn", w, dz), rtol=1e-12)
    assert_allclose(layer.weight.gradient, np.einsum("fn,dn->fd", dz, flat), rtol=1e-12)
    # The plain sum over the batch, not the mean: 1/N is in dz already.
    assert_allclose(layer.bias.gradient, np.einsum("fn->f", dz), rtol=1e-12)


def test_an_image_is_read_in_the_order_of_its_filter():
    """A linear layer on images is a convolution whose kernel is the whole image."""
    from lenet.nn.convolution import Convolution

    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    conv, linear = ready(Convolution("C", 6, (3, 4)), (2, 3, 4), 5), Linear("F", 6)
    ready(linear, (2, 3, 4), 5)
    linear.weight.value[...] = conv.weight.value.reshape(6, -1)
    linear.bias.value[...] = conv.bias.value
    assert_allclose(linear.forward(x), conv.forward(x).reshape(6, 5), rtol=1e-12)


def test_the_count_that_weight_sharing_saves():
    """The slides' (28·28)² weights between two images, against 26 of a 5×5 kernel."""
    layer = Linear("F", 28 * 28)
    layer.build((1, 28, 28))
    assert layer.weight.size == EXAMPLES["parameters"]["fully_connected_28x28"]
    assert (layer.patch_matrix, layer.multiply_adds) == ((1, 784), 784 * 784)
    assert (layer.weight.fan_in, layer.weight.fan_out) == (784, 784)

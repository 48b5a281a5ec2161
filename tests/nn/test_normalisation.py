"""Batch normalisation: the formula, the running averages, evaluation, and copies."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracles import assert_layer_gradients, ready

from lenet.errors import ConfigError
from lenet.nn.convolution import Convolution
from lenet.nn.linear import Linear
from lenet.nn.network import Network
from lenet.nn.normalisation import BatchNormalization

SHAPES = pytest.mark.parametrize("shape", [(3, 4, 5), (6,)], ids=str)


def rows(x):
    return x.reshape(len(x), -1)


@SHAPES
def test_in_training_the_batch_is_normalised(shape):
    layer = ready(BatchNormalization("B", epsilon=1e-3), shape, N=7)
    x = 5 + 3 * np.random.default_rng(0).standard_normal((*shape, 7))
    y = layer.forward(x)
    for c, values in enumerate(rows(x)):
        expected = (values - values.mean()) / (values.var() + 1e-3) ** 0.5
        expected = layer.weight.value[c] * expected + layer.bias.value[c]
        assert_allclose(rows(y)[c], expected, rtol=1e-12, atol=1e-12)


@SHAPES
@pytest.mark.parametrize("training", [True, False])
def test_gradients(shape, training):
    layer = ready(BatchNormalization("B"), shape, N=7)
    layer.training = training
    layer.mean[...], layer.variance[...] = 0.3, 2.5
    assert_layer_gradients(layer, np.random.default_rng(0).standard_normal((*shape, 7)))


def test_it_starts_as_the_normalisation_alone():
    network = Network([BatchNormalization("B")], (2, 3, 3), np.float64)
    network.initialize(np.random.default_rng(0))
    y = network.forward(np.random.default_rng(1).uniform(3, 9, (2, 3, 3, 50)))
    assert_allclose(y.mean(axis=(1, 2, 3)), 0, atol=1e-12)
    assert_allclose(y.var(axis=(1, 2, 3)), 1, rtol=1e-4)
    assert not network.decays.any()


@SHAPES
def test_the_running_averages_and_evaluation(shape):
    layer = ready(BatchNormalization("B", momentum=0.2), shape, N=7)
    rng = np.random.default_rng(0)
    mean, variance = np.zeros(shape[0]), np.ones(shape[0])
    for _ in range(4):
        x = 5 + 3 * rng.standard_normal((*shape, 7))
        layer.forward(x)
        mean = 0.8 * mean + 0.2 * rows(x).mean(axis=1)
        variance = 0.8 * variance + 0.2 * rows(x).var(axis=1, ddof=1)
    assert_allclose(layer.state["mean"], mean, rtol=1e-12)
    assert_allclose(layer.state["variance"], variance, rtol=1e-12)
    layer.training = False
    x = rng.standard_normal((*shape, 7))
    y = layer.forward(x)
    scale = layer.weight.value / np.sqrt(variance + 1e-5)
    expected = scale[:, None] * (rows(x) - mean[:, None]) + layer.bias.value[:, None]
    assert_allclose(rows(y), expected, rtol=1e-12, atol=1e-12)
    assert_allclose(layer.state["mean"], mean, rtol=1e-12)  # evaluation changes nothing


def test_a_single_value():
    """No variance, and none divided by zero."""
    layer = ready(BatchNormalization("B"), (3,), N=1)
    y = layer.forward(np.array([[1.0], [2.0], [3.0]]))
    assert_array_equal(y[:, 0], layer.bias.value)
    assert_array_equal(layer.backward(np.ones((3, 1))), 0)
    assert_allclose(layer.variance, 0.9)


def trained():
    layers = [Convolution("C", 3, 3), BatchNormalization("B"), Linear("F", 2)]
    network = Network(layers, (1, 5, 5), np.float64)
    network.initialize(np.random.default_rng(0))
    network.forward(np.random.default_rng(1).standard_normal((1, 5, 5, 8)))
    return network


def test_the_state_by_name():
    network = trained()
    state = network.state_arrays()
    assert list(state) == ["B.mean", "B.variance"]
    assert state["B.mean"] is network.layers[1].mean
    assert (state["B.mean"] != 0).all()


@pytest.mark.parametrize("make", [copy.deepcopy, Network.rebuilt], ids=["deepcopy", "rebuilt"])
def test_copies_have_a_state_of_their_own(make):
    network = trained()
    before = {name: array.copy() for name, array in network.state_arrays().items()}
    other = make(network)
    x = np.random.default_rng(2).standard_normal((1, 5, 5, 8))
    with network.evaluating(), other.evaluating():
        assert_array_equal(other.forward(x), network.forward(x))
    other.forward(x)
    for name, array in network.state_arrays().items():
        assert_array_equal(array, before[name])
        assert (other.state_arrays()[name] != array).all()


@pytest.mark.parametrize(
    "options", [{"momentum": 0}, {"momentum": 1.1}, {"epsilon": 0}, {"epsilon": "small"}]
)
def test_options_that_are_none(options):
    [option] = options
    with pytest.raises(ConfigError, match=f"^layer B: {option}: must be a number > 0"):
        BatchNormalization("B", **options)

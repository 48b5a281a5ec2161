"""The activations, against the functions as they are written in textbooks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracles import ready

from lenet.errors import ConfigError
from lenet.nn.activations import FUNCTIONS, Activation

TEXTBOOK = {
    "relu": lambda x: max(x, 0.0),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
    "lecun_tanh": lambda x: 1.7159 * math.tanh(2 * x / 3),
}
DERIVATIVES = {
    "relu": lambda x: float(x > 0),
    "sigmoid": lambda x: math.exp(-x) / (1 + math.exp(-x)) ** 2,
    "tanh": lambda x: 1 / math.cosh(x) ** 2,
    "lecun_tanh": lambda x: 1.7159 * 2 / 3 / math.cosh(2 * x / 3) ** 2,
}
X = np.concatenate([np.linspace(-8, 8, 41), [-1e-300, 0.0, -0.0, 1e-300]])
each = pytest.mark.parametrize("name", TEXTBOOK)


def test_all_of_them():
    assert list(TEXTBOOK) == list(FUNCTIONS)


@each
def test_values_and_derivatives(name):
    """At zero ReLU's derivative is 0, by convention."""
    layer = ready(Activation("A", name), (3, 3), N=5)
    x = X.reshape(3, 3, 5)
    assert_allclose(layer.forward(x).ravel(), [TEXTBOOK[name](v) for v in X], rtol=1e-12, atol=0)
    dy = np.random.default_rng(0).standard_normal(x.shape)
    expected = dy * np.reshape([DERIVATIVES[name](v) for v in X], x.shape)
    assert_allclose(layer.backward(dy), expected, rtol=1e-9, atol=1e-12)


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_out_nothing_overflows(name, dtype):
    x = np.array([-1e30, -1000, -90, 90, 1000, 1e30], dtype).reshape(1, 1, 6)
    layer = ready(Activation("A", name), (1, 1), N=6, dtype=dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y = layer.forward(x).copy()
        dx = layer.backward(np.ones_like(x))
    assert np.isfinite(y).all()
    assert np.isfinite(dx).all()
    assert (dx >= 0).all()


@each
def test_non_decreasing(name):
    """This is what lets an activation change places with max pooling."""
    x = np.linspace(-20, 20, 4001).reshape(1, 1, -1)
    y = ready(Activation("A", name), (1, 1), N=4001).forward(x)
    assert (np.diff(y) >= 0).all()


@each
def test_in_place(name):
    function = FUNCTIONS[name]((3, 15), np.dtype(np.float64))
    x = X.reshape(3, 15)
    y, place = np.empty_like(x), x.copy()
    function.apply(x, out=y)
    function.apply(place, out=place)
    assert_array_equal(y, place)


@pytest.mark.parametrize(("name", "remedy"), [("rellu", r"did you mean relu\?"), ("x", "choose")])
def test_an_unknown_function(name, remedy):
    message = f"^layer A: activation: must be relu, .* or lecun_tanh, is '{name}'; {remedy}"
    with pytest.raises(ConfigError, match=message):
        Activation("A", name)


def test_lecun_tanh_keeps_plus_and_minus_one():
    layer = ready(Activation("A", "lecun_tanh"), (1, 1), N=2)
    assert_allclose(layer.forward(np.array([[[-1.0, 1.0]]])), [[[-1.0, 1.0]]], atol=1e-4)

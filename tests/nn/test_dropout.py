"""Dropout: how many, which, and the same ones for one worker and for several."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracles import ready

from lenet.errors import ConfigError
from lenet.nn.dropout import Dropout
from lenet.nn.linear import Linear
from lenet.nn.network import Network
from lenet.nn.randomness import RandomKey


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 0.9])
def test_the_share_and_the_scale(rate):
    layer = ready(Dropout("D", rate), (50, 20), N=40)
    y = layer.forward(np.ones((50, 20, 40)))
    assert set(np.unique(y)) <= {0.0, 1 / (1 - rate)}
    dropped = (y == 0).mean()
    assert abs(dropped - rate) < 6 * (rate * (1 - rate) / y.size) ** 0.5 + 1e-12
    assert_array_equal(layer.backward(np.ones_like(y)), y)  # the same ones, the same factor


def test_images_and_units_are_dropped_independently():
    layer = ready(Dropout("D", 0.5), (64,), N=256)
    kept = (layer.forward(np.ones((64, 256))) > 0).astype(float)
    for matrix in (kept, kept.T):
        correlation = np.corrcoef(matrix)[np.triu_indices(len(matrix), 1)]
        assert np.abs(correlation).max() < 0.6
        assert abs(correlation.mean()) < 0.02


def test_evaluation_is_the_identity():
    layer = ready(Dropout("D", 0.5), (7,), N=3)
    layer.training = False
    x = np.random.default_rng(0).standard_normal((7, 3))
    assert_array_equal(layer.forward(x), x)
    assert_array_equal(layer.backward(x), x)


def network():
    made = Network([Linear("F1", 40), Dropout("D1"), Linear("F2", 30), Dropout("D2")], (5,))
    made.initialize(np.random.default_rng(0))
    return made


def test_every_step_seed_and_layer_drops_others():
    made = network()
    x = np.random.default_rng(1).random((5, 8), np.float32)
    seen = []
    for seed, step in [(0, 0), (0, 1), (1, 0)]:
        made.set_step(seed, step)
        seen.append(made.forward(x) == 0)
        assert_array_equal(made.forward(x) == 0, seen[-1])  # and the same step the same
    assert all((one != other).any() for one, other in zip(seen, seen[1:] + seen[:1], strict=True))
    first, second = made.layers[1].random, made.layers[3].random
    assert (first, second) == (RandomKey(1, 0, 0, 1), RandomKey(1, 0, 0, 3))


def test_two_workers_drop_the_same_units_as_one():
    x = np.random.default_rng(1).random((5, 9), np.float32)
    whole = network()
    whole.set_step(seed=3, step=17)
    y = whole.forward(x)
    dz = np.random.default_rng(2).random((30, 9), np.float32)
    whole.backward(dz)
    gradients = []
    for part in (slice(0, 5), slice(5, 9)):
        worker = network()
        worker.set_step(seed=3, step=17, first_image=part.start)
        mine = worker.forward(np.ascontiguousarray(x[:, part]))
        assert_array_equal(mine == 0, y[:, part] == 0)
        worker.backward(np.ascontiguousarray(dz[:, part]))
        gradients.append(worker.gradients)
    assert_allclose(sum(gradients), whole.gradients, rtol=1e-4, atol=1e-5)


def test_fused_or_not_the_same_units_are_dropped():
    from lenet.nn.convolution import Convolution
    from lenet.nn.pooling import MaxPooling

    layers = [Convolution("C", 3, 3), MaxPooling("S", 2), Dropout("D"), Linear("F", 4)]
    fused = Network(layers, (1, 8, 8), np.float64, fused=True)
    fused.initialize(np.random.default_rng(0))
    assert len(fused.executed) == 3
    plain = fused.rebuilt(fused=False)
    x = np.random.default_rng(1).standard_normal((1, 8, 8, 6))
    for made in (fused, plain):
        made.set_step(step=4)
    assert_allclose(plain.forward(x), fused.forward(x), rtol=1e-12)


def test_predict_drops_nothing():
    made = network()
    images = np.random.default_rng(1).random((4, 5, 1, 1), np.float32)
    assert made.training
    assert_allclose(made.predict(images), made.predict(images, batch=1), rtol=1e-5)
    assert made.training


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan"), "half", None])
def test_what_is_no_rate(rate):
    with pytest.raises(ConfigError, match=r"^layer D: rate: must be a number >= 0 and"):
        Dropout("D", rate)

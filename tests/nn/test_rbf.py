"""The RBF layer and the loss of the first LeNet-5."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracles import assert_gradient, ready

from lenet.errors import ConfigError, DataError, OrderError
from lenet.nn.linear import Linear
from lenet.nn.losses import MAPLoss
from lenet.nn.network import Network
from lenet.nn.rbf import DIGIT_BITMAPS, RBF


def test_squared_distances():
    layer = ready(RBF("R"), (84,), N=5)
    x = np.random.default_rng(0).standard_normal((84, 5))
    expected = [[((x[:, n] - w) ** 2).sum() for n in range(5)] for w in DIGIT_BITMAPS]
    assert_allclose(layer.forward(x), expected, rtol=1e-12)


def test_the_bitmaps():
    assert DIGIT_BITMAPS.shape == (10, 7 * 12)
    assert set(DIGIT_BITMAPS.ravel()) == {-1.0, 1.0}
    differ = (DIGIT_BITMAPS[:, None] != DIGIT_BITMAPS).sum(axis=2) + 84 * np.eye(10, dtype=int)
    assert differ.min() == 15
    one = DIGIT_BITMAPS[1].reshape(12, 7)
    assert_array_equal(one[5] > 0, [False, False, False, True, True, False, False])
    layer = ready(RBF("R"), (84,), N=10)
    assert_array_equal(np.diag(layer.forward(DIGIT_BITMAPS.T.copy())), 0)


def test_counts():
    layer = RBF("R")
    assert layer.build((84,)) == (10,)
    assert layer.parameters == ()
    assert layer.connections == layer.multiply_adds == 840


def test_centres_of_ones_own():
    layer = ready(RBF("R", [[0, 0], [3, 4]]), (2, 1, 1), N=1)
    assert_allclose(layer.forward(np.zeros((2, 1, 1, 1))), [[0], [25]])


@pytest.mark.parametrize("centres", [[], [[]], [1, 2], [[1], [1, 2]], [["a"]], [[float("nan")]], 3])
def test_what_are_no_centres(centres):
    with pytest.raises(ConfigError, match=r"^layer R: centres: is not a table of numbers; give a"):
        RBF("R", centres)


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"^layer R: has centres of 84 numbers, is given 80"):
        RBF("R").build((80,))
    with pytest.raises(ConfigError, match=r"^layer R: centres: must be digits, is 'letters'"):
        RBF("R", "letters")


# --- The loss -----------------------------------------------------------------------------------


def distances(N=7, seed=0):
    rng = np.random.default_rng(seed)
    return 4 * rng.random((10, N)), rng.integers(0, 10, N)


@pytest.mark.parametrize("j", [0.1, 1.0, 3.0])
def test_the_formula_of_the_paper(j):
    """Eq. 9: the mean of y_d + ln(e^−j + Σ e^−y)."""
    y, labels = distances()
    expected = np.mean(
        [
            y[label, n] + np.log(np.exp(-j) + np.exp(-y[:, n]).sum())
            for n, label in enumerate(labels)
        ]
    )
    loss = MAPLoss(10, j)
    assert loss.forward(y, labels) == pytest.approx(expected, rel=1e-12)
    assert loss.correct == (y.argmin(axis=0) == labels).sum()
    assert_gradient(lambda: loss.forward(y, labels), y, loss.backward().copy())


def test_class_weights():
    y, labels = distances(N=9)
    weights = np.linspace(0, 2, 10)
    loss = MAPLoss(10, class_weights=weights)
    one_by_one = [MAPLoss(10).forward(y[:, [n]], labels[n : n + 1]) for n in range(9)]
    expected = sum(weights[labels[n]] * one_by_one[n] for n in range(9)) / 9
    assert loss.forward(y, labels) == pytest.approx(expected, rel=1e-12)
    assert_gradient(lambda: loss.forward(y, labels), y, loss.backward().copy())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_away_nothing_overflows(dtype):
    y = np.array([[1e4, 0], [2e4, 1e4]], dtype)
    loss = MAPLoss(2, j=1)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert loss.forward(y, np.array([0, 1])) == pytest.approx((1e4 - 1 + 1e4 + 0.31326) / 2)
        assert np.isfinite(loss.backward()).all()
        assert loss.backward().dtype == dtype


def test_the_parts_of_a_batch_add_up():
    y, labels = distances(N=9)
    whole = MAPLoss(10)
    total = whole.forward(y, labels)
    parts = [slice(0, 4), slice(4, 9)]
    losses = [MAPLoss(10) for _ in parts]
    sums = [
        loss.forward(np.ascontiguousarray(y[:, part]), labels[part], batch=9)
        for loss, part in zip(losses, parts, strict=True)
    ]
    assert sum(sums) == pytest.approx(total, rel=1e-12)
    assert_allclose(np.hstack([loss.backward() for loss in losses]), whole.backward(), rtol=1e-12)


def test_a_tie_is_correct_for_the_first_class_only():
    loss = MAPLoss(3)
    y = np.array([[1.0, 1, 2], [1, 1, 0], [2, 1, 0]])
    loss.forward(y, np.array([1, 0, 2]))
    assert loss.correct == 1


def test_what_is_refused():
    loss = MAPLoss(10)
    with pytest.raises(OrderError, match=r"^loss: backward was called before forward"):
        loss.backward()
    with pytest.raises(DataError, match=r"^label 2: is 10, not a class from 0 to 9"):
        loss.forward(np.ones((10, 3)), np.array([0, 9, 10]))


def test_probabilities_are_highest_where_the_distance_is_smallest():
    network = Network([Linear("F6", 84), RBF("R")], (1, 4, 4), np.float64)
    network.initialize(np.random.default_rng(0))
    images = np.random.default_rng(1).standard_normal((6, 1, 4, 4))
    y = network.forward(np.ascontiguousarray(images.transpose(1, 2, 3, 0)))
    expected = np.exp(-y) / np.exp(-y).sum(axis=0)
    assert_array_equal(network.scores(y), -y)
    assert_allclose(MAPLoss(10).probabilities(y), expected, rtol=1e-9)
    probabilities = network.predict(images)
    assert_allclose(probabilities, expected.T, rtol=1e-9)
    assert_array_equal(probabilities.argmax(axis=1), y.argmin(axis=0))


def test_it_learns():
    """Forty random images, with the output layer fixed."""
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((1, 6, 6, 40)), rng.integers(0, 10, 40)
    network = Network([Linear("F6", 84), RBF("R")], (1, 6, 6), np.float64)
    network.initialize(rng, "lecun1998")
    loss = MAPLoss(10)
    for _ in range(200):
        loss.forward(network.forward(x), labels)
        network.backward(loss.backward())
        network.parameters -= 0.02 * network.gradients
    loss.forward(network.forward(x), labels)
    assert loss.correct == 40

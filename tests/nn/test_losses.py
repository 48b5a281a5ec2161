"""Softmax and cross-entropy, against SciPy and central differences."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracles import assert_gradient
from scipy.special import log_softmax, softmax

from lenet.errors import DataError, OrderError
from lenet.nn.losses import SoftmaxCrossEntropy

SMOOTHING = pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])


def scores(classes=10, N=7, seed=0):
    rng = np.random.default_rng(seed)
    return 3 * rng.standard_normal((classes, N)), rng.integers(0, classes, N)


def targets(labels, classes, smoothing):
    """1 − ε for the label, plus ε/classes for all."""
    return (1 - smoothing) * np.eye(classes)[:, labels] + smoothing / classes


@SMOOTHING
def test_against_scipy(smoothing):
    z, labels = scores()
    Y = targets(labels, 10, smoothing)
    loss = SoftmaxCrossEntropy(10, smoothing)
    expected = -(Y * log_softmax(z, axis=0)).sum() / 7
    assert loss.forward(z, labels) == pytest.approx(expected, rel=1e-12)
    assert_allclose(loss.probs, softmax(z, axis=0), rtol=1e-12)
    assert_allclose(loss.backward(), (softmax(z, axis=0) - Y) / 7, rtol=1e-9, atol=1e-15)


@SMOOTHING
def test_gradient_against_central_differences(smoothing):
    z, labels = scores()
    loss = SoftmaxCrossEntropy(10, smoothing)
    loss.forward(z, labels)
    assert_gradient(lambda: loss.forward(z, labels), z, loss.backward().copy())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_enormous_scores(dtype):
    """The maximum is subtracted before exp: the loss of a wrong answer is the difference."""
    z = np.array([[1e4, -1e4], [-1e4, 1e4], [0, 0]], dtype)
    loss = SoftmaxCrossEntropy(3)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert loss.forward(z, np.array([0, 0])) == 1e4  # the mean of 0 and 20,000
        assert_array_equal(loss.backward(), [[0, -0.5], [0, 0.5], [0, 0]])


def test_equal_scores_cost_the_logarithm_of_the_classes():
    assert SoftmaxCrossEntropy(10).forward(np.zeros((10, 4)), np.arange(4)) == np.log(10)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
@pytest.mark.parametrize("N", [64, 300])
def test_labels_of_any_integer_type(dtype, N):
    """Labels come as bytes from IDX files; 9·64 does not fit one."""
    z, labels = scores(N=N)
    expected = -log_softmax(z, axis=0)[labels, np.arange(N)].mean()
    loss = SoftmaxCrossEntropy(10)
    assert loss.forward(z, labels.astype(dtype)) == pytest.approx(expected, rel=1e-12)
    expected_dz = (softmax(z, axis=0) - np.eye(10)[:, labels]) / N
    assert_allclose(loss.backward(), expected_dz, rtol=1e-9, atol=1e-15)


def test_changing_batches():
    loss = SoftmaxCrossEntropy(10, 0.1)
    for N in (7, 3, 7, 9):
        z, labels = scores(N=N, seed=N)
        again = SoftmaxCrossEntropy(10, 0.1)
        assert loss.forward(z, labels) == again.forward(z, labels)
        assert_array_equal(loss.backward(), again.backward())


@SMOOTHING
def test_the_parts_of_a_batch_add_up(smoothing):
    """Workers take uneven parts of a batch; losses and gradients add up to those of the whole."""
    z, labels = scores(N=9)
    whole = SoftmaxCrossEntropy(10, smoothing)
    total = whole.forward(z, labels)
    parts = [slice(0, 4), slice(4, 9)]
    losses = [SoftmaxCrossEntropy(10, smoothing) for _ in parts]
    sums = [
        loss.forward(np.ascontiguousarray(z[:, part]), labels[part], batch=9)
        for loss, part in zip(losses, parts, strict=True)
    ]
    assert sum(sums) == pytest.approx(total, rel=1e-12)
    assert_allclose(np.hstack([loss.backward() for loss in losses]), whole.backward(), rtol=1e-12)


WEIGHTS = np.array([0.5, 2, 0, 1, 1, 3, 1, 1, 1, 0.1])


@SMOOTHING
def test_class_weights_against_scipy_and_central_differences(smoothing):
    z, labels = scores(N=30)
    loss = SoftmaxCrossEntropy(10, smoothing, WEIGHTS)
    losses = -(targets(labels, 10, smoothing) * log_softmax(z, axis=0)).sum(axis=0)
    expected = sum(WEIGHTS[y] * e for y, e in zip(labels, losses, strict=True)) / 30
    assert loss.forward(z, labels) == pytest.approx(expected, rel=1e-12)
    assert_gradient(lambda: loss.forward(z, labels), z, loss.backward().copy())
    assert not loss.backward()[:, labels == 2].any()


def test_weights_of_one_change_no_bit():
    z, labels = scores(N=30)
    plain, weighted = SoftmaxCrossEntropy(10), SoftmaxCrossEntropy(10, class_weights=np.ones(10))
    assert plain.forward(z, labels) == weighted.forward(z, labels)
    assert_array_equal(plain.backward(), weighted.backward())


def test_an_image_of_weight_two_counts_as_two():
    z, labels = scores(N=6)
    weighted = SoftmaxCrossEntropy(10, class_weights=np.where(np.arange(10) == labels[0], 2.0, 1))
    twice = np.flatnonzero(labels == labels[0])
    doubled = SoftmaxCrossEntropy(10)
    both = np.append(np.arange(6), twice)
    expected = doubled.forward(z[:, both], labels[both], batch=6)
    assert weighted.forward(z, labels) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("label", [-1, 10, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_labels_out_of_range(label, dtype):
    z, labels = scores(N=7)
    labels = labels.astype(dtype)
    labels[4] = np.array(label).astype(dtype)
    message = f"^label 4: is {labels[4]}, not a class from 0 to 9; "
    with pytest.raises(DataError, match=message):
        SoftmaxCrossEntropy(10).forward(z, labels)


@pytest.mark.parametrize(
    "labels", [np.zeros(1, int), np.zeros((20, 1), int), np.zeros(20), np.int64(3), [[1]]]
)
def test_labels_that_are_not_an_integer_an_image(labels):
    with pytest.raises(DataError, match=r"^labels: must be 20 integers, one per image, are "):
        SoftmaxCrossEntropy(10).forward(np.zeros((10, 20)), labels)


def test_a_tie_is_correct_for_the_first_class_only():
    """As in evaluation, where argmax takes the first of equals."""
    loss = SoftmaxCrossEntropy(3)
    z = np.array([[1.0, 1, 0], [1, 1, 2], [0, 1, 2]])
    answers = z.argmax(axis=0)
    for labels in ([0, 0, 1], [1, 0, 2], [1, 2, 2], [2, 1, 0]):
        loss.forward(z, np.array(labels))
        assert loss.correct == np.sum(answers == labels)


def test_backward_before_forward():
    with pytest.raises(OrderError, match=r"^loss: backward was called before forward; "):
        SoftmaxCrossEntropy(10).backward()

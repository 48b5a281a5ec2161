"""Muon: against a singular value decomposition, and Nesterov's rule for everything else."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from lenet.models.lenet5 import lenet5
from lenet.optim import Muon, Nesterov, hyperparameters, make_optimizer
from lenet.optim.muon import COEFFICIENTS

MATRICES = [(3, 4, 6), (29, 6, 4)]  # of 60 numbers, the others are no matrices
SIZE = 60


def after(steps=1, **options):
    """The parameters before, after, and the gradients, of a few steps."""
    rng = np.random.default_rng(0)
    w, gradients = rng.normal(size=SIZE), rng.normal(size=(steps, SIZE))
    before = w.copy()
    muon = Muon(SIZE, np.float64, matrices=MATRICES, **options)
    for t, g in enumerate(gradients, start=1):
        muon.step(w, g, 0.1, t)
    return before, w, gradients


def outside():
    mask = np.ones(SIZE, bool)
    for start, rows, columns in MATRICES:
        mask[start : start + rows * columns] = False
    return mask


@pytest.mark.parametrize("matrix", MATRICES)
def test_a_matrix_moves_along_the_singular_vectors_of_its_gradient(matrix):
    start, rows, columns = matrix
    part = slice(start, start + rows * columns)
    before, w, gradients = after(iterations=5, matrix_rate=1.0)
    step = (before - w)[part].reshape(rows, columns) / 0.1 / max(1, rows / columns) ** 0.5
    U, sizes, Vt = np.linalg.svd(gradients[0, part].reshape(rows, columns), full_matrices=False)
    moved = U.T @ step @ Vt.T  # the step in the directions of the gradient
    assert_allclose(moved - np.diag(np.diag(moved)), 0, atol=1e-12)
    a, b, c = COEFFICIENTS
    expected = sizes / np.linalg.norm(sizes)
    for _ in range(5):  # the iteration, on the singular values alone
        expected = a * expected + b * expected**3 + c * expected**5
    assert_allclose(np.diag(moved), expected, rtol=1e-6)
    assert (expected > 0.6).all()
    assert (expected < 1.3).all()


def test_everything_else_moves_by_nesterovs_rule():
    before, w, gradients = after(steps=3, weight_decay=0.01)
    other = before.copy()
    nesterov = Nesterov(SIZE, np.float64, weight_decay=0.01)
    for t, g in enumerate(gradients, start=1):
        nesterov.step(other, g, 0.1, t)
    assert_array_equal(w[outside()], other[outside()])
    assert (w[~outside()] != other[~outside()]).all()


def test_weight_decay_of_a_matrix_is_decoupled():
    before, plain, _ = after()
    _, decayed, _ = after(weight_decay=0.01)
    inside = ~outside()
    assert_allclose((plain - decayed)[inside], 0.1 * 0.01 * before[inside], rtol=1e-9)


def test_parts_that_cut_no_matrix_give_the_same_step():
    _, whole, gradients = after()
    rng = np.random.default_rng(0)
    w = rng.normal(size=SIZE)
    muon = Muon(SIZE, np.float64, matrices=MATRICES)
    for part in (slice(0, 29), slice(29, None)):
        muon.step(w, gradients[0], 0.1, 1, part)
    assert_array_equal(w, whole)


def test_the_matrices_of_a_network_are_those_of_its_hidden_layers():
    network = lenet5()
    starts, start = {}, 0
    for p in network.parameter_list:
        starts[p.name], start = start, start + p.size
    assert network.matrices == [
        (starts["C1.weight"], 6, 25),
        (starts["C3.weight"], 16, 150),
        (starts["C5.weight"], 120, 400),
        (starts["F6.weight"], 84, 120),
    ]


def test_its_hyperparameters_are_its_own():
    assert list(hyperparameters(Muon)) == ["momentum", "matrix_rate", "iterations"]
    muon = make_optimizer("muon", SIZE, matrices=MATRICES, matrix_rate=0.5)
    assert isinstance(muon, Muon)
    assert (muon.matrix_rate, muon.iterations) == (0.5, 3)

"""Random stacks of layers: gradients, the fused form, copies, and two sizes of batches."""

from __future__ import annotations

import copy

import numpy as np
from hypothesis import given, settings
from numpy.testing import assert_allclose, assert_array_equal
from random_stacks import stacks

from lenet.nn.gradcheck import check_gradients, check_identities
from lenet.nn.network import Network


def step(network, x, dz):
    z = network.forward(x).copy()
    network.backward(dz)
    return z, network.gradients.copy()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(stacks())
def test_a_stack(stack):
    layers, shape = stack
    plain = Network(layers, shape, np.float64)
    plain.initialize(np.random.default_rng(0), "glorot")
    plain.set_step(seed=1, step=2)
    rng = np.random.default_rng(1)
    x, dz = rng.standard_normal((*shape, 5)), rng.standard_normal((3, 5))
    others = [plain.rebuilt(fused=True), copy.deepcopy(plain)]
    for n in (5, 2, 5):  # a smaller last batch, and a full one again
        z, gradients = step(plain, np.ascontiguousarray(x[..., :n]), dz[:, :n].copy())
        for other in others:
            again = step(other, np.ascontiguousarray(x[..., :n]), dz[:, :n].copy())
            assert_allclose(again[0], z, rtol=0, atol=1e-9 * max(1, np.abs(z).max()))
            scale = max(1, np.abs(gradients).max())
            assert_allclose(again[1], gradients, rtol=0, atol=1e-9 * scale)
    for name, array in plain.state_arrays().items():
        assert_allclose(others[0].state_arrays()[name], array, rtol=1e-9, atol=1e-12)
    images = np.ascontiguousarray(x.transpose(3, 0, 1, 2))
    assert_array_equal(plain.predict(images), plain.predict(images))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(stacks())
def test_the_gradients_of_a_stack(stack):
    layers, shape = stack
    network = Network(layers, shape, np.float64, fused=True)
    network.initialize(np.random.default_rng(0), "glorot")
    checks = [*check_gradients(network), *check_identities(network)]
    assert [str(check) for check in checks if not check.passed] == []

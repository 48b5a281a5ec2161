"""Trainable subsampling: the sum of a window, times w, plus b; and the counts of the paper."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from oracles import ready

from lenet.errors import ConfigError
from lenet.nn.subsampling import Subsampling


@pytest.mark.parametrize(("kernel", "stride"), [(2, None), ((2, 3), None), (3, (1, 2))])
def test_against_loops(kernel, stride):
    layer = ready(Subsampling("S", kernel, stride), (3, 6, 7), N=2)
    x = np.random.default_rng(0).standard_normal((3, 6, 7, 2))
    y = layer.forward(x)
    (kh, kw), (sh, sw) = layer.kernel, layer.stride
    assert y.shape == (3, (6 - kh) // sh + 1, (7 - kw) // sw + 1, 2)
    for c, i, j, n in np.ndindex(y.shape):
        window = x[c, i * sh : i * sh + kh, j * sw : j * sw + kw, n]
        expected = layer.weight.value[c] * window.sum() + layer.bias.value[c]
        assert_allclose(y[c, i, j, n], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "weights", "connections"), [((6, 28, 28), 12, 5880), ((16, 10, 10), 32, 2000)]
)
def test_the_counts_of_the_paper(shape, weights, connections):
    """S2 and S4 of LeCun et al. (1998), II.B."""
    layer = Subsampling("S", 2)
    C, H, W = shape
    assert layer.build(shape) == (C, H // 2, W // 2)
    assert sum(p.size for p in layer.parameters) == weights
    assert layer.connections == connections
    assert layer.weight.fan_in == 4
    assert layer.patch_matrix == (C * H * W // 4, 4)


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"^layer S: a window of 3 does not fit 2 pixels"):
        Subsampling("S", 3).build((4, 2, 5))

"""Initialisation, against the variances derived in the papers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lenet.nn.initializers import INITIALIZERS, he

SHAPE = (120, 400)  # C5's weights: 48,000 draws
FAN_IN, FAN_OUT = 400, 120


def draw(name: str, seed: int = 0, dtype=np.float64):
    return INITIALIZERS[name](np.random.default_rng(seed), SHAPE, FAN_IN, FAN_OUT, dtype)


def test_every_rule_is_found_by_name():
    names = {name: rule.__name__ for name, rule in INITIALIZERS.items()}
    assert names == {name: name for name in ("lecun", "lecun_uniform", "lecun1998", "glorot", "he")}


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("lecun", 0.0025),
        ("lecun_uniform", 0.0025),
        ("lecun1998", 0.006**2 / 3),
        ("glorot", 2 / 520),
        ("he", 0.005),
    ],
)
def test_mean_and_variance_are_those_of_the_paper(name, variance):
    weights = draw(name)
    assert abs(weights.mean()) < 4 * (variance / weights.size) ** 0.5
    assert weights.var() == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize(
    ("name", "distribution"),
    [
        ("lecun", stats.norm(scale=0.05)),
        ("lecun_uniform", stats.uniform(loc=-((3 / 400) ** 0.5), scale=2 * (3 / 400) ** 0.5)),
        ("lecun1998", stats.uniform(loc=-2.4 / 400, scale=4.8 / 400)),
        ("glorot", stats.uniform(loc=-((6 / 520) ** 0.5), scale=2 * (6 / 520) ** 0.5)),
        ("he", stats.norm(scale=0.005**0.5)),
    ],
)
def test_the_form_is_the_documented_one(name, distribution):
    assert stats.kstest(draw(name).ravel(), distribution.cdf).pvalue > 0.001


def test_glorot_stays_within_its_bound():
    assert np.abs(draw("glorot")).max() < (6 / 520) ** 0.5


@pytest.mark.parametrize("name", INITIALIZERS)
def test_a_seed_gives_the_same_weights_in_both_precisions(name):
    single, double = draw(name, dtype=np.float32), draw(name)
    assert single.dtype == np.float32
    assert double.dtype == np.float64
    assert single.shape == SHAPE
    np.testing.assert_array_equal(single, double.astype(np.float32))
    np.testing.assert_array_equal(double, draw(name))
    assert not np.array_equal(double, draw(name, seed=1))


def test_he_keeps_the_variance_through_ten_relu_layers():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, 512))
    for _ in range(10):
        z = x @ he(rng, (512, 512), 512, 512, np.float64)
        x = np.maximum(z, 0)
    assert z.var() == pytest.approx(2, rel=0.3)  # 2 = Var of the first z: E[x²]·512·(2/512)

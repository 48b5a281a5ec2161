"""Random numbers: a function of seed, step, image and layer, and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from lenet.nn.randomness import RandomKey


def draw(N=6, M=24, **key):
    out = np.full((N, M), np.nan, np.float32)
    RandomKey(**key).uniform(out)
    return out


def test_the_same_key_draws_the_same():
    assert_array_equal(draw(seed=3, step=5, layer=2), draw(seed=3, step=5, layer=2))


@pytest.mark.parametrize("other", [{"seed": 4}, {"step": 6}, {"layer": 1}])
def test_everything_in_the_key_counts(other):
    key = {"seed": 3, "step": 5, "layer": 2}
    one, two = draw(**key), draw(**(key | other))
    assert not np.intersect1d(one[:, :8], two[:, :8]).size > 2


def test_an_image_draws_the_same_in_any_part_of_the_batch():
    whole = draw(N=7, seed=1, step=9)
    for first, last in [(0, 3), (3, 7), (6, 7)]:
        part = draw(N=last - first, seed=1, step=9, first_image=first)
        assert_array_equal(part, whole[first:last])


def test_images_and_steps_do_not_share_numbers():
    numbers = np.concatenate([draw(N=50, step=step) for step in range(20)])
    assert len(np.unique(numbers.view(np.uint32), axis=0)) == 1000
    correlation = np.corrcoef(numbers)[np.triu_indices(1000, 1)]
    assert np.abs(correlation.mean()) < 0.01


def test_they_are_uniform():
    numbers = draw(N=100, M=1000)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts, _ = np.histogram(numbers, 20, (0, 1))
    assert np.abs(counts - 5000).max() < 6 * 5000**0.5

"""The running average of the weights, one number at a time."""

from __future__ import annotations

import numpy as np

from lenet.optim.averaging import Average

SIZE = 23
STEPS = 12


def course(dtype=np.float64):
    """Start and gradients of a made-up training."""
    rng = np.random.default_rng(7)
    start = rng.standard_normal(SIZE).astype(dtype)
    return start, rng.standard_normal((STEPS, SIZE)).astype(dtype)


def test_average_is_the_moving_mean_with_warm_up():
    start, weights = course()
    w = start.copy()
    average = Average(w, decay=0.5)
    expected = start.astype(object)  # Python floats, one at a time
    for t in range(1, STEPS + 1):
        keep = min(0.5, (1 + t) / (10 + t))
        expected = [
            keep * a + (1 - keep) * b for a, b in zip(expected, weights[t - 1], strict=True)
        ]
        w[:] = weights[t - 1]
        for part in (slice(0, 4), slice(4, None)):
            average.update(w, t, part)
    np.testing.assert_allclose(average.weights, np.array(expected, float), rtol=1e-12)
    assert (1 + STEPS) / (10 + STEPS) > 0.5 > 2 / 11  # both sides of the minimum were met


def test_average_starts_at_the_weights_and_does_not_touch_them():
    start, _ = course()
    w = start.copy()
    average = Average(w, decay=0.9)
    np.testing.assert_array_equal(average.weights, start)
    average.weights[:] = 0
    average.update(w, 1)
    np.testing.assert_array_equal(w, start)


def test_average_is_restored():
    start, weights = course()
    average = Average(start, decay=0.9)
    average.update(weights[0], 1)
    resumed = Average(np.zeros(SIZE), decay=0.9)
    resumed.restore(average.state())
    average.update(weights[1], 2)
    resumed.update(weights[1], 2)
    np.testing.assert_array_equal(resumed.weights, average.weights)

"""Calibration: whether the probability of the predicted class is the share of correct predictions.

The predictions are divided into bins of equal width by the probability of the predicted class,
their confidence. A reliability diagram shows the accuracy of each bin over its mean confidence; the
expected calibration error is the mean distance of the two, over all predictions.

References
----------
C. Guo, G. Pleiss, Y. Sun, K. Weinberger (2017), On Calibration of Modern Neural Networks
(https://arxiv.org/abs/1706.04599), section 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15  # as in the paper


def reliability_bins(
    confidence: NDArray[np.floating[Any]], correct: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return (3, BINS): the predictions of each bin, the sum of their confidence, the correct ones.

    Bin b has the confidences above b/BINS, up to (b + 1)/BINS. The bins of several sets add up.

    Parameters
    ----------
    confidence
        (N,): the probability of the predicted class.
    correct
        (N,): whether that is the true class.

    Examples
    --------
    >>> reliability_bins(np.array([0.99, 0.97, 0.5]), np.array([True, False, True]))[:, [7, 14]]
    array([[1.  , 2.  ],
           [0.5 , 1.96],
           [1.  , 1.  ]])
    """
    edges = np.linspace(0, 1, BINS + 1)
    place = np.searchsorted(edges[1:-1], confidence)  # nan, of weights that overflow, comes last
    weights = (None, confidence, correct)
    return np.array([np.bincount(place, weight, BINS) for weight in weights], np.float64)


def calibration_error(bins: NDArray[np.float64]) -> float:
    """Return the expected calibration error, from 0 to 1, of :func:`reliability_bins`.

    With n_b predictions in bin b, Σ_b n_b/N · |accuracy_b − confidence_b|.

    Examples
    --------
    One of two is correct, at a mean confidence of 0.98:

    >>> bins = reliability_bins(np.array([0.99, 0.97]), np.array([True, False]))
    >>> round(calibration_error(bins), 2)
    0.48
    """
    count, confidence, correct = bins
    return float(np.abs(correct - confidence).sum() / count.sum())

"""Dropout: in training each value is set to zero with some probability, and the rest scaled up.

With r the probability and u uniform in [0, 1), drawn independently for each step, image and value,

    y  = x · [u ≥ r] / (1 − r)       in training;     y = x in evaluation
    dx = dy · [u ≥ r] / (1 − r)

so that the mean of y is x ("inverted" dropout: evaluation has nothing to correct). N. Srivastava et
al. (2014), Dropout: a simple way to prevent neural networks from overfitting.

Which numbers are dropped is a function of seed, step, image and layer (:mod:`lenet.nn.randomness`):
one worker and several drop the same.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import DTypeLike

from lenet.arrays import Array, Shape
from lenet.nn.layer import Layer
from lenet.nn.randomness import PER_COUNT


class Dropout(Layer):
    """Set each number to zero with probability ``rate`` in training; nothing in evaluation.

    Parameters
    ----------
    name
        The name used in summaries and messages.
    rate
        The probability, at least 0 and below 1.
    """

    draws_random = True

    def __init__(self, name: str, rate: float = 0.5) -> None:
        super().__init__(name)
        if not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise self.wrong_option(
                "rate",
                f"must be a number >= 0 and < 1, is {rate!r}",
                "give such a number",
            )
        self.rate = float(rate)

    def build(self, shape: Shape) -> Shape:
        self.shape, self.D = shape, prod(shape)
        return shape

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        self.y = self.buffer("y", (*self.shape, N), dtype)
        self.dx = self.buffer("dx", (*self.shape, N), dtype)
        self.kept = self.buffer("kept", (self.D, N), np.bool_)
        in_rows = -(-self.D // PER_COUNT) * PER_COUNT
        self.uniform = self.buffer("uniform", (N, in_rows), np.float32)

    def forward(self, x: Array) -> Array:
        if not self.training:
            return x
        self.random.uniform(self.uniform)
        np.greater_equal(self.uniform[:, : self.D].T, np.float32(self.rate), out=self.kept)
        return self._drop(x, out=self.y)

    def backward(self, dy: Array) -> Array:
        return self._drop(dy, out=self.dx) if self.training else dy

    def _drop(self, x: Array, out: Array) -> Array:
        np.multiply(x, self.kept.reshape(x.shape), out=out)
        out *= 1 / (1 - self.rate)
        return out

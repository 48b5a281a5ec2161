"""Batch normalisation: each channel gets mean 0 and variance 1, then a scale and a shift.

With x of C channels taken as a matrix (C × P), P = H·W·N, or of D units as (D × N), mean μ and
variance v over its rows, and w and b the parameters, one of each per row:

    x̂  = (x − μ) / √(v + ε)
    y  = w · x̂ + b
    db = Σ dy
    dw = Σ dy · x̂
    dx = w / √(v + ε) · (dy − db/P − x̂ · dw/P)

In training μ and v are those of the batch, and running averages of them are kept; in evaluation
they are the averages, and dx = w / √(v + ε) · dy. S. Ioffe, C. Szegedy (2015), Batch normalization:
accelerating deep network training by reducing internal covariate shift.

With several workers, each normalises its part of the batch by the part's own mean and variance, and
keeps its own averages; the training program has to combine them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from lenet.arrays import Array, Shape
from lenet.nn.layer import Multipliers, TrainedLayer


class BatchNormalization(TrainedLayer):
    """Normalise each channel of images, or each unit of vectors, over the batch.

    Parameters
    ----------
    name
        The name used in parameters, summaries and messages.
    momentum
        The weight of the newest batch in the running averages, above 0 and at most 1.
    epsilon
        ε, above 0: added to the variance.
    lr_mult, decay_mult
        See :class:`~lenet.nn.layer.TrainedLayer`. By default there is no weight decay.

    ``state`` has ``mean`` and ``variance``, the running averages, in float64; the variance is that
    of the population, estimated with P − 1.
    """

    mixes_images = True

    def __init__(
        self,
        name: str,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        *,
        lr_mult: Multipliers = 1.0,
        decay_mult: Multipliers = 0.0,
    ) -> None:
        super().__init__(name, None, lr_mult, decay_mult)
        if not isinstance(momentum, int | float) or not 0 < momentum <= 1:
            problem = f"must be a number > 0 and <= 1, is {momentum!r}"
            raise self.wrong_option("momentum", problem, "0.1 is usual")
        if not isinstance(epsilon, int | float) or not 0 < epsilon < 1:
            problem = f"must be a number > 0 and < 1, is {epsilon!r}"
            raise self.wrong_option("epsilon", problem, "1e-5 is usual")
        self.momentum, self.epsilon = float(momentum), float(epsilon)

    def build(self, shape: Shape) -> Shape:
        self.shape, self.C = shape, shape[0]
        self.weight, self.bias = self.parameters = self.weight_and_bias(
            (self.C,), (self.C,), 1, 1, initial=(1.0, 0.0)
        )
        self.state = {
            "mean": np.broadcast_to(0.0, (self.C,)),
            "variance": np.broadcast_to(1.0, (self.C,)),
        }
        return shape

    @property
    def mean(self) -> Array:
        """The running average of the means, (C,)."""
        return self.state["mean"]

    @property
    def variance(self) -> Array:
        """The running average of the variances, (C,)."""
        return self.state["variance"]

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        self.own_state()
        self.y = self.buffer("y", (*self.shape, N), dtype)
        self.dx = self.buffer("dx", (*self.shape, N), dtype)
        self.normal = self.buffer("normal", (self.C, self.y.size // self.C), dtype)
        self.product = self.buffer("product", self.normal.shape, dtype)
        self.batch_mean = self.buffer("mean", (self.C, 1), dtype)
        self.factor = self.buffer("factor", (self.C, 1), dtype)

    def forward(self, x: Array) -> Array:
        rows, y = x.reshape(self.C, -1), self.y.reshape(self.C, -1)
        if self.training:
            np.mean(rows, axis=1, keepdims=True, out=self.batch_mean)
            np.subtract(rows, self.batch_mean, out=self.normal)
            np.multiply(self.normal, self.normal, out=self.product)
            np.mean(self.product, axis=1, keepdims=True, out=self.factor)
            self._average()
        else:
            self.batch_mean[:, 0], self.factor[:, 0] = self.mean, self.variance
            np.subtract(rows, self.batch_mean, out=self.normal)
        self.factor += self.epsilon
        np.sqrt(self.factor, out=self.factor)
        np.divide(1, self.factor, out=self.factor)  # 1/√(v + ε)
        self.normal *= self.factor  # x̂
        np.multiply(self.normal, self.weight.value[:, None], out=y)
        y += self.bias.value[:, None]
        return self.y

    def backward(self, dy: Array) -> Array | None:
        rows, dx, P = dy.reshape(self.C, -1), self.dx.reshape(self.C, -1), self.normal.shape[1]
        np.sum(rows, axis=1, out=self.bias.gradient)
        np.multiply(rows, self.normal, out=self.product)
        np.sum(self.product, axis=1, out=self.weight.gradient)
        if not self.needs_dx:
            return None
        if self.training:
            np.multiply(self.normal, self.weight.gradient[:, None] / -P, out=dx)
            dx -= self.bias.gradient[:, None] / P
            dx += rows
        else:
            np.copyto(dx, rows)
        dx *= self.factor * self.weight.value[:, None]
        return self.dx

    def _average(self) -> None:
        """Bring the running averages closer to the mean and the variance of this batch."""
        P = self.normal.shape[1]
        mean, variance = self.mean, self.variance
        mean += self.momentum * (self.batch_mean[:, 0] - mean)
        unbiased = self.factor[:, 0].astype(np.float64) * (P / max(1, P - 1))
        variance += self.momentum * (unbiased - variance)

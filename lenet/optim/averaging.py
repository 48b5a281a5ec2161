"""The running average of the weights, which can be evaluated in their place."""

from __future__ import annotations

import numpy as np

from lenet.optim.optimizers import EVERYTHING, Stateful, Vector, Zeros


class Average(Stateful):
    """Exponential moving average of the weights.

    ::

        a ← a + (1 − d_t)·(w − a),    d_t = min(d, (1 + t) / (10 + t))

    It averages over about 1/(1 − d) steps. The warm-up d_t removes the influence of the initial
    weights much earlier.

    Parameters
    ----------
    parameters
        The network's flat vector, where the average starts.
    decay
        d, in [0, 1).
    zeros
        Allocates the average: ``zeros(size, dtype)``.

    References
    ----------
    Polyak, Juditsky (1992), Acceleration of stochastic approximation by averaging; the warm-up
    as in TensorFlow's ``ExponentialMovingAverage``.

    Examples
    --------
    >>> w = np.array([0.0])
    >>> average = Average(w, decay=0.999)
    >>> w[:] = 11
    >>> average.update(w, t=1)
    >>> print(average.weights)  # d_1 = 2/11
    [9.]
    """

    def __init__(self, parameters: Vector, decay: float, *, zeros: Zeros = np.zeros) -> None:
        self.weights = zeros(parameters.size, parameters.dtype)
        np.copyto(self.weights, parameters)
        super().__init__({"average": self.weights})
        self.decay = decay
        self.scratch: Vector = np.empty_like(parameters)

    def update(self, parameters: Vector, t: int, part: slice = EVERYTHING) -> None:
        """Update the average with the weights after step ``t``, which starts at 1."""
        a, s = self.weights[part], self.scratch[part]
        np.subtract(parameters[part], a, out=s)
        s *= 1 - min(self.decay, (1 + t) / (10 + t))
        a += s

"""What the training loop knows of the other processes that share its batches.

All workers run the same program on the same data: each takes its slice of every batch, the
gradients are summed, and the sum is applied to the parameters. For a given number of workers the
bits are always the same.
"""

from __future__ import annotations

import signal
from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike

from lenet.nn.im2col import Array

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # those that ask to stop


class Communicator(Protocol):
    """What the training loop knows of the others."""

    rank: int
    size: int

    def zeros(self, size: int, dtype: DTypeLike) -> Array:
        """Return a vector, zero at first, that all workers see, or each has a copy of.

        All workers ask for the same vectors in the same order.
        """

    def gradient_buffer(self, size: int, dtype: DTypeLike) -> Array:
        """Return a vector of this worker's own that :meth:`sum_gradients` can add up over all."""

    def sum_gradients(self, figures: Array) -> tuple[slice, Array]:
        """Add up the gradients, and ``figures`` (a few float64), over all workers.

        Returns
        -------
        The part of the gradient vector that now holds the sum and is this worker's to apply, and
        the sum of the figures, which everyone gets.
        """

    def sum_figures(self, figures: Array) -> Array:
        """Return the sum of ``figures`` (a vector of float64) over all workers."""

    def barrier(self) -> None:
        """Wait until what every worker wrote before its own call is seen by this one."""


class SingleProcess:
    """One worker: nothing is shared, nothing waits."""

    rank, size = 0, 1

    def zeros(self, size: int, dtype: DTypeLike) -> Array:
        return np.zeros(size, dtype)

    def gradient_buffer(self, size: int, dtype: DTypeLike) -> Array:
        return np.zeros(size, dtype)

    def sum_gradients(self, figures: Array) -> tuple[slice, Array]:
        return slice(None), figures

    def sum_figures(self, figures: Array) -> Array:
        return figures

    def barrier(self) -> None:
        pass

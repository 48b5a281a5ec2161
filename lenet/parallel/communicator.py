"""Communicators: how the workers of a training run exchange gradients and figures.

All workers run the same program on the same data: each processes its slice of every batch, the
gradients are summed, and the sum is applied to the parameters. For a given number of workers, the
bits are always the same.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from lenet.arrays import Array

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)
)
"""Those that request a program to stop: from the user, the system, a terminal or a scheduler."""


Uncut: TypeAlias = Sequence[tuple[int, int]]
"""Ranges (start, end) of a vector that one worker updates as a whole."""


class Communicator(Protocol):
    """The workers of a job, as one of them sees them."""

    rank: int
    """The number of this worker, from 0."""
    size: int
    """How many workers there are."""

    def zeros(self, size: int, dtype: DTypeLike) -> Array:
        """Return a vector of zeros that all workers share, or of which each has a copy.

        All workers request the same vectors in the same order.
        """

    def gradient_buffer(self, size: int, dtype: DTypeLike, uncut: Uncut = ()) -> Array:
        """Return a vector of zeros for this worker alone, which :meth:`sum_gradients` sums.

        Called once. No part of the sum begins or ends within one of the ranges ``uncut``.
        """

    def sum_gradients(self, figures: Array) -> tuple[slice, Array]:
        """Sum the gradient buffers, and ``figures`` (a few float64), over all workers."""

    def sum_figures(self, figures: Array) -> Array:
        """Return the sum of ``figures`` (a vector of float64) over all workers."""

    def barrier(self) -> None:
        """Wait until this worker sees what every worker wrote before its own call."""


class SingleProcess:
    """The communicator of one worker: nothing is shared, nothing waits."""

    rank, size = 0, 1

    def zeros(self, size: int, dtype: DTypeLike) -> Array:
        return np.zeros(size, dtype)

    def gradient_buffer(
        self,
        size: int,
        dtype: DTypeLike,
        uncut: Uncut = (),  # noqa: ARG002 (there is one part)
    ) -> Array:
        return np.zeros(size, dtype)

    def sum_gradients(self, figures: Array) -> tuple[slice, Array]:
        return slice(None), figures

    def sum_figures(self, figures: Array) -> Array:
        return figures

    def barrier(self) -> None:
        pass

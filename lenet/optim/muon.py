"""Muon: Nesterov's step, orthogonalised for every matrix by a few matrix products."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from lenet.arrays import Array
from lenet.optim.optimizers import EVERYTHING, Nesterov, Vector, register
from lenet.system.registry import option

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""a, b, c of Jordan (2024): they raise small singular values fastest, to 0.7 to 1.2."""


@register("muon")
@dataclass(eq=False, kw_only=True)
class Muon(Nesterov):
    """Nesterov's rule; the step S of every matrix is replaced by the nearest orthogonal matrix.

    With S = U·Σ·Vᵀ, the step is U·Vᵀ: all directions are moved by the same length, not those of
    large gradients most. A few Newton-Schulz iterations come close to it without a singular value
    decomposition, with nothing but matrix products::

        X ← S / ‖S‖
        A = X·Xᵀ                          (rows × columns) · (columns × rows)
        X ← a·X + (b·A + c·A·A)·X         (rows × rows) · (rows × columns), ``iterations`` times
        W ← W − lr·(rate·√max(1, rows/columns)·X + λ·W)

    The matrices are the weights (filters × inputs) of all layers but the last. Everything else,
    biases and the last layer, moves by Nesterov's rule with the learning rate lr.

    Parameters
    ----------
    matrix_rate
        The learning rate of the matrices as a fraction of lr.
    iterations
        Newton-Schulz iterations.

    References
    ----------
    K. Jordan and others (2024), Muon: an optimizer for hidden layers in neural networks; the
    scale by rows and columns is theirs.

    Examples
    --------
    >>> w, g = np.zeros(4), np.array([3.0, 0.0, 0.0, 0.01])
    >>> muon = Muon(4, np.float64, matrices=[(0, 2, 2)], matrix_rate=1, iterations=5)
    >>> muon.step(w, g, lr=1.0, t=1)
    >>> print(abs(w).round(1))  # the gradient of one direction is 300 times that of the other
    [0.7 0.  0.  1.2]
    """

    needs_whole_matrices = True

    matrix_rate: float = option(
        0.33, "Learning rate of the matrices, as a fraction of lr", above=0, at_most=100
    )
    iterations: int = option(3, "Newton-Schulz iterations of a matrix", at_least=1, at_most=20)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._decay = np.zeros(0, self.dtype) if self.decay is None else self.decay.copy()
        self._work: dict[tuple[int, int], tuple[Array, Array, Array]] = {}
        for start, rows, columns in self.matrices:
            if self.decay is not None:  # λ·W is not orthogonalised
                self.decay[start : start + rows * columns] = 0
            small, large = sorted((rows, columns))
            self._work[rows, columns] = (
                np.empty((small, small), self.dtype),
                np.empty((small, small), self.dtype),
                np.empty((small, large), self.dtype),
            )

    def step(
        self,
        parameters: Vector,
        gradients: Vector,
        lr: float,
        t: int,  # noqa: ARG002 (the rule is the same at every step)
        part: slice = EVERYTHING,
    ) -> None:
        """Update in place; see :meth:`Optimizer.step`. A matrix is in ``part`` or outside it."""
        w = parameters[part]
        s = self.direction(w, gradients[part], part)
        first, end, _ = part.indices(self.size)
        for start, rows, columns in self.matrices:
            if not first <= start < end:
                continue
            own = slice(start - first, start - first + rows * columns)
            S = s[own].reshape(rows, columns)
            self._orthogonalise(S)
            S *= self.matrix_rate * sqrt(max(1.0, rows / columns))
            if self._decay.size:
                s[own] += self._decay[start : start + rows * columns] * w[own]
        s *= lr
        self.move(w, s, part)

    def _orthogonalise(self, S: Array) -> None:
        """Replace S by a matrix with the same singular vectors and singular values of about 1."""
        a, b, c = COEFFICIENTS
        A, B, Y = self._work[S.shape]
        X = S if S.shape[0] <= S.shape[1] else S.T  # the products are of the shorter side
        X /= np.linalg.norm(X) + 1e-7
        for _ in range(self.iterations):
            np.matmul(X, X.T, out=A)
            np.matmul(A, A, out=B)
            B *= c
            A *= b
            B += A
            np.matmul(B, X, out=Y)
            X *= a
            X += Y

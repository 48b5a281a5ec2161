"""Distillation: to learn the probabilities of another network, the teacher, beside the labels.

For scores z of the network and v of the teacher (classes × N), a temperature T and a weight w,

    q  = softmax(v/T)          p = softmax(z/T)
    E  = (1 − w) · E_labels + w · T² · (1/N) · Σ q · ln(q/p)
    ∇z = (1 − w) · ∇E_labels + w · T · (p − q) / N

The factor T² keeps the size of the second gradient independent of T. The paper has the
cross-entropy −Σ q · ln p; less the entropy of q, which does not depend on z, it is 0 where the
two networks agree.

References
----------
G. Hinton, O. Vinyals, J. Dean (2015), Distilling the Knowledge in a Neural Network
(https://arxiv.org/abs/1503.02531), section 2.
"""

from __future__ import annotations

import numpy as np

from lenet.arrays import Array


class Distillation:
    """Adds the teacher's part to the loss of the labels and to its gradient.

    Parameters
    ----------
    temperature
        T, above 0: the larger, the more the improbable classes count.
    weight
        w, the teacher's share of the loss, from 0 to 1.

    Examples
    --------
    A teacher that agrees leaves only the part of the labels:

    >>> z, gradient = np.array([[2.0], [1.0]]), np.array([[-0.3], [0.3]])
    >>> Distillation(temperature=4, weight=0.5)(z, z, gradient, loss=0.3)
    0.15
    >>> gradient.ravel()
    array([-0.15,  0.15])
    """

    def __init__(self, temperature: float, weight: float) -> None:
        self.temperature, self.weight = temperature, weight

    def __call__(
        self, z: Array, teacher: Array, gradient: Array, loss: float, batch: int | None = None
    ) -> float:
        """Return the complete loss E, and turn ``gradient`` into its gradient ∇z.

        Parameters
        ----------
        z, teacher
            The scores (classes, N) of the network and of the teacher.
        gradient, loss
            Those of the labels; ``gradient`` (classes, N) is overwritten.
        batch
            N, or the size of the batch of which these images are a worker's part.
        """
        T, w = self.temperature, self.weight
        N = batch or z.shape[1]
        log_q, log_p = _log_softmax(teacher / T), _log_softmax(z / T)
        q, p = np.exp(log_q), np.exp(log_p)
        divergence = float(np.vdot(q, log_q - log_p)) / N
        gradient *= 1 - w
        gradient += (p - q) * (w * T / N)
        return (1 - w) * loss + w * T**2 * divergence


def _log_softmax(z: Array) -> Array:
    """Return the logarithm of the softmax of scores z (classes, N), which cannot overflow."""
    shifted: Array = z - z.max(axis=0)
    shifted -= np.log(np.exp(shifted).sum(axis=0))
    return shifted

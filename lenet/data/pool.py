"""A pool of distorted copies of the training images, with a teacher's scores of each.

The distortions and the scores are computed once. In epoch e the network sees copy e mod P.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Pool:
    """P copies of the N images of a training set, in its order.

    Attributes
    ----------
    images
        uint8 (P,N,C,H,W), as large as the input of the network; in memory or mapped.
    scores
        float32 (P,N,classes).
    """

    images: NDArray[np.uint8]
    scores: NDArray[np.float32]

    def select(
        self, epoch: int, numbers: NDArray[np.int64], images: NDArray[np.uint8]
    ) -> NDArray[np.float32]:
        """Write the images of an epoch with these numbers to ``images``; return their scores.

        The scores are (classes, n).
        """
        copy = epoch % len(self.images)
        np.take(self.images[copy], numbers, axis=0, out=images, mode="clip")
        scores: NDArray[np.float32] = self.scores[copy].take(numbers, axis=0, mode="clip").T
        return scores

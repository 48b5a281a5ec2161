"""Random numbers that depend only on seed, step, image and layer, not on a generator's history.

A run that resumes, and a batch that is divided among workers, draw the same numbers as one that
does neither: image n of a batch has the same ones in whichever part it is. Philox is a generator
of that kind: a function of a key and a counter (J. Salmon et al. (2011), Parallel random numbers:
as easy as 1, 2, 3).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

PER_COUNT: Final = 8
"""Numbers of 32 bits that Philox makes of one value of its counter."""


class RandomKey(NamedTuple):
    """What the random numbers of a layer depend on.

    Attributes
    ----------
    seed, step
        The seed of the run, and the number of the training step.
    first_image
        The number in the whole batch of the first image here: 0 unless this is a worker's part.
    layer
        The place of the layer in the network.

    Examples
    --------
    Two images at once, and the second alone, as a worker would draw it:

    >>> both, second = np.empty((2, 8), np.float32), np.empty((1, 8), np.float32)
    >>> RandomKey(seed=1, step=7).uniform(both)
    >>> RandomKey(seed=1, step=7, first_image=1).uniform(second)
    >>> bool((both[1] == second[0]).all())
    True
    """

    seed: int = 0
    step: int = 0
    first_image: int = 0
    layer: int = 0

    def uniform(self, out: NDArray[np.float32]) -> None:
        """Fill ``out`` (N, M) with uniform numbers from [0, 1), one row per image.

        M is a multiple of :data:`PER_COUNT`, so that every row begins with a value of the counter.
        """
        first = self.first_image * (out.shape[1] // PER_COUNT)
        counter = [first, self.step, 0, 0]
        bits = np.random.Philox(key=_philox_key(self.seed, self.layer), counter=counter)
        np.random.Generator(bits).random(out=out, dtype=np.float32)


@lru_cache(maxsize=256)
def _philox_key(seed: int, layer: int) -> NDArray[Any]:
    return np.random.SeedSequence([seed, layer]).generate_state(2, np.uint64)

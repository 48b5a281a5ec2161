"""Whether an image is a digit: the second packaged network, with the classes *other* and *digit*.

A network of ten digits has no class for a letter or a blot, and its probabilities do not tell:
three letters in four get one above 80 %. The second network was trained on digits and on other
images (``scripts/weights draw``). It takes images as MNIST's are, uint8 (N,28,28), and no others.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lenet.checkpoint.checkpoint import Checkpoint, load_checkpoint
from lenet.checkpoint.restore import packaged, restore_network
from lenet.data.labels import numbers
from lenet.evaluation.loop import predict
from lenet.nn.network import Network
from lenet.predict.preparation import Preparation
from lenet.predict.redraw import SIZE

FILE = "digit-or-not.npz"
MIN_PROBABILITY = 0.215
"""Of a digit; a lower one is warned of. Chosen on validation images of MNIST."""


class DigitOrNot:
    """The network, read when the first images are given.

    Examples
    --------
    >>> from lenet.data.strokes import draw
    >>> noise = np.random.default_rng(0).integers(0, 256, (1, 28, 28), dtype=np.uint8)
    >>> DigitOrNot()(np.concatenate([draw(2, seed=0)[0], noise])) > MIN_PROBABILITY
    array([ True,  True, False])
    """

    @cached_property
    def _loaded(self) -> tuple[Checkpoint, Network]:
        with packaged(FILE) as path:
            checkpoint = load_checkpoint(path)
        return checkpoint, restore_network(checkpoint)

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the probability (N,) that each image (N,28,28) is a digit."""
        checkpoint, network = self._loaded
        probabilities = predict(network, checkpoint.preprocessing, images)
        digit: NDArray[np.float64] = probabilities[:, checkpoint.class_names.index("digit")]
        return digit


def takes(checkpoint: Checkpoint, preparation: Preparation) -> bool:
    """Return whether a network's classes are the digits, and its images those of MNIST."""
    form = preparation.form
    return (
        checkpoint.class_names == numbers(10)
        and form is not None
        and form.shape == (1, SIZE, SIZE)
        and form.drawn_as_mnist
        and form.paper == 0
        and not form.narrow
    )

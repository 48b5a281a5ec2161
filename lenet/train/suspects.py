"""Labels that may be wrong: the images for which a trained network predicts another class."""

from __future__ import annotations

import numpy as np

from lenet.data.datasets import Split
from lenet.train.checkpoint import Checkpoint
from lenet.train.mistakes import Mistake, predict_split

MIN_PROBABILITY = 0.95
"""Of the class that the network predicts."""


def suspect_labels(checkpoint: Checkpoint, split: Split) -> list[Mistake]:
    """Return the images assigned to another class than their label's, most probable first.

    Parameters
    ----------
    checkpoint
        The network.
    split
        Images with labels that fit it, as :func:`lenet.train.restore.for_network` returns them.
    """
    p = predict_split(checkpoint, split)
    predicted, highest = p.argmax(axis=1), p.max(axis=1)
    suspects = np.flatnonzero((predicted != split.labels) & (highest >= MIN_PROBABILITY))
    suspects = suspects[np.argsort(-highest[suspects], kind="stable")]
    return [
        Mistake(int(i), split.images[i], int(split.labels[i]), int(predicted[i]), float(highest[i]))
        for i in suspects
    ]

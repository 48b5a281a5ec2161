"""Labels that may be wrong: the images for which a trained network predicts another class."""

from __future__ import annotations

import numpy as np

from lenet.data.datasets import Split
from lenet.system.errors import ConfigError
from lenet.training.checkpoint import Checkpoint
from lenet.training.mistakes import Mistake, predict_split

MIN_PROBABILITY = 0.95
"""Of the class that the network predicts."""


def suspect_labels(checkpoint: Checkpoint, split: Split) -> list[Mistake]:
    """Return the images assigned to another class than their label's, most probable first.

    Parameters
    ----------
    checkpoint
        The network, trained on the same classes.
    split
        Any images that fit it.

    Raises
    ------
    ConfigError
        The data have other classes than the network.
    DataError
        The images do not fit the network.
    """
    classes = checkpoint.model.classes()
    if classes != len(split.class_names):
        raise ConfigError(
            f"has {classes} classes, the data have {len(split.class_names)}",
            remedy="name a checkpoint that was trained on these classes",
            key="--checkpoint",
        )
    p = predict_split(checkpoint, split)
    predicted, highest = p.argmax(axis=1), p.max(axis=1)
    suspects = np.flatnonzero((predicted != split.labels) & (highest >= MIN_PROBABILITY))
    suspects = suspects[np.argsort(-highest[suspects], kind="stable")]
    return [
        Mistake(int(i), split.images[i], int(split.labels[i]), int(predicted[i]), float(highest[i]))
        for i in suspects
    ]

"""Evaluation of checkpoints on a data set: one, or several as an ensemble."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.checkpoint.checkpoint import Checkpoint
from lenet.checkpoint.restore import restore_network
from lenet.config.schema import Config
from lenet.data.augmentation import Distorter
from lenet.data.degradation import DEGRADATIONS
from lenet.data.loader import SLICE, Loader
from lenet.errors import ConfigError
from lenet.evaluation.images import build_distorter, load_part
from lenet.evaluation.loop import evaluate, evaluate_probabilities, probabilities
from lenet.evaluation.metrics import Evaluation
from lenet.nn.network import Network


def evaluate_checkpoints(
    checkpoints: Sequence[Checkpoint],
    split: str,
    config: Config | None = None,
    directory: str | PathLike[str] | None = None,
    views: int = 0,
    *,
    warn: Callable[[str], None] = warnings.warn,
) -> tuple[Evaluation, tuple[str, ...]]:
    """Evaluate a checkpoint, or several as an ensemble, on a split of a data set."""
    config = config or checkpoints[0].config
    for other in checkpoints[1:]:
        if other.class_names != checkpoints[0].class_names:
            raise ConfigError(
                "the networks of an ensemble have different classes",
                remedy="give checkpoints of the same data set",
                key="model.classes",
            )
    found, rows = load_part(checkpoints[0], split, config, directory, warn=warn)

    def loader(checkpoint: Checkpoint, distorter: Distorter | None = None) -> Loader:
        return Loader(
            found.images,
            found.labels,
            batch_size=SLICE,
            preprocessing=checkpoint.preprocessing,
            dtype=checkpoint.config.train.precision,
            distorter=distorter,
            rows=rows,
        )

    if len(checkpoints) == 1 and not views:
        network = restore_network(checkpoints[0])
        return evaluate(network, loader(checkpoints[0])), found.class_names

    def predicted_by(network: Network, images: Loader, epoch: int = 0) -> NDArray[np.float64]:
        return probabilities(network, (batch.x for batch in images.epoch(epoch)))

    predicted = []
    for checkpoint in checkpoints:
        network = restore_network(checkpoint)
        predicted.append(predicted_by(network, loader(checkpoint)))
        if views:
            distorted = loader(checkpoint, _view(checkpoint))
            # Each epoch has different distortions.
            predicted += [predicted_by(network, distorted, epoch) for epoch in range(views)]
    labels = np.concatenate([batch.labels.copy() for batch in loader(checkpoints[0]).epoch()])
    return evaluate_probabilities(np.mean(predicted, axis=0), labels), found.class_names


def _view(checkpoint: Checkpoint) -> Distorter:
    """Return the distortion for test-time augmentation: half the affine ranges of the training."""
    others: dict[str, Any] = dict.fromkeys(("elastic_alpha", *DEGRADATIONS), 0.0)
    augment = replace(checkpoint.config.augment, **others)
    distorter = build_distorter(augment, checkpoint.preprocessing, strength=0.5)
    if distorter is None:
        raise ConfigError(
            "needs a network that was trained with distortions",
            remedy="leave it out, or train with augment.rotation and the like",
            key="--tta",
        )
    return distorter

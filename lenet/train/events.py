"""The events of a training run, and the callbacks that receive them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenet.checkpoint.checkpoint import Checkpoint
from lenet.config.schema import Config


@dataclass(frozen=True)
class StepEvent:
    """The end of a step; loss and accuracy are means over the epoch so far."""

    epoch: int
    step: int
    steps_per_epoch: int
    images: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class EpochEvent:
    """The end of an epoch, after its evaluation; one row of the log.

    ``val_loss``, ``val_accuracy`` and ``val_score`` are None if there are no validation images;
    ``val_score`` is the value of ``train.best_metric``.
    """

    epoch: int
    step: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    seconds: float
    images_per_second: float
    val_score: float | None = None  # logs of earlier versions have none


Snapshot = Callable[[], Checkpoint]
"""Returns the state of the run between two steps, as a checkpoint."""


class Callback:
    """Receives the events of a run, only in rank 0. The methods of this class do nothing."""

    def on_config(self, config: Config) -> None:
        """Handle the complete configuration of the run, before the start."""

    def on_classes(self, counts: NDArray[np.int64]) -> None:
        """Handle the number of training images of each class, before the start."""

    def on_preparation(self, what: str) -> None:
        """Handle the start of a long computation before the first step, described in words."""

    def on_start(self, workers: int) -> None:
        """Handle the start of a run that nothing has refused, with so many workers."""

    def on_step(self, event: StepEvent, snapshot: Snapshot) -> None:
        """Handle the end of a step."""

    def on_epoch(self, event: EpochEvent, best: bool, snapshot: Snapshot) -> None:
        """Handle the end of an epoch; ``best`` if its validation result is the best so far."""

    def on_stop(self, snapshot: Snapshot) -> None:
        """Handle a signal that stopped the run between two steps."""

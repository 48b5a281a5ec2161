"""The events of a training run, and the callbacks that receive them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lenet.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class StepEvent:
    """A step is complete; loss and accuracy are means over the epoch so far."""

    epoch: int
    step: int
    steps_per_epoch: int
    images: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class EpochEvent:
    """An epoch is complete and evaluated: a row of the log.

    ``val_loss`` and ``val_accuracy`` are None where no images are held out for validation.
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


Snapshot = Callable[[], Checkpoint]
"""Returns the state of the run between two steps."""


class Callback:
    """Receives the events of a run, in rank 0 only; each method does nothing unless overridden."""

    def on_start(self, workers: int) -> None:
        """Handle the start of a run that nothing has refused, with so many workers."""

    def on_step(self, event: StepEvent, snapshot: Snapshot) -> None:
        """Handle the end of a step."""

    def on_epoch(self, event: EpochEvent, best: bool, snapshot: Snapshot) -> None:
        """Handle the end of an epoch; ``best`` if it is the best on validation so far."""

    def on_stop(self, snapshot: Snapshot) -> None:
        """Handle a signal that stopped the run between two steps."""

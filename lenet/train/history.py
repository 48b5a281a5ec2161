"""The history of a training run, epoch by epoch, and the callback that collects it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lenet.system.text import table
from lenet.train.events import Callback, EpochEvent, Snapshot
from lenet.train.log import best_epoch


@dataclass(frozen=True, eq=False, repr=False)
class History:
    """A training run, epoch by epoch; ``repr`` is a table.

    Attributes
    ----------
    epochs
        One event for each epoch, with losses, accuracies, learning rate and times.
    best
        The epoch with the best validation result or, without validation, the last one. None if no
        epoch is complete.
    workers
        The number of processes that trained.

    Examples
    --------
    >>> History.of([EpochEvent(1, 9, 0.05, 0.8, 0.75, 0.4, 0.9, seconds=2.0,
    ...                        images_per_second=270.0)])
    epoch    lr  train loss  accuracy  val loss  accuracy  images/s
        1  0.05      0.8000    75.00%    0.4000    90.00%       270  best
    """

    epochs: tuple[EpochEvent, ...] = ()
    best: EpochEvent | None = None
    workers: int = 1

    @classmethod
    def of(cls, log: Sequence[EpochEvent], workers: int = 1, metric: str = "accuracy") -> History:
        """Return the history of the epochs of a log, at least one; the best by ``metric``."""
        return cls(tuple(log), best_epoch(log, metric), workers)

    def __repr__(self) -> str:
        columns = ("epoch", "lr", "train loss", "accuracy", "val loss", "accuracy", "images/s", "")
        rows = [
            (
                event.epoch,
                f"{event.lr:.3g}",
                f"{event.train_loss:.4f}",
                f"{event.train_accuracy:.2%}",
                "-" if event.val_loss is None else f"{event.val_loss:.4f}",
                "-" if event.val_accuracy is None else f"{event.val_accuracy:.2%}",
                f"{event.images_per_second:,.0f}",
                "best" if event == self.best else "",
            )
            for event in self.epochs
        ]
        return table([columns, *rows], ">>>>>>><")


class Recorder(Callback):
    """Collects the events of a run; ``history`` is what there is so far."""

    def __init__(self) -> None:
        self.history = History()

    def on_start(self, workers: int) -> None:
        self.history = replace(self.history, workers=workers)

    def on_epoch(self, event: EpochEvent, best: bool, snapshot: Snapshot) -> None:
        epochs = (*self.history.epochs, event)
        best_so_far = event if best else self.history.best
        self.history = replace(self.history, epochs=epochs, best=best_so_far)

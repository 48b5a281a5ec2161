"""The log of a run: ``log.jsonl`` and ``log.csv``, one row per epoch; its history in memory."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Final

from lenet.errors import DataError, SystemFailure
from lenet.nn.scores import SCORES
from lenet.system.files import open_regular, reading, replacing
from lenet.system.text import table
from lenet.train.events import Callback, EpochEvent, Snapshot

COLUMNS: Final = tuple(field.name for field in fields(EpochEvent))
MAY_BE_NONE: Final = ("val_loss", "val_accuracy", "val_score")


# --- Writing --------------------------------------------------------------------------------------


def _json_row(event: EpochEvent) -> str:
    return json.dumps(asdict(event)) + "\n"


def _csv_row(event: EpochEvent) -> str:
    row = io.StringIO()
    csv.writer(row, lineterminator="\n").writerow(asdict(event).values())
    return row.getvalue()


JSONL, CSV = "log.jsonl", "log.csv"
FORMS: Final[Mapping[str, tuple[str, Callable[[EpochEvent], str]]]] = {
    JSONL: ("", _json_row),
    CSV: (",".join(COLUMNS) + "\n", _csv_row),
}
"""The files of a log: the first line of each, and the row of an epoch."""


class Log(Callback):
    """Writes the files of the log in ``directory``, one row per epoch.

    When a run is resumed, the rows after its checkpoint are removed: those epochs are repeated.
    """

    def __init__(self, directory: Path, complete_epochs: int = 0) -> None:
        self.directory = directory
        events = self._first(complete_epochs) if complete_epochs else []
        for name, (head, row) in FORMS.items():
            with replacing(directory / name) as file:
                file.write((head + "".join(map(row, events))).encode())

    def on_epoch(self, event: EpochEvent, best: bool, snapshot: Snapshot) -> None:
        for name, (_, row) in FORMS.items():
            _append(self.directory / name, row(event))

    def _first(self, count: int) -> list[EpochEvent]:
        """Return the first ``count`` epochs, those that the checkpoint includes."""
        path = self.directory / JSONL
        try:
            events = [_event(row) for row in path.read_bytes().splitlines()[:count]]
        except (FileNotFoundError, ValueError):
            events = []
        if len(events) < count:
            raise DataError(
                f"does not contain the first {count} epochs",
                remedy="restore it, or start a new run with --overwrite",
                file=path,
            )
        return events


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # before the checkpoint that relies on it
    except OSError as error:
        raise SystemFailure(
            f"cannot be written: {error.strerror}",
            remedy="make room or choose another --output",
            file=path,
        ) from error


# --- Reading --------------------------------------------------------------------------------------


def read_log(path: Path) -> list[EpochEvent]:
    """Return the epochs of a log.jsonl, at least one."""
    if not path.exists():
        raise DataError("there is no such file", remedy="name the directory of a run", file=path)
    with reading(path, DataError), open_regular(path, DataError) as file:
        lines = file.read().splitlines()
    try:
        log = [_event(line) for line in lines]
    except ValueError:
        raise DataError("is damaged", remedy="train again", file=path) from None
    if not log:
        raise DataError("contains no epoch", remedy="train for at least one epoch", file=path)
    return log


def _event(row: bytes) -> EpochEvent:
    """Return the epoch of a row of log.jsonl; ValueError if it is not one."""
    try:
        values = json.loads(row)
        event = EpochEvent(**values)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    for name, value in asdict(event).items():
        if name in ("epoch", "step"):
            fits = type(value) is int and 0 <= value < 2**63
        else:
            fits = (value is None and name in MAY_BE_NONE) or _is_number(value)
        if not fits:
            raise ValueError(name)
    return event


def _is_number(value: object) -> bool:
    """Return whether a value is a finite number that a float can represent."""
    if type(value) is int:
        return abs(value) < 2**63
    return type(value) is float and math.isfinite(value)


# --- The history, and its best epoch --------------------------------------------------------------


def best_epoch(log: Sequence[EpochEvent], metric: str = "accuracy") -> EpochEvent:
    """Return the epoch that the trainer saved as ``best.npz``.

    It has the best validation score by ``metric`` (``train.best_metric``); if tied, the lowest
    validation loss; if tied again, it is the first. Without validation it is the last epoch.
    """
    if log[-1].val_accuracy is None:
        return log[-1]

    def rank(epoch: EpochEvent) -> tuple[float, float]:
        score = epoch.val_accuracy if epoch.val_score is None else epoch.val_score
        return SCORES[metric].rank(score or 0, epoch.val_loss or 0)

    return max(log, key=rank)


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

    @property
    def last(self) -> EpochEvent | None:
        """The last complete epoch."""
        return self.epochs[-1] if self.epochs else None

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
    """Collects the events of a run in ``history``."""

    def __init__(self) -> None:
        self.history = History()

    def on_start(self, workers: int) -> None:
        self.history = replace(self.history, workers=workers)

    def on_epoch(self, event: EpochEvent, best: bool, snapshot: Snapshot) -> None:
        epochs = (*self.history.epochs, event)
        best_so_far = event if best else self.history.best
        self.history = replace(self.history, epochs=epochs, best=best_so_far)

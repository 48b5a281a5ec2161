"""Scalars for TensorBoard, in addition to the log: ``lenet train --tensorboard``.

They are written by TensorBoard's own writer, from the extra ``tensorboard``. TensorFlow is not
needed.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lenet.system.extras import require
from lenet.train.events import Callback, EpochEvent, Snapshot


class TensorBoard(Callback):
    """Writes the results of each epoch, at its last step, to ``directory``.

    The files of an old run are removed when the new run completes its first epoch.

    Raises
    ------
    SystemFailure
        TensorBoard is not installed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writer: Any = None
        _part("")  # first, so that an error names the package itself
        self._event = _part(".compat.proto.event_pb2").Event
        self._summary = _part(".compat.proto.summary_pb2").Summary
        self._make_writer = _part(".summary.writer.event_file_writer").EventFileWriter

    def on_epoch(self, event: EpochEvent, best: bool, snapshot: Snapshot) -> None:  # noqa: ARG002
        scalars = {
            "loss/train": event.train_loss,
            "loss/validation": event.val_loss,
            "accuracy/train": event.train_accuracy,
            "accuracy/validation": event.val_accuracy,
            "best_metric/validation": event.val_score,
            "learning_rate": event.lr,
            "images_per_second": event.images_per_second,
        }
        values = [
            self._summary.Value(tag=tag, simple_value=value)
            for tag, value in scalars.items()
            if value is not None
        ]
        if self._writer is None:
            for old in self._directory.glob("events.out.*") if event.epoch == 1 else ():
                old.unlink()
            self._writer = self._make_writer(str(self._directory))
        summary = self._summary(value=values)
        self._writer.add_event(self._event(wall_time=time.time(), step=event.step, summary=summary))
        self._writer.flush()


def _part(name: str) -> Any:  # noqa: ANN401 - TensorBoard has no types
    return require(f"tensorboard{name}", extra="tensorboard")

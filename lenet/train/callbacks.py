"""Callbacks of a training run: progress on the terminal, a warning at chance, checkpoints.

All callbacks receive the same events (:class:`lenet.train.events.Callback`). They are
independent of each other, and the training loop is independent of all of them.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lenet.checkpoint.checkpoint import Checkpoint, save_checkpoint
from lenet.config.schema import Config
from lenet.data.splits import validation_count
from lenet.system.extras import require
from lenet.system.files import keep_as
from lenet.system.text import supports_progress_bar
from lenet.train.events import Callback, EpochEvent, Snapshot, StepEvent

MIN_STEPS = 50
STRONG_DECAY = 0.1
LOW_RATE = 1e-4
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


def one_line(event: EpochEvent, epochs: int, best: bool, metric: str = "accuracy") -> str:
    """Return the results of an epoch as a line of text, with the one that decides which is best."""
    line = (
        f"epoch {event.epoch:{len(str(epochs))}}/{epochs}  lr {event.lr:<8.3g}"
        f"  train loss {event.train_loss:.4f} accuracy {event.train_accuracy:.2%}"
    )
    if event.val_accuracy is not None:
        line += f"  validation loss {event.val_loss:.4f} accuracy {event.val_accuracy:.2%}"
        if metric not in {"loss", "accuracy"}:
            line += f" {metric.replace('_', ' ')} {event.val_score:.2%}"
    return f"{line}  {event.images_per_second:,.0f} images/s{'  best' if best else ''}"


class Display(Callback):
    """Prints a progress bar for each epoch, if on a terminal, and one line per epoch.

    ``opening`` returns the first line for a number of workers; it is printed with the first step.
    ``metric`` is that by which the best epoch is chosen.
    """

    def __init__(
        self,
        epochs: int,
        opening: Callable[[int], str],
        file: TextIO | None = None,
        metric: str = "accuracy",
    ) -> None:
        self.epochs, self._opening, self.metric = epochs, opening, metric
        self.opening = ""
        self.file = file or sys.stderr
        self.draws = supports_progress_bar(self.file)
        self.bar: tqdm[Any] | None = None
        self.shown = 0.0

    def on_config(self, config: Config) -> None:
        self.epochs = config.train.epochs

    def on_preparation(self, what: str) -> None:
        self._print(what)

    def on_start(self, workers: int) -> None:
        self.opening = self._opening(workers)

    def on_step(self, event: StepEvent, snapshot: Snapshot) -> None:
        if self.opening:
            self._print(self.opening)
            self.opening = ""
        if not self.draws:
            return
        if self.bar is None:
            self.bar = tqdm(
                total=event.steps_per_epoch,
                desc=f"epoch {event.epoch}/{self.epochs}",
                unit="step",
                file=self.file,
                leave=False,
                bar_format=BAR,
            )
        done = event.step - (event.epoch - 1) * event.steps_per_epoch
        now = time.monotonic()
        if now - self.shown >= self.bar.mininterval or done == event.steps_per_epoch:
            self.shown = now
            elapsed = max(self.bar.format_dict["elapsed"], 1e-9)
            rate = event.images / elapsed
            self.bar.set_postfix_str(
                f"loss {event.loss:.4f}, accuracy {event.accuracy:.2%}, {rate:,.0f} images/s",
                refresh=False,
            )
            self.bar.update(done - self.bar.n)

    def on_epoch(self, event: EpochEvent, best: bool, snapshot: Snapshot) -> None:
        self.close()
        self._print(one_line(event, self.epochs, best, self.metric))

    def on_stop(self, snapshot: Snapshot) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _print(self, line: str) -> None:
        if self.file is not None:
            print(line, file=self.file, flush=True)


class ChanceWarning(Callback):
    """Warns, once, if an epoch is no better than always predicting the most frequent class.

    No better is an accuracy within 5 % of the way from the share s of that class to 1; on n
    validation images also one within 3 standard deviations, 3 √(s (1 − s) / n). A network that
    learns something, even from noisy labels, exceeds this. The first :data:`MIN_STEPS` steps
    do not count, unless there are no more.
    """

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        self.config, self.say = config, say
        self.share: float | None = None
        self.validation = 0

    def on_config(self, config: Config) -> None:
        self.config = config

    def on_classes(self, counts: NDArray[np.int64]) -> None:
        count = int(counts.sum())
        self.share = float(counts.max() / count)
        used = min(count, self.config.data.limit or count)
        self.validation = validation_count(self.config.data.validation, used)

    def on_epoch(self, event: EpochEvent, best: bool, snapshot: Snapshot) -> None:
        s = self.share
        if event.step < MIN_STEPS and event.epoch < self.config.train.epochs:
            return
        if s is None or event.train_accuracy >= s + 0.05 * (1 - s):
            return
        accuracy = event.train_accuracy
        if event.val_accuracy is not None:
            accuracy = event.val_accuracy
            deviation = math.sqrt(s * (1 - s) / max(self.validation, 1))
            if accuracy >= s + max(0.05 * (1 - s), 3 * deviation):
                return
        self.say(
            f"accuracy is {accuracy:.1%} after epoch {event.epoch}, which is chance: always "
            f"predicting the most frequent class gives {s:.1%}; {self._advice()}"
        )
        self.share = None  # once

    def _advice(self) -> str:
        optimizer = self.config.optimizer
        if optimizer.weight_decay >= STRONG_DECAY:
            return f"lower optimizer.weight_decay, which is {optimizer.weight_decay:g}"
        if optimizer.lr <= LOW_RATE:
            return f"raise optimizer.lr, which is {optimizer.lr:g}"
        return "train longer, change optimizer.lr, or check that images and labels belong together"


class Checkpoints(Callback):
    """Writes ``last.npz`` after each epoch, at intervals and on a signal; and ``best.npz``.

    ``previous.npz`` is the checkpoint before ``last.npz``, used to resume if the latter is damaged.
    """

    def __init__(self, directory: Path, every: int | str | None = None) -> None:
        self.last, self.best = directory / "last.npz", directory / "best.npz"
        self.previous = directory / "previous.npz"
        self.steps = every if isinstance(every, int) else None
        self.seconds = float(every[:-1]) if isinstance(every, str) else None
        self.saved = time.monotonic()

    def on_step(self, event: StepEvent, snapshot: Snapshot) -> None:
        in_steps = self.steps is not None and event.step % self.steps == 0
        in_time = self.seconds is not None and time.monotonic() - self.saved >= self.seconds
        if in_steps or in_time:
            self._save_last(snapshot())

    def on_epoch(self, event: EpochEvent, best: bool, snapshot: Snapshot) -> None:
        checkpoint = snapshot()
        if best:
            save_checkpoint(self.best, checkpoint)
        self._save_last(checkpoint)

    def on_stop(self, snapshot: Snapshot) -> None:
        self._save_last(snapshot())

    def _save_last(self, checkpoint: Checkpoint) -> None:
        if self.last.exists():
            keep_as(self.last, self.previous)
        save_checkpoint(self.last, checkpoint)
        self.saved = time.monotonic()


class TensorBoard(Callback):
    """Writes the results of each epoch, at its last step, to ``directory`` (extra tensorboard).

    The files of an old run are removed when the new run completes its first epoch.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writer: Any = None
        _part("")  # first, so that an error names the package itself
        self._event = _part(".compat.proto.event_pb2").Event
        self._summary = _part(".compat.proto.summary_pb2").Summary
        self._make_writer = _part(".summary.writer.event_file_writer").EventFileWriter

    def on_epoch(self, event: EpochEvent, best: bool, snapshot: Snapshot) -> None:
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

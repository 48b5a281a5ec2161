"""One run of a sweep: trained from the start or resumed, and its result.

A run's directory is what ``lenet train`` leaves, with ``train.log`` and, once there is nothing left
to do, ``result.json``. A run communicates with the process that started the sweep through files
alone, wherever it runs: its progress is read from its log, and it stops once the stop file exists.
"""

from __future__ import annotations

import json
import math
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from lenet.config.schema import Config
from lenet.errors import CheckpointError, GateFailed, LenetError, SystemFailure
from lenet.sweep.grid import SweepRun
from lenet.system.files import open_regular, replacing
from lenet.train.callbacks import ChanceWarning, Checkpoints, Display
from lenet.train.events import Callback, Snapshot, StepEvent
from lenet.train.log import best_epoch, read_log
from lenet.train.run import run_training

POLL_SECONDS: Final = 0.25  # between two looks for the stop file
RESULT: Final = "result.json"
STOPPED: Final = SystemFailure("was stopped", remedy="resume it with --resume")


@dataclass(frozen=True)
class SweepTask:
    """A run to train: its configuration, the data directory, and the file that stops it."""

    config: Config
    data_dir: str | None
    stop: Path


@dataclass(frozen=True)
class Result:
    """The metrics of a run's best epoch on validation, or the error it ended with."""

    best_epoch: int | None = None
    epochs: int = 0
    val_accuracy: float | None = None
    val_loss: float | None = None
    val_score: float | None = None
    seconds: float = 0.0
    error: str | None = None
    exit_code: int = 0

    @classmethod
    def of_error(cls, error: LenetError) -> Result:
        """Return the result of a run that failed."""
        return cls(error=str(error), exit_code=error.exit_code)

    @classmethod
    def of_json(cls, values: dict[str, object]) -> Result:
        """Return a stored result; raises TypeError or ValueError for anything else."""
        result = cls(**values)  # type: ignore[arg-type]  # checked below
        metrics = (result.val_accuracy, result.val_loss, result.val_score)
        numbers = [result.epochs, result.seconds, result.exit_code, *metrics, result.best_epoch]
        known = [number for number in numbers if number is not None]
        if not all(type(number) in (int, float) and math.isfinite(number) for number in known):
            raise ValueError("a metric is not a number")
        if result.error is None and (None in metrics[:2] or result.best_epoch is None):
            raise ValueError("a metric is missing")
        if not isinstance(result.error, str | None):
            raise ValueError("the error is not a string")
        return result

    @classmethod
    def of_log(cls, directory: Path, metric: str) -> Result:
        """Return the result of a complete run, from its log, which a resumed run continues."""
        log = read_log(directory / "log.jsonl")
        best = best_epoch(log, metric)
        return cls(
            best_epoch=best.epoch,
            epochs=len(log),
            val_accuracy=best.val_accuracy,
            val_loss=best.val_loss,
            val_score=best.val_score,
            seconds=sum(epoch.seconds for epoch in log),
        )


def train_task(task: SweepTask) -> Result:
    """Train a run, or resume it; every failure is a result.

    Divergence would happen again, and is a final result. After any other failure the run has no
    ``result.json``, and is tried again with ``--resume``.
    """
    directory = Path(task.config.output.dir)
    if task.stop.exists():
        return Result.of_error(STOPPED)
    try:
        directory.mkdir(exist_ok=True)
        with (directory / "train.log").open("a", encoding="utf-8") as log:
            result = _train(task, directory, log)
        if result.exit_code in (0, GateFailed.exit_code):
            write_json(directory / RESULT, asdict(result))
    except (OSError, LenetError) as error:
        result = Result.of_error(_as_lenet_error(error))
    return result


def finished_runs(runs: Sequence[SweepRun]) -> dict[str, Result]:
    """Return the results of the runs that need no more work, by name."""
    finished = {}
    for run in runs:
        file = Path(run.config.output.dir) / RESULT
        with suppress(OSError, ValueError, TypeError, RecursionError, LenetError):
            finished[run.name] = Result.of_json(read_json(file))
    return finished


def collected(runs: Sequence[SweepRun]) -> dict[str, Result]:
    """Return the results of all runs, by name; one that has not come to its end has failed."""
    missing = SystemFailure("has not come to its end", remedy="repeat its task")
    return {run.name: Result.of_error(missing) for run in runs} | finished_runs(runs)


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever the file contains
    """Read JSON from a regular file."""
    with open_regular(path, CheckpointError) as file:
        return json.loads(file.read())


def write_json(path: Path, content: object) -> None:
    """Write JSON, atomically."""
    with replacing(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


class _Stopped(Exception):
    """The run was asked to stop, and has saved its state."""


class _StopOnRequest(Callback):
    """Saves the state between two steps and ends the run, once the stop file exists."""

    def __init__(self, file: Path, directory: Path) -> None:
        self.file, self.directory, self.polled = file, directory, 0.0

    def on_step(self, event: StepEvent, snapshot: Snapshot) -> None:  # noqa: ARG002
        now = time.monotonic()
        if now - self.polled >= POLL_SECONDS:
            self.polled = now
            if self.file.exists():
                Checkpoints(self.directory).on_stop(snapshot)
                raise _Stopped


def _train(task: SweepTask, directory: Path, log: TextIO) -> Result:
    resume = (directory / "last.npz").exists()

    def warn(line: str) -> None:
        print(f"warning: {line}", file=log, flush=True)

    opening = f"{directory.name}: {'resumed' if resume else 'started'}"
    try:
        outcome = run_training(
            task.config,
            directory=task.data_dir,
            resume=resume,
            overwrite=not resume,  # a run that has not saved a checkpoint
            callbacks=[
                _StopOnRequest(task.stop, directory),
                Display(
                    task.config.train.epochs, lambda _: opening, log, task.config.train.best_metric
                ),
                ChanceWarning(task.config, warn),
            ],
            warn=warn,
        )
        if outcome.signal is not None:
            raise _Stopped
        result = Result.of_log(directory, task.config.train.best_metric)
    except _Stopped:
        result = Result.of_error(STOPPED)
    except Exception as error:
        if not isinstance(error, LenetError):
            traceback.print_exc(file=log)
        result = Result.of_error(_as_lenet_error(error))
    if result.error:
        print(result.error, file=log)
    return result


def _as_lenet_error(error: Exception) -> LenetError:
    match error:
        case LenetError():
            return error
        case MemoryError():
            return SystemFailure("out of memory", remedy="use fewer --jobs")
        case OSError():
            return SystemFailure(
                error.strerror or str(error),
                remedy="check disk, path and permissions, and resume with --resume",
                file=error.filename,
            )
    return LenetError(
        f"internal error: {type(error).__name__}: {error}",
        remedy="please report it, with the run's train.log",
    )

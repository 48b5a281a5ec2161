"""A training run, from the configuration to the checkpoints.

It sets up the run directory, the worker processes, the data, the trainer and the callbacks.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import FrameType

import numpy as np
from numpy.typing import NDArray

from lenet.config.schema import Config
from lenet.models.registry import register_layer, registered_layers
from lenet.nn.layer import Layer
from lenet.parallel.communicator import SIGNALS, Communicator
from lenet.parallel.errors import NotImportable, WorkersUnavailable
from lenet.parallel.launch import choose_workers
from lenet.parallel.mpi import MPIGroup
from lenet.parallel.process_group import ProcessGroup, receive_signals
from lenet.system.errors import CheckpointError
from lenet.training.build import (
    build_preprocessing,
    build_trainer,
    load_split,
)
from lenet.training.callbacks import Checkpoints, Log
from lenet.training.checkpoint import Checkpoint, facts
from lenet.training.events import Callback, EpochEvent, Snapshot
from lenet.training.run_directory import RunDirectory
from lenet.training.trainer import Trainer


@dataclass(frozen=True)
class TrainingResult:
    """The result of a run: its best and last epoch, and the signal that stopped it, if any."""

    best: EpochEvent | None
    last: EpochEvent | None
    workers: int
    signal: int | None


class _BestAndLast(Callback):
    """Stores the best and the last epoch."""

    def __init__(self) -> None:
        self.best: EpochEvent | None = None
        self.last: EpochEvent | None = None

    def on_epoch(self, event: EpochEvent, best: bool, snapshot: Snapshot) -> None:
        self.last = event
        self.best = event if best else self.best


def run_training(
    config: Config,
    *,
    directory: str | PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
    warn: Callable[[str], None] = warnings.warn,
) -> TrainingResult:
    """Train with ``config``, in its output directory.

    Parameters
    ----------
    config
        The whole configuration. ``train.workers: auto`` takes what it can get: where there is no
        room and no process for several workers, one trains, with a warning.
    directory
        Searched first for the data, before ``data.dir``.
    resume, overwrite
        Resume or replace the run in the output directory, if there is one.
    callbacks
        Receive the events, after the log and the checkpoints are written.
    warn
        Is called with each warning, a line of text.

    Returns
    -------
    The result. With ``train.workers: mpi`` only rank 0 returns it; on other ranks it is empty.

    Raises
    ------
    LenetError
        Any error with a cause outside the program, with its remedy.
    """
    workers = choose_workers(config.train.workers, config.train.batch_size)
    output = Path(config.output.dir)
    mpi = MPIGroup() if config.train.workers == "mpi" else None
    if mpi and mpi.rank:
        mpi.run_worker()
        return TrainingResult(None, None, workers, None)
    with (
        RunDirectory(output, resume=resume, overwrite=overwrite, warn=warn) as run,
        ExitStack() as stack,
    ):
        start = run.last(config, warn) if resume else None
        group: ProcessGroup | MPIGroup
        try:
            group = mpi or ProcessGroup(workers)
            stack.enter_context(group)
            trainer, class_names = _start(group, config, directory, start)
        except (WorkersUnavailable, NotImportable, MemoryError) as error:
            if config.train.workers != "auto" or workers == 1:
                raise
            reason = "out of memory" if isinstance(error, MemoryError) else error.problem
        else:
            reason = ""
        if reason:
            stack.close()
            warn(f"training with one worker instead of {workers}: {reason}")
            workers = 1
            group = ProcessGroup(workers)
            trainer, class_names = _start(group, config, directory, start)
        if start is not None:
            _warn_of_differences(start, config, workers, warn)

        def snapshot() -> Checkpoint:
            return checkpoint_of(trainer, config, class_names)

        best_and_last = _BestAndLast()
        with signals_to(trainer.signals.append):
            if start is None:
                run.begin(config)
            log = Log(output, trainer.progress.epoch)
            checkpoints = Checkpoints(output, config.train.checkpoint_every)
            for callback in callbacks:
                callback.on_start(workers)
            try:
                trainer.run([best_and_last, log, checkpoints, *callbacks], snapshot)
            except BrokenPipeError:  # the output is no longer read: save the state
                checkpoints.on_stop(snapshot)
                raise
        group.finish()
        stopped = trainer.stopped_by
    return TrainingResult(best_and_last.best, best_and_last.last, workers, stopped)


def checkpoint_of(trainer: Trainer, config: Config, class_names: tuple[str, ...]) -> Checkpoint:
    """Return the state of a trainer as a checkpoint.

    Raises
    ------
    GateFailed
        The weights are no longer finite: the run has diverged.
    """
    state = trainer.state()
    return Checkpoint(
        config=config,
        model=config.model.specification(),
        parameters=state.parameters,
        state=trainer.network.state_arrays(),
        preprocessing=build_preprocessing(config),
        class_names=class_names,
        dataset=config.data.name,
        step=state.step,
        epoch=state.epoch,
        metrics=state.metrics,
        training=state.training,
        facts=facts(workers=trainer.communicator.size),
    )


def _start(
    group: ProcessGroup | MPIGroup,
    config: Config,
    directory: str | PathLike[str] | None,
    start: Checkpoint | None,
) -> tuple[Trainer, tuple[str, ...]]:
    """Load the data, start all workers, and return this one's trainer and the class names."""
    split = load_split(config, "train", directory)
    images, image_handle = group.share(split.images)
    labels, label_handle = group.share(split.labels)
    class_names = split.class_names
    del split  # what was copied to shared memory need not stay twice
    handles = {"images": image_handle, "labels": label_handle}
    communicator = group.start(_run_worker, handles, (config, registered_layers(), start))
    try:
        trainer = _trainer(communicator, config, images, labels, start)
    except CheckpointError as error:
        error.file = str(Path(config.output.dir) / "last.npz")
        raise
    return trainer, class_names


def _trainer(
    communicator: Communicator,
    config: Config,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    start: Checkpoint | None,
) -> Trainer:
    """Return this worker's trainer, at the start of the run or in the state of a checkpoint."""
    trainer = build_trainer(config, images, labels, communicator)
    if start is not None and start.training is not None:
        trainer.restore(start.training, start.metrics, start.state)
    communicator.barrier()
    return trainer


def _run_worker(
    communicator: Communicator,
    arrays: dict[str, NDArray[np.uint8]],
    job: tuple[Config, Mapping[str, tuple[type[Layer], str]], Checkpoint | None],
) -> None:
    """Train in a worker process; the function that the process group runs."""
    config, layers, start = job
    for name, (layer, letter) in layers.items():
        register_layer(name, layer, letter)
    trainer = _trainer(communicator, config, arrays["images"], arrays["labels"], start)
    receive_signals(trainer.signals.append)
    trainer.run()


def _warn_of_differences(
    start: Checkpoint, config: Config, workers: int, warn: Callable[[str], None]
) -> None:
    """Warn if the machine differs from that of the checkpoint: the last bits may differ."""
    now = facts(workers)
    other = [key for key in now if start.facts.get(key) != now[key]]
    if "workers" not in other and "mpi" in {config.train.workers} ^ {start.config.train.workers}:
        other.append("workers")  # the same number, but a different order of summation
    if other:
        warn(f"the run started with different {', '.join(other)}: the last bits may differ")


@contextmanager
def signals_to(receive: Callable[[int], None]) -> Iterator[None]:
    """Pass the first signal to ``receive``; a second one has its previous effect."""

    def handle(number: int, _frame: FrameType | None) -> None:
        receive(number)
        signal.signal(number, before[number])

    before = {int(number): signal.getsignal(number) for number in SIGNALS}
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

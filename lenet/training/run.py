"""A training run from its configuration to its checkpoints.

Brings together the directory, the other processes, the data, the trainer and what listens to it.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import FrameType

from lenet.config.schema import Config
from lenet.parallel.communicator import SIGNALS
from lenet.parallel.launch import choose_workers
from lenet.parallel.mpi import MPIGroup
from lenet.parallel.process_group import ProcessGroup
from lenet.parallel.shared_memory import SharedMemoryCommunicator
from lenet.system.errors import CheckpointError
from lenet.training.callbacks import Checkpoints, Log
from lenet.training.checkpoint import Checkpoint, facts
from lenet.training.evaluation import load_split, make_network
from lenet.training.run_directory import RunDirectory
from lenet.training.trainer import Callback, EpochEvent, Snapshot, Trainer, train_as_worker


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended: its best and its last epoch, and the signal that stopped it, if one did."""

    best: EpochEvent | None
    last: EpochEvent | None
    workers: int
    signal: int | None


class _Memory(Callback):
    """Keeps the best and the last epoch."""

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
    """Train as ``config`` says, in its output directory.

    Parameters
    ----------
    config
        The whole configuration.
    directory
        Where to look for the data first, before ``data.dir``.
    resume, overwrite
        What to do with a run that is in the directory already.
    callbacks
        Told of steps and epochs, after log and checkpoints are written.
    warn
        Takes a line about what is not an error but should be known.

    Returns
    -------
    How it ended; with ``train.workers: mpi`` rank 0 knows, the others get an empty outcome.

    Raises
    ------
    LenetError
        Whatever went wrong, with what to do about it.
    """
    workers = choose_workers(config.train.workers, config.train.batch_size)
    output = Path(config.output.dir)
    job = MPIGroup() if config.train.workers == "mpi" else None
    if job and job.rank:
        job.follow()
        return TrainingResult(None, None, workers, None)
    with (
        RunDirectory(output, resume=resume, overwrite=overwrite) as run,
        job or ProcessGroup(workers) as team,
    ):
        start = run.last(config, warn) if resume else None
        if start is not None:
            _compare(start, config, workers, warn)
        found = load_split(config, "train", directory)
        images, image_handle = team.share(found.images)
        labels, label_handle = team.share(found.labels)
        names = found.class_names
        del found  # what was copied to shared memory need not stay twice
        network = make_network(config)
        nbytes = SharedMemoryCommunicator.bytes_needed(
            workers, 4 * network.parameters.size, network.parameters.size, network.dtype.itemsize
        )
        handles = {"images": image_handle, "labels": label_handle}
        me = team.begin(train_as_worker, handles, (config, names, start), nbytes)
        try:
            trainer = Trainer(me, config, images, labels, names, start)
        except CheckpointError as error:
            error.file = str(output / "last.npz")
            raise
        memory = _Memory()
        with signals_to(trainer.asked_to_stop.append):
            if start is None:
                run.begin(config)
            log = Log(output, trainer.progress.epoch)
            checkpoints = Checkpoints(output, config.train.checkpoint_every)
            try:
                trainer.run([memory, log, checkpoints, *callbacks])
            except BrokenPipeError:  # nobody reads what is said any more: the state stays
                checkpoints.on_stop(trainer.snapshot)
                raise
        team.done()
        stopped = trainer.stopped_by
    return TrainingResult(memory.best, memory.last, workers, stopped)


def _compare(start: Checkpoint, config: Config, workers: int, warn: Callable[[str], None]) -> None:
    """Warn if the machine is another than the run began on: the last bits may differ."""
    now = facts(workers)
    other = [key for key in now if start.facts.get(key) != now[key]]
    if "workers" not in other and "mpi" in {config.train.workers} ^ {start.config.train.workers}:
        other.append("workers")  # as many, but sums are made in another order
    if other:
        warn(
            f"the run began with other {', '.join(other)}: its numbers may differ in the last bits"
        )


@contextmanager
def signals_to(receive: Callable[[int], None]) -> Iterator[None]:
    """Hand signals to ``receive`` the first time; a second one does what it did before."""

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

"""A training run, from the configuration to the checkpoints.

It sets up the run directory, the worker processes, the data, the trainer and the callbacks:
:func:`run_training` for what a configuration names, :func:`train_network` for a network and images
in memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path

from lenet.checkpoint.checkpoint import Checkpoint, check_storable, facts
from lenet.checkpoint.restore import read_checkpoint
from lenet.config.schema import Config
from lenet.data.preprocessing import Preprocessing
from lenet.errors import ConfigError, NotImportable, WorkersUnavailable
from lenet.models.specification import specification_of
from lenet.nn.network import Network
from lenet.parallel.launch import choose_workers
from lenet.parallel.mpi import MPIGroup
from lenet.parallel.process_group import ProcessGroup, signals_to
from lenet.system.machine import one_blas_thread
from lenet.train.callbacks import Checkpoints
from lenet.train.events import Callback, EpochEvent, Snapshot
from lenet.train.log import History, Log, Recorder
from lenet.train.run_directory import RunDirectory
from lenet.train.trainer import Trainer
from lenet.train.training_set import TrainingSet, load_training_set
from lenet.train.workers import AboutData, Job, start_workers


@dataclass(frozen=True)
class TrainingResult:
    """The result of a run: its epochs, and the signal that stopped it, if any."""

    history: History
    workers: int
    signal: int | None

    @property
    def best(self) -> EpochEvent | None:
        """The best epoch since the start or the resumption of the run."""
        return self.history.best

    @property
    def last(self) -> EpochEvent | None:
        """The last epoch."""
        return self.history.last


# --- Training ------------------------------------------------------------------------------------


def run_training(
    config: Config,
    *,
    directory: str | PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    fit_outputs: bool = False,
    callbacks: Sequence[Callback] = (),
    warn: Callable[[str], None] = warnings.warn,
) -> TrainingResult:
    """Train with ``config``, in its output directory.

    Parameters
    ----------
    config
        The complete configuration. With ``train.workers: auto``, one worker trains where several
        cannot, with a warning.
    directory
        Searched first for the data, before ``data.dir``.
    resume, overwrite
        Resume or replace the run in the output directory, if there is one.
    fit_outputs
        Let the last layer have as many units as the data have classes.
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
    workers = choose_workers(config.train.workers, _images_per_step(config))
    mpi = MPIGroup() if config.train.workers == "mpi" else None
    if mpi and mpi.rank:
        mpi.run_worker()
        return TrainingResult(History(), workers, None)

    def load() -> TrainingSet:  # again, if there cannot be several workers
        return load_training_set(
            config, directory, origin, fit_outputs=fit_outputs, say=say_once, warn=warn_once
        )

    def say(line: str) -> None:
        for callback in callbacks:
            callback.on_preparation(line)

    say_once, warn_once = _once(say), _once(warn)
    output = Path(config.output.dir)
    with RunDirectory(output, resume=resume, overwrite=overwrite, warn=warn) as run:
        start = run.last(config, warn) if resume else None
        origin = None
        if start is not None:
            config = config.completed_by(start.config)
        elif config.train.start is not None:
            origin = read_checkpoint(config.train.start)
        ready = [load()] if config.open() else []
        config = (ready[0].config if ready else None) or config
        return _train(
            Job(config, start),
            lambda: ready.pop() if ready else load(),
            run,
            mpi=mpi,
            callbacks=callbacks,
            warn=warn,
        )


def train_network(
    network: Network,
    preprocessing: Preprocessing,
    data: TrainingSet,
    config: Config,
    *,
    output: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
    warn: Callable[[str], None] = warnings.warn,
) -> TrainingResult:
    """Train a network on images in memory, from the weights that it has."""
    if config.train.workers == "mpi":
        raise ConfigError(
            "is mpi, but images in memory are shared by processes of one machine",
            remedy="give a number or auto, or use run_training with data in files",
            key="train.workers",
        )
    best = partial(_BestWeights, network)
    if not output:
        job = Job(config, None, network, preprocessing)
        return _train(job, lambda: data, None, best=best, callbacks=callbacks, warn=warn)
    directory = Path(config.output.dir)
    with RunDirectory(directory, resume=resume, overwrite=overwrite, warn=warn) as run:
        start = run.last(config, warn) if resume else None
        job = Job(config, start, network, preprocessing)
        result = _train(job, lambda: data, run, best=best, callbacks=callbacks, warn=warn)
    if resume and (directory / "best.npz").exists():  # the best epoch may be one before the start
        stored = read_checkpoint(directory / "best.npz")
        network.load_state_dict({**stored.parameters, **stored.state})
    return result


def _train(
    job: Job,
    load: Callable[[], TrainingSet],
    run: RunDirectory | None,
    *,
    mpi: MPIGroup | None = None,
    best: Callable[[Trainer], Callback] | None = None,
    callbacks: Sequence[Callback],
    warn: Callable[[str], None],
) -> TrainingResult:
    """Start the workers, train, and end them; ``best`` makes a first callback of the trainer."""
    config, start = job.config, job.start
    workers = choose_workers(config.train.workers, config.train.batch_size)
    with one_blas_thread(), ExitStack() as stack:
        group: ProcessGroup | MPIGroup
        try:
            group = mpi or ProcessGroup(workers)
            stack.enter_context(group)
            trainer, about = start_workers(group, job, load, callbacks)
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
            trainer, about = start_workers(group, job, load, callbacks)
        if start is not None:
            _warn_of_differences(start, config, workers, warn)

        def snapshot() -> Checkpoint:
            return _checkpoint_of(trainer, job, about)

        recorder = Recorder()
        first: list[Callback] = [recorder, *([best(trainer)] if best else [])]
        checkpoints: Callback = Callback()
        with signals_to(trainer.signals.append):
            if run is not None:
                check_storable(snapshot())
                if start is None:
                    run.begin(about.config)
                checkpoints = Checkpoints(run.path, config.train.checkpoint_every)
                first += [Log(run.path, trainer.progress.epoch), checkpoints]
            for callback in callbacks:
                callback.on_config(about.config)
                callback.on_classes(about.counts)
                callback.on_start(workers)
            try:
                trainer.run([*first, *callbacks], snapshot)
            except BrokenPipeError:  # the output is no longer read: save the state
                checkpoints.on_stop(snapshot)
                raise
        group.finish()
        stopped = trainer.stopped_by
    return TrainingResult(recorder.history, workers, stopped)


def _once(show: Callable[[str], None]) -> Callable[[str], None]:
    """Return ``show`` without repetitions."""
    shown: set[str] = set()

    def show_once(line: str) -> None:
        if line not in shown:
            shown.add(line)
            show(line)

    return show_once


def _images_per_step(config: Config) -> int:
    """Return the images of a batch, as far as the number of workers depends on it."""
    return 1 if "train.batch_size" in config.open() else config.train.batch_size


class _BestWeights(Callback):
    """Copies weights and state to a network: those of the best epoch.

    If a signal stops the run within its first epoch, they are those of the last step.
    """

    def __init__(self, network: Network, trainer: Trainer) -> None:
        self.network, self.trainer = network, trainer

    def on_epoch(self, event: EpochEvent, best: bool, snapshot: Snapshot) -> None:
        if best:
            self._copy_weights()

    def on_stop(self, snapshot: Snapshot) -> None:
        if not self.trainer.progress.epoch:
            self._copy_weights()

    def _copy_weights(self) -> None:
        state = self.trainer.state()
        self.network.load_state_dict({**state.parameters, **state.state})


def _checkpoint_of(trainer: Trainer, job: Job, about: AboutData) -> Checkpoint:
    """Return the state of a trainer as a checkpoint."""
    state, config = trainer.state(), about.config
    if job.network is not None:
        specification_of(job.network)
    return Checkpoint(
        config=config,
        model=config.model.specification(),
        parameters=state.parameters,
        state=state.state,
        preprocessing=trainer.loader.preprocessing,
        class_names=about.class_names,
        images=about.images,
        dataset=config.data.name,
        step=state.step,
        epoch=state.epoch,
        metrics=state.metrics,
        training=state.training,
        facts={
            **facts(workers=trainer.communicator.size),
            **about.identity,
        },
    )


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

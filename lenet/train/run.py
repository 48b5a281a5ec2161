"""A training run, from the configuration to the checkpoints.

It sets up the run directory, the worker processes, the data, the trainer and the callbacks:
:func:`run_training` for what a configuration names, :func:`train_network` for a network and images
in memory.
"""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.arrays import Array
from lenet.checkpoint.checkpoint import Checkpoint, check_storable, facts
from lenet.checkpoint.restore import read_checkpoint
from lenet.config.schema import Config
from lenet.data.dataset import fingerprint
from lenet.data.levels import BYTES, Levels
from lenet.data.measure import ImageFacts, TrainingImages, image_facts, training_images
from lenet.data.pool import Pool
from lenet.data.preprocessing import Preprocessing, image_shape
from lenet.data.splits import validation_rows
from lenet.errors import CheckpointError, ConfigError
from lenet.evaluation.images import (
    Images,
    for_split,
    load_dataset,
    training_preprocessing,
    usable,
)
from lenet.models.registry import register_layer, registered_layers
from lenet.models.specification import specification_of
from lenet.nn.layer import Layer
from lenet.nn.network import Network
from lenet.parallel.communicator import SIGNALS, Communicator
from lenet.parallel.errors import NotImportable, WorkersUnavailable
from lenet.parallel.launch import choose_workers
from lenet.parallel.mpi import MPIGroup
from lenet.parallel.process_group import ProcessGroup, receive_signals
from lenet.system.machine import one_blas_thread
from lenet.train.build import build_trainer
from lenet.train.callbacks import Checkpoints
from lenet.train.distillation import Teachers, build_pool
from lenet.train.events import Callback, EpochEvent, Snapshot
from lenet.train.finetune import with_start
from lenet.train.log import History, Log, Recorder
from lenet.train.recipe import complete
from lenet.train.remarks import remarks_on_test, remarks_on_training
from lenet.train.run_directory import RunDirectory
from lenet.train.trainer import Trainer


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


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Images to train on, with their labels, and validation images where those are a set apart."""

    training: Images
    class_names: tuple[str, ...]
    validation: Images | None = None
    levels: Levels = BYTES
    """The two numbers of the files that became 0 and 255."""
    fingerprint: str | None = None
    """What the data are, wherever they are: of images, labels and class names."""
    facts: ImageFacts | None = None
    """What was measured on the images, if it was."""
    config: Config | None = None
    """The configuration without ``auto``, if that depends on the images."""
    network: Network | None = None
    """The network to train from, if the run starts from a checkpoint."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by the names by which workers receive them."""
        images, labels = self.training
        arrays = {"images": images, "labels": labels}
        if self.validation:
            arrays["validation_images"], arrays["validation_labels"] = self.validation
        return arrays


@dataclass(frozen=True, eq=False)
class _AboutData:
    """What checkpoints store about the training set."""

    config: Config
    """That of the run, with the number of classes of the data."""
    class_names: tuple[str, ...]
    counts: NDArray[np.int64]
    """Training images of each class."""
    images: TrainingImages
    identity: Mapping[str, str]
    """Digests of what a resumed run must find again: ``data`` and ``teacher``."""


@dataclass(frozen=True, eq=False)
class _Job:
    """What every worker is given besides the arrays; it is pickled."""

    config: Config
    start: Checkpoint | None = None
    """The state to resume from."""
    network: Network | None = None
    """The network to train, if it is not that of the configuration."""
    preprocessing: Preprocessing | None = None
    """Of the images; by default measured on them, or that of ``start``."""
    class_names: tuple[str, ...] = ()
    layers: Mapping[str, tuple[type[Layer], str]] = field(default_factory=registered_layers)
    """The layers that the user has registered: class and letter by name."""


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
    """Train with ``config``, in its output directory."""
    workers = choose_workers(config.train.workers, _images_per_step(config))
    mpi = MPIGroup() if config.train.workers == "mpi" else None
    if mpi and mpi.rank:
        mpi.run_worker()
        return TrainingResult(History(), workers, None)

    warned: set[str] = set()

    def warn_once(line: str) -> None:  # the data are loaded again if there cannot be workers
        if line not in warned:
            warned.add(line)
            warn(line)

    def say(line: str) -> None:
        if line not in warned:
            warned.add(line)
            for callback in callbacks:
                callback.on_preparation(line)

    def load() -> TrainingSet:
        data = load_dataset(config, directory, warn=warn_once)
        found = data.training
        measured = image_facts(found.images)
        started, network = config, None
        if origin is not None:
            started, network = with_start(config, origin, found, measured, say)
        completed = complete(started, found, measured, say, fit_outputs=fit_outputs)
        split = usable(completed, found, "train")
        fitted = for_split(completed, split)
        for remark in (
            *remarks_on_training(config, split, measured),
            *remarks_on_test(fitted, data, split, measured),
        ):
            warn_once(remark)
        apart = data.validation and usable(fitted, data.validation, "validation")
        return TrainingSet(
            (split.images, split.labels),
            split.class_names,
            (apart.images, apart.labels) if apart else None,
            levels=split.levels,
            fingerprint=fingerprint(split),
            facts=measured,
            config=completed,
            network=network,
        )

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
            _Job(config, start),
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
        job = _Job(config, None, network, preprocessing)
        return _train(job, lambda: data, None, best=best, callbacks=callbacks, warn=warn)
    directory = Path(config.output.dir)
    with RunDirectory(directory, resume=resume, overwrite=overwrite, warn=warn) as run:
        start = run.last(config, warn) if resume else None
        job = _Job(config, start, network, preprocessing)
        result = _train(job, lambda: data, run, best=best, callbacks=callbacks, warn=warn)
    if resume and (directory / "best.npz").exists():  # the best epoch may be one before the start
        stored = read_checkpoint(directory / "best.npz")
        _copy(stored.parameters, stored.state, network)
    return result


def _train(
    job: _Job,
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
            trainer, about = _start(group, job, load, callbacks)
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
            trainer, about = _start(group, job, load, callbacks)
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
        _copy(state.parameters, state.state, self.network)


def _copy(parameters: Mapping[str, Array], state: Mapping[str, Array], network: Network) -> None:
    """Copy weights and state, by name, to a network."""
    for p in network.parameter_list:
        np.copyto(p.value, parameters[p.name])
    for name, array in network.state_arrays().items():
        np.copyto(array, state[name])


def _checkpoint_of(trainer: Trainer, job: _Job, about: _AboutData) -> Checkpoint:
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


# --- The workers ---------------------------------------------------------------------------------


def _start(
    group: ProcessGroup | MPIGroup,
    job: _Job,
    load: Callable[[], TrainingSet],
    callbacks: Sequence[Callback],
) -> tuple[Trainer, _AboutData]:
    """Load the data, start all workers, and return this one's trainer and what it trains on."""
    data = load()
    channels, *_ = image_shape(data.training[0])
    config = data.config or job.config
    config = config.for_data(len(data.class_names), channels, job.config.data.title)
    identity = {} if data.fingerprint is None else {"data": data.fingerprint}
    images = job.start and job.start.images
    measured = images or training_images(data.training[0], data.levels, data.facts)
    counts = np.bincount(data.training[1], minlength=len(data.class_names))
    preprocessing = job.preprocessing or (
        job.start.preprocessing
        if job.start is not None
        else training_preprocessing(config, data.training[0], data.facts)
    )
    job = replace(
        job,
        config=config,
        network=job.network or data.network,
        preprocessing=preprocessing,
        class_names=data.class_names,
    )
    arrays = data.arrays()
    teachers = None
    if config.train.teacher is not None:
        teachers = Teachers(config, data.class_names, data.training[0])
        identity["teacher"] = teachers.digest()
    _check_same(job, identity)
    if teachers is not None:
        pool = _pool(config, teachers, data, preprocessing, callbacks)
        arrays |= {"pool_images": pool.images, "pool_scores": pool.scores}
    about = _AboutData(config, data.class_names, counts, measured, identity)
    shared = {name: group.share(array) for name, array in arrays.items()}
    del data  # what was copied to shared memory need not stay twice
    arrays = {name: array for name, (array, _) in shared.items()}
    handles = {name: handle for name, (_, handle) in shared.items()}
    communicator = group.start(_run_worker, handles, job)
    try:
        trainer = _trainer(communicator, arrays, job)
    except CheckpointError as error:
        error.file = str(Path(job.config.output.dir) / "last.npz")
        raise
    return trainer, about


def _check_same(job: _Job, identity: Mapping[str, str]) -> None:
    """Refuse to resume with other data or another teacher than those of the run."""
    before = {} if job.start is None else job.start.facts
    where = Path(job.config.output.dir) / "last.npz"
    if "data" in before and before["data"] != identity.get("data", before["data"]):
        raise CheckpointError(
            "the training images, labels or class names are not those that the run started with",
            remedy="name its data (--data), or start a new run",
            file=where,
            key="data",
        )
    if "teacher" in before and before["teacher"] != identity.get("teacher"):
        raise CheckpointError(
            "the teacher is not the network that the run started with",
            remedy="name its checkpoint, or start a new run",
            file=where,
            key="train.teacher",
        )


def _pool(
    config: Config,
    teachers: Teachers,
    data: TrainingSet,
    preprocessing: Preprocessing,
    callbacks: Sequence[Callback],
) -> Pool:
    """Return the pool of distorted images with the scores of the teachers."""

    def started(what: str) -> None:
        for callback in callbacks:
            callback.on_preparation(what)

    count = len(data.training[0])
    without = None if data.validation else validation_rows(config.data, count)
    return build_pool(config, teachers, data.training, without, preprocessing, started=started)


def _trainer(communicator: Communicator, arrays: dict[str, NDArray[Any]], job: _Job) -> Trainer:
    """Return this worker's trainer, at the start of the run or in the state of a checkpoint."""
    validation = None
    if "validation_images" in arrays:
        validation = arrays["validation_images"], arrays["validation_labels"]
    pool = None
    if "pool_images" in arrays:
        pool = Pool(arrays["pool_images"], arrays["pool_scores"])
    trainer = build_trainer(
        job.config,
        arrays["images"],
        arrays["labels"],
        communicator,
        network=job.network,
        preprocessing=job.preprocessing,
        validation=validation,
        class_names=job.class_names,
        pool=pool,
    )
    start = job.start
    if start is not None and start.training is not None:
        trainer.restore(start.training, start.metrics, start.state)
    communicator.barrier()
    return trainer


def _run_worker(communicator: Communicator, arrays: dict[str, NDArray[Any]], job: _Job) -> None:
    """Train in a worker process; the function that the process group runs."""
    for name, (layer, letter) in job.layers.items():
        register_layer(name, layer, letter)
    trainer = _trainer(communicator, arrays, job)
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
    """Pass the first signal to ``receive``; a second one has its previous effect.

    Only the main thread receives signals: in another one, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

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

"""The workers of a run: each trains on its part of every batch, with the same result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.checkpoint.checkpoint import Checkpoint
from lenet.config.schema import Config
from lenet.data.measure import TrainingImages, training_images
from lenet.data.pool import Pool
from lenet.data.preprocessing import Preprocessing, image_shape
from lenet.data.splits import validation_rows
from lenet.errors import CheckpointError
from lenet.evaluation.images import training_preprocessing
from lenet.models.registry import register_layer, registered_layers
from lenet.nn.layer import Layer
from lenet.nn.network import Network
from lenet.parallel.communicator import Communicator
from lenet.parallel.mpi import MPIGroup
from lenet.parallel.process_group import ProcessGroup, receive_signals
from lenet.train.build import build_trainer
from lenet.train.distillation import Teachers, build_pool
from lenet.train.events import Callback
from lenet.train.trainer import Trainer
from lenet.train.training_set import TrainingSet


@dataclass(frozen=True, eq=False)
class Job:
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


@dataclass(frozen=True, eq=False)
class AboutData:
    """What checkpoints store about the training set."""

    config: Config
    """That of the run, with the number of classes of the data."""
    class_names: tuple[str, ...]
    counts: NDArray[np.int64]
    """Training images of each class."""
    images: TrainingImages
    identity: Mapping[str, str]
    """Digests of what a resumed run must find again: ``data`` and ``teacher``."""


def start_workers(
    group: ProcessGroup | MPIGroup,
    job: Job,
    load: Callable[[], TrainingSet],
    callbacks: Sequence[Callback],
) -> tuple[Trainer, AboutData]:
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
    about = AboutData(config, data.class_names, counts, measured, identity)
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


def _check_same(job: Job, identity: Mapping[str, str]) -> None:
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


def _trainer(communicator: Communicator, arrays: dict[str, NDArray[Any]], job: Job) -> Trainer:
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


def _run_worker(communicator: Communicator, arrays: dict[str, NDArray[Any]], job: Job) -> None:
    """Train in a worker process; the function that the process group runs."""
    for name, (layer, letter) in job.layers.items():
        register_layer(name, layer, letter)
    trainer = _trainer(communicator, arrays, job)
    receive_signals(trainer.signals.append)
    trainer.run()

"""Judging a network: its loss and confusion matrix over a set of images.

Running floor. Also the one place where a configuration meets the data sets: which files are
read, which images are held out for validation.
"""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.checkpoint import Checkpoint, load_checkpoint
from lenet.config import Config
from lenet.data import datasets
from lenet.data.loader import Loader, Preprocessing, held_out
from lenet.errors import ConfigError
from lenet.gemm import DEFAULT_BLOCK
from lenet.layers.base import Shape
from lenet.losses import SoftmaxCrossEntropy
from lenet.metrics import Evaluation, confusion_matrix
from lenet.models import lenet5, lenet5_layers
from lenet.network import Network
from lenet.workers import Alone, Workers

EVALUATION_BATCH = 128


def make_network(config: Config) -> Network:
    """Return the network of a configuration, its weights still zero."""
    model, train = config.model, config.train
    return lenet5(
        input_size=model.input_size,
        fused=model.fuse == "auto",
        dtype=train.precision,
        activation=model.activation,
        pooling=model.pooling,
        channels=model.channels,
        units=model.units,
        classes=model.classes,
        block=DEFAULT_BLOCK if train.block == "auto" else int(train.block),
    )


def load_split(
    config: Config, split: str, directory: str | PathLike[str] | None = None
) -> datasets.Split:
    """Return the ``train`` or ``test`` images of the configuration's data set.

    Parameters
    ----------
    config
        Of the run; its data set's classes must be those of its network.
    split
        ``train`` or ``test``; the validation images are part of ``train``.
    directory
        Where to look first, before ``data.dir``.

    Raises
    ------
    ConfigError
        The data set has another number of classes than the network.
    DataError, SystemFailure
        The files are missing or damaged, or cannot be fetched.
    """
    data = config.data
    found = datasets.load(
        data.name,
        split,
        directory=directory or data.dir,
        files={role: getattr(data, role) for role in datasets.ROLES},
        classes=config.model.classes if data.name == "idx" else None,
    )
    if len(found.class_names) != config.model.classes:
        raise ConfigError(
            f"is {config.model.classes}, but {data.name} has {len(found.class_names)} classes",
            remedy=f"set model.classes to {len(found.class_names)}",
            key="model.classes",
        )
    return found


def validation_images(config: Config, count: int) -> NDArray[np.int64]:
    """Return which of ``count`` training images are held out for validation."""
    used = min(count, config.data.limit or count)
    return held_out(used, config.data.validation, config.data.validation_seed)


def evaluate(network: Network, loader: Loader, workers: Workers) -> Evaluation:
    """Return loss and confusion matrix of ``network`` over all images of ``loader``.

    Every worker judges its part of every batch; all get the whole result.
    """
    (classes,) = network.output_shape
    loss = SoftmaxCrossEntropy(classes)
    entropy, confusion = 0.0, np.zeros((classes, classes), np.int64)
    for batch in loader.epoch():
        if batch.labels.size:
            z = network.forward(batch.x)
            entropy += loss.forward(z, batch.labels, 1)
            confusion += confusion_matrix(batch.labels, z.argmax(axis=0), classes)
    figures = workers.total(np.append(confusion.ravel().astype(np.float64), entropy))
    confusion = figures[:-1].reshape(classes, classes).astype(np.int64)
    count = int(confusion.sum())
    return Evaluation(float(figures[-1]) / count, count, confusion)


def read_checkpoint(path: str | PathLike[str], *, resume: bool = False) -> Checkpoint:
    """Return a checkpoint whose arrays are exactly those that its configuration needs.

    Raises
    ------
    CheckpointError
        It is missing, damaged or hostile; with ``resume``, also if it cannot be gone on from.
    """
    return load_checkpoint(path, parameter_shapes, resume=resume)


def parameter_shapes(config: Config) -> dict[str, Shape]:
    """Return the names and shapes of the parameters of a configuration's network.

    Nothing is allocated: a checkpoint's configuration is somebody else's.
    """
    model = config.model
    shape: Shape = (1, model.input_size, model.input_size)
    shapes: dict[str, Shape] = {}
    for layer in lenet5_layers(
        activation=model.activation,
        pooling=model.pooling,
        channels=model.channels,
        units=model.units,
        classes=model.classes,
    ):
        shape = layer.build(shape)
        shapes |= {p.name: p.shape for p in layer.parameters}
    return shapes


def preprocessing_of(checkpoint: Checkpoint) -> Preprocessing:
    """Return how the network of a checkpoint wants its images prepared."""
    held = checkpoint.preprocessing
    return Preprocessing(int(held["input_size"]), held["scale"], held["shift"])


def restore_network(checkpoint: Checkpoint) -> Network:
    """Return the network that a checkpoint holds."""
    network = make_network(checkpoint.config)
    for p in network.parameter_list:
        np.copyto(p.value, checkpoint.parameters[p.name])
    return network


def evaluate_checkpoint(
    checkpoint: Checkpoint,
    split: str,
    config: Config | None = None,
    directory: str | PathLike[str] | None = None,
) -> tuple[Evaluation, tuple[str, ...]]:
    """Judge a checkpoint on a split of its own data set, or of that of another configuration.

    Parameters
    ----------
    checkpoint
        The network, and how it wants its images prepared.
    split
        ``test``, ``train`` (without the images held out) or ``validation``.
    config
        Whose data set to use, by default the checkpoint's own.
    directory
        Where to look for files first.

    Returns
    -------
    The evaluation and the names of the classes.
    """
    config = config or checkpoint.config
    found = load_split(config, "test" if split == "test" else "train", directory)
    chosen: dict[str, Any] = {}
    if split != "test":
        held = validation_images(config, len(found.images))
        chosen = {"only": held} if split == "validation" else {"without": held}
        chosen["count"] = config.data.limit
        if split == "validation" and not held.size:
            raise ConfigError(
                "held out no images for validation",
                remedy="choose --split test or train",
                key="data.validation",
            )
    loader = Loader(
        found.images,
        found.labels,
        batch_size=EVALUATION_BATCH,
        preprocessing=preprocessing_of(checkpoint),
        dtype=config.train.precision,
        **chosen,
    )
    return evaluate(restore_network(checkpoint), loader, Alone()), found.class_names

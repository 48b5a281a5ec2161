"""Judging a network: its loss and confusion matrix over a set of images.

Also the one place where a configuration meets the data sets: which files are read, which images
are held out for validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.resources import as_file, files
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.config.schema import Config
from lenet.data import datasets
from lenet.data.augmentation import Distorter
from lenet.data.loader import Loader, held_out
from lenet.data.preprocessing import Preprocessing
from lenet.models.lenet5 import lenet5, lenet5_layers
from lenet.nn.gemm import DEFAULT_BLOCK
from lenet.nn.layer import Shape
from lenet.nn.losses import SoftmaxCrossEntropy, softmax
from lenet.nn.network import Network
from lenet.parallel.communicator import Communicator, SingleProcess
from lenet.system.errors import ConfigError, DataError
from lenet.training.checkpoint import Checkpoint, load_checkpoint
from lenet.training.metrics import Evaluation, confusion_matrix

EVALUATION_BATCH = 128
PRETRAINED = "pretrained"


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
        The files are missing or damaged, or cannot be fetched; their images are too large.
    """
    data = config.data
    found = datasets.load_dataset(
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
    try:
        Preprocessing(config.model.input_size).margins(*found.images.shape[1:])
    except DataError as error:
        error.file = getattr(data, f"{split}_images") or data.name
        raise
    return found


def validation_images(config: Config, count: int) -> NDArray[np.int64]:
    """Return which of ``count`` training images are held out for validation."""
    used = min(count, config.data.limit or count)
    return held_out(used, config.data.validation, config.data.validation_seed)


@np.errstate(over="ignore", invalid="ignore")  # weights are anybody's: at worst nan comes out
def evaluate(network: Network, loader: Loader, workers: Communicator) -> Evaluation:
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

    The name ``pretrained`` stands for the network that is part of the package.

    Raises
    ------
    CheckpointError
        It is missing, damaged or hostile; with ``resume``, also if it cannot be gone on from.
    """
    if fspath(path) == PRETRAINED:
        with packaged() as file:
            return load_checkpoint(file, parameter_shapes, resume=resume)
    return load_checkpoint(path, parameter_shapes, resume=resume)


def packaged() -> AbstractContextManager[Path]:
    """Return the file of the network that is part of the package, for as long as it is open."""
    return as_file(files("lenet") / "weights" / "lenet5-mnist.npz")


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


def plain_network(checkpoint: Checkpoint) -> Network:
    """Return a checkpoint's network, layer by layer and in float32."""
    values = {"model.fuse": "off", "train.precision": "float32"}
    return restore_network(replace(checkpoint, config=checkpoint.config.with_values(values)))


def evaluate_checkpoints(
    checkpoints: Sequence[Checkpoint],
    split: str,
    config: Config | None = None,
    directory: str | PathLike[str] | None = None,
    views: int = 0,
) -> tuple[Evaluation, tuple[str, ...]]:
    """Judge a checkpoint, or several as an ensemble, on a split of a data set.

    Parameters
    ----------
    checkpoints
        One, or several whose probabilities are averaged; each knows how it wants its images.
    split
        ``test``, ``train`` (without the images held out) or ``validation``.
    config
        Whose data set to use, by default that of the first checkpoint.
    directory
        Where to look for files first.
    views
        Test-time augmentation: so many distorted views of every image beside the plain one, by
        half the affine ranges that the network was trained with; their probabilities are averaged.

    Returns
    -------
    The evaluation and the names of the classes.

    Raises
    ------
    ConfigError
        The networks have other classes than each other or than the data, or there is nothing to
        judge on.
    """
    config = config or checkpoints[0].config
    for other in checkpoints[1:]:
        if other.class_names != checkpoints[0].class_names:
            raise ConfigError(
                "the networks of an ensemble have different classes",
                remedy="give checkpoints of the same data set",
                key="model.classes",
            )
    classes = checkpoints[0].config.model.classes
    found = load_split(
        config.with_values({"model.classes": classes}),
        "test" if split == "test" else "train",
        directory,
    )
    chosen = _chosen(config, split, len(found.images))

    def loader(checkpoint: Checkpoint, distorter: Distorter | None = None) -> Loader:
        return Loader(
            found.images,
            found.labels,
            batch_size=EVALUATION_BATCH,
            preprocessing=preprocessing_of(checkpoint),
            dtype=checkpoint.config.train.precision,
            distorter=distorter,
            **chosen,
        )

    if len(checkpoints) == 1 and not views:
        network = restore_network(checkpoints[0])
        return evaluate(network, loader(checkpoints[0]), SingleProcess()), found.class_names
    opinions = []
    for checkpoint in checkpoints:
        network = restore_network(checkpoint)
        opinions.append(probabilities(network, loader(checkpoint)))
        if views:
            distorted = loader(checkpoint, _view(checkpoint))
            # Every epoch brings other distortions.
            opinions += [probabilities(network, distorted, epoch) for epoch in range(views)]
    labels = np.concatenate([batch.labels.copy() for batch in loader(checkpoints[0]).epoch()])
    return evaluate_probabilities(np.mean(opinions, axis=0), labels), found.class_names


def _chosen(config: Config, split: str, count: int) -> dict[str, Any]:
    """Return which of ``count`` images a split consists of, as the loader is told."""
    if split == "test":
        return {}
    held = validation_images(config, count)
    if split == "train":
        return {"without": held, "count": config.data.limit}
    if not held.size:
        raise ConfigError(
            "is 0: no images were held out",
            remedy="choose --split test or train",
            key="data.validation",
        )
    return {"only": held}


@np.errstate(over="ignore", invalid="ignore")  # weights are anybody's: at worst nan comes out
def probabilities(network: Network, loader: Loader, epoch: int = 0) -> NDArray[np.float64]:
    """Return the probabilities (count, classes) of all images of ``loader``."""
    scores = (network.forward(batch.x).astype(np.float64) for batch in loader.epoch(epoch))
    return np.concatenate([softmax(z).T for z in scores])


def evaluate_probabilities(
    probabilities: NDArray[np.float64], labels: NDArray[np.uint8]
) -> Evaluation:
    """Return loss and confusion matrix of probabilities (count, classes) for known labels."""
    count, classes = probabilities.shape
    told = probabilities[np.arange(count), labels]
    loss = -float(np.log(np.maximum(told, np.finfo(told.dtype).tiny)).mean())
    return Evaluation(loss, count, confusion_matrix(labels, probabilities.argmax(axis=1), classes))


def _view(checkpoint: Checkpoint) -> Distorter:
    """Return what makes the views of test-time augmentation."""
    augment, preprocessing = checkpoint.config.augment, preprocessing_of(checkpoint)
    ranges = (augment.rotation, augment.scale, augment.shear, augment.shift)
    if not any(ranges):
        raise ConfigError(
            "asks for distorted views of a network that was trained without distortions",
            remedy="leave it out, or train with augment.rotation and the like",
            key="--tta",
        )
    rotation, scale, shear, shift = (value / 2 for value in ranges)
    return Distorter(
        preprocessing.input_size,
        preprocessing.input_size,
        rotation=rotation,
        scale=scale,
        shear=shear,
        shift=shift,
        gain=preprocessing.scale,
        offset=preprocessing.shift,
    )

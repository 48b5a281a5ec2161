"""From a configuration to a trainer: network, loss, optimizer, schedule and loaders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.checkpoint.restore import build_network
from lenet.config.schema import Config
from lenet.config.sections import MAX_CLASS_WEIGHT
from lenet.data.labels import first_names
from lenet.data.loader import Loader
from lenet.data.pool import Pool
from lenet.data.preprocessing import Preprocessing
from lenet.data.splits import others, validation_rows
from lenet.errors import ConfigError
from lenet.evaluation.images import (
    Images,
    build_distorter,
    training_preprocessing,
)
from lenet.nn.distillation import Distillation
from lenet.nn.losses import Loss, MAPLoss, SoftmaxCrossEntropy
from lenet.nn.network import Network
from lenet.optim.averaging import Average
from lenet.optim.optimizers import OPTIMIZERS, Matrix, Optimizer, make_optimizer
from lenet.optim.schedules import Schedule, make_schedule, scaled
from lenet.parallel.communicator import Communicator, SingleProcess
from lenet.system.text import clipped, nearest
from lenet.train.trainer import Trainer

# --- Network ------------------------------------------------------------------------------------


def initialize(network: Network, config: Config) -> None:
    """Draw the initial weights of a configuration's network from its seed."""
    rng = np.random.default_rng(config.seed)
    network.initialize(rng, config.model.specification().initializer)


def build_loss(
    network: Network, config: Config, weights: NDArray[np.float64] | None = None
) -> Loss:
    """Return the loss of a configuration's training."""
    loss, smoothing = network.default_loss(), config.train.label_smoothing
    w = None if weights is None else weights.astype(network.dtype)
    if isinstance(loss, SoftmaxCrossEntropy):
        return SoftmaxCrossEntropy(loss.classes, smoothing, w)
    if smoothing:
        raise ConfigError(
            "requires cross-entropy, but the network ends with an RBF layer",
            remedy="set it to 0",
            key="train.label_smoothing",
        )
    return MAPLoss(loss.classes, class_weights=w)


def build_distillation(config: Config, loss: Loss) -> Distillation | None:
    """Return what a teacher adds to the loss of the labels, or None without a teacher."""
    train = config.train
    if train.teacher is None:
        return None
    if not isinstance(loss, SoftmaxCrossEntropy):
        raise ConfigError(
            "requires cross-entropy, but the network ends with an RBF layer",
            remedy="remove the teacher, or end the network with a linear layer",
            key="train.teacher",
        )
    return Distillation(train.temperature, train.teacher_weight)


# --- Training -----------------------------------------------------------------------------------


def build_trainer(
    config: Config,
    images: NDArray[np.uint8],
    labels: NDArray[Any],
    communicator: Communicator | None = None,
    *,
    network: Network | None = None,
    preprocessing: Preprocessing | None = None,
    validation: Images | None = None,
    class_names: Sequence[str] = (),
    pool: Pool | None = None,
) -> Trainer:
    """Return the trainer of one worker, at the start of a run."""
    communicator = communicator or SingleProcess()
    if network is None:
        network = build_network(config)
        initialize(network, config)
    else:
        network = network.rebuilt(fused=config.model.fuse == "auto")
    frozen = dict.fromkeys(config.train.freeze or (), 0.0)
    try:
        network.set_rates({**(config.train.layer_rates or {}), **frozen})
    except ConfigError as error:
        error.key = "train.freeze" if frozen else "train.layer_rates"
        raise
    whole = OPTIMIZERS[config.optimizer.name].needs_whole_matrices
    _share_parameters(network, communicator, network.matrices if whole else ())
    optimizer = _build_optimizer(config, network, communicator)
    decay = config.train.average
    average = Average(network.parameters, decay, zeros=communicator.zeros) if decay else None
    loader, validation_loader = _build_loaders(
        config,
        (images, labels),
        validation,
        preprocessing or training_preprocessing(config, images),
        network,
        communicator,
        pool,
    )
    (classes,) = network.output_shape
    names = class_names or [str(k) for k in range(classes)]
    weights = class_weights(config.train.class_weights, loader.class_counts(classes), names)
    loss = build_loss(network, config, weights)
    return Trainer(
        network,
        loss,
        optimizer,
        _build_schedule(config, loader.steps_per_epoch),
        loader,
        epochs=config.train.epochs,
        validation=validation_loader,
        average=average,
        best_metric=config.train.best_metric,
        patience=config.train.patience,
        distillation=build_distillation(config, loss),
        communicator=communicator,
    )


def _share_parameters(
    network: Network, communicator: Communicator, matrices: Sequence[Matrix]
) -> None:
    """Move the parameters and gradients into vectors of the communicator."""
    uncut = [(start, start + rows * columns) for start, rows, columns in matrices]
    size, dtype = network.parameters.size, network.dtype
    shared = communicator.zeros(size, dtype)
    np.copyto(shared, network.parameters)
    network.bind(shared, communicator.gradient_buffer(size, dtype, uncut))


def _build_optimizer(config: Config, network: Network, communicator: Communicator) -> Optimizer:
    optimizer = config.optimizer
    return make_optimizer(
        optimizer.name,
        network.parameters.size,
        network.dtype,
        weight_decay=optimizer.weight_decay,
        decays=network.decays,
        lr_multipliers=network.lr_multipliers,
        zeros=communicator.zeros,
        matrices=network.matrices,
        **optimizer.hyperparameters(),
    )


def _build_schedule(config: Config, steps_per_epoch: int) -> Schedule:
    return make_schedule(
        config.schedule.name,
        scaled(config.optimizer.lr, config.train.batch_size, config.optimizer.lr_batch),
        steps=config.train.epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        **config.schedule.options(),
    )


def _build_loaders(
    config: Config,
    training: Images,
    validation: Images | None,
    preprocessing: Preprocessing,
    network: Network,
    communicator: Communicator,
    pool: Pool | None,
) -> tuple[Loader, Loader]:
    """Return the loaders of the training and the validation images."""
    images, labels = training
    for_validation = None if validation else validation_rows(config.data, len(images))
    common: dict[str, Any] = {
        "batch_size": config.train.batch_size,
        "preprocessing": preprocessing,
        "rank": communicator.rank,
        "size": communicator.size,
        "dtype": network.dtype,
    }
    loader = Loader(
        images,
        labels,
        rows=others(len(images), for_validation) if for_validation is not None else None,
        seed=config.seed,
        distorter=build_distorter(config.augment, preprocessing),
        pool=pool,
        sliced=not network.mixes_images,
        **common,
    )
    if loader.count < config.train.batch_size:
        raise ConfigError(
            f"is {config.train.batch_size}, but there are {loader.count} images to train on",
            remedy=f"choose at most {loader.count}",
            key="train.batch_size",
        )
    return loader, Loader(*(validation or training), rows=for_validation, sliced=True, **common)


# --- Class weights -------------------------------------------------------------------------------


def class_weights(
    given: str | Sequence[float] | Mapping[str, float],
    counts: NDArray[np.int64],
    class_names: Sequence[str],
) -> NDArray[np.float64] | None:
    """Return the factor of the loss of each class, or None if all are 1.

    Examples
    --------
    >>> class_weights("balanced", np.array([90, 10, 0]), ["a", "b", "c"]).round(3)
    array([0.556, 5.   , 0.   ])
    >>> class_weights({"b": 3}, np.array([90, 10]), ["a", "b"])
    array([1., 3.])
    """
    if given == "none":
        return None
    if given == "balanced":
        classes = np.count_nonzero(counts)
        inverse = counts.sum() / (classes * np.maximum(counts, 1))
        balanced: NDArray[np.float64] = np.where(counts > 0, inverse, 0.0)
        if balanced.max() > MAX_CLASS_WEIGHT:
            balanced = np.minimum(balanced, MAX_CLASS_WEIGHT)
            balanced *= counts.sum() / (balanced @ counts)
        return balanced
    if isinstance(given, Mapping):
        _check_names(given, class_names)
        weights = np.array([given.get(name, 1.0) for name in class_names])
    else:
        weights = np.array(given, np.float64)
    if len(weights) != len(counts):
        raise ConfigError(
            f"has {len(weights)} numbers, but there are {len(counts)} classes",
            remedy=f"give one for each of {first_names(class_names)}",
            key="train.class_weights",
        )
    if not weights @ counts:
        raise ConfigError(
            "is 0 for all training images",
            remedy="give a number above 0",
            key="train.class_weights",
        )
    return weights


def _check_names(given: Mapping[str, float], class_names: Sequence[str]) -> None:
    for name in given:
        if name not in class_names:
            near = nearest(name, class_names)
            raise ConfigError(
                f"there is no class {clipped(name)}",
                remedy=f"did you mean {near}?"
                if near
                else f"the classes are {first_names(class_names)}",
                key="train.class_weights",
            )

"""From a configuration to objects; the only file that uses both.

It builds data, network, loss, optimizer, schedule and loaders. The trainer uses them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lenet.config.schema import Config
from lenet.config.sections import Augment, Data
from lenet.data import datasets
from lenet.data.augmentation import Distorter
from lenet.data.catalogue import FORMATS, ROLES
from lenet.data.degradation import DEGRADATIONS, Degrader
from lenet.data.labels import numbers
from lenet.data.loader import Loader, held_out, validation_count
from lenet.data.measure import ImageFacts, fit_preprocessing, image_facts
from lenet.data.pool import Pool
from lenet.data.preprocessing import Preprocessing, image_shape
from lenet.errors import ConfigError, DataError
from lenet.nn.distillation import Distillation
from lenet.nn.gemm import DEFAULT_BLOCK
from lenet.nn.losses import Loss, MAPLoss, SoftmaxCrossEntropy
from lenet.nn.network import Network
from lenet.optim.averaging import Average
from lenet.optim.optimizers import OPTIMIZERS, Optimizer, hyperparameter_names, make_optimizer
from lenet.optim.schedules import Schedule, ScheduleOptions, make_schedule, scaled
from lenet.parallel.communicator import Communicator, SingleProcess
from lenet.train.class_weights import class_weights
from lenet.train.trainer import Trainer

Images: TypeAlias = tuple[NDArray[np.uint8], NDArray[Any]]
"""Images, uint8 (count,H,W) or (count,C,H,W), and labels (count,)."""

# --- Data ---------------------------------------------------------------------------------------


def load_split(
    config: Config,
    split: str,
    directory: str | PathLike[str] | None = None,
    *,
    warn: Callable[[str], None] = warnings.warn,
) -> datasets.Split:
    """Return the ``train`` or ``test`` images of the configuration's data set.

    Parameters
    ----------
    config
        Its network must have as many classes as its data set, if it has a stated number.
    split
        ``train`` or ``test``; the validation images are part of ``train``.
    directory
        Searched first, before ``data.dir``.
    warn
        Takes a line about what is not an error but should be known.

    Raises
    ------
    ConfigError
        The data set and the network have different numbers of classes.
    DataError, SystemFailure
        The files are missing, damaged or cannot be downloaded, or the images are too large.
    """
    model = config.model
    stated = model.classes if model.layers is None else None
    found = load_dataset(config, split, directory, classes=stated, warn=warn)
    if model.layers is not None and model.classes is not None:
        found = _with_outputs(found, model.classes)
    if len(found.class_names) < 2:
        raise DataError(
            f"all images are of one class, {found.class_names[0]}",
            remedy="add images of another class",
            file=images_file(config.data, split),
        )
    try:
        build_preprocessing(for_split(config, found)).check(found.images)
    except DataError as error:
        error.file = images_file(config.data, split)
        error.remedy = _remedy_for_shape(config, image_shape(found.images))
        raise
    return found


def _with_outputs(found: datasets.Split, outputs: int) -> datasets.Split:
    """Return images whose classes, if they have no names, are as many as the outputs, or more."""
    names = found.class_names
    if len(names) >= outputs or names != numbers(len(names)):
        return found
    return replace(found, class_names=numbers(outputs))


def for_split(config: Config, found: datasets.Split) -> Config:
    """Return a copy of ``config`` whose network has the classes and the channels of images.

    Raises
    ------
    ConfigError
        The configuration states another number of classes.
    """
    channels, *_ = image_shape(found.images)
    return config.for_data(len(found.class_names), channels, config.data.title)


def load_dataset(
    config: Config,
    split: str,
    directory: str | PathLike[str] | None = None,
    *,
    classes: int | None = None,
    warn: Callable[[str], None] = warnings.warn,
) -> datasets.Split:
    """Return images of the configuration's data set, whether or not they fit its network.

    Parameters
    ----------
    config, split, directory, warn
        As for :func:`load_split`.
    classes
        The number of classes of the user's own data, if their classes have no names; by default
        that of the labels.

    Raises
    ------
    DataError, SystemFailure
        The files are missing, damaged or cannot be downloaded, or have labels of no class.
    """
    data = config.data
    found = datasets.load_dataset(
        data.name,
        split,
        directory=directory or data.dir,
        files={role: getattr(data, role) for role in ROLES},
        path=data.path,
        classes=classes if data.name in FORMATS else None,
        class_names=data.class_names,
        size=data.size,
        transpose=data.transpose,
        invert=data.invert,
        test_fraction=data.test_fraction,
        warn=warn,
    )
    return datasets.with_drawn(found, data.drawn) if data.drawn and split == "train" else found


def images_file(data: Data, split: str) -> str:
    """Return the file that errors about the images of a split name."""
    return getattr(data, f"{split}_images") or data.title


def _remedy_for_shape(config: Config, shape: tuple[int, int, int]) -> str:
    """Return how a network could take images (C,H,W) that do not fit its input."""
    C, H, W = shape
    taken = build_preprocessing(config).input_shape
    if config.model.input is None and config.model.name == "lenet5":
        return f"set model.input_size to {max(H, W)}"
    return f"set model.input to [{C}, {max(H, taken[1])}, {max(W, taken[2])}]"


def data_keys(target: str, directory: str | PathLike[str] | None = None) -> dict[str, str | None]:
    """Return the values of the keys that name a data set.

    Parameters
    ----------
    target
        A name in the catalogue, or the path of data of one's own.
    directory
        Where the files are, if ``target`` is the name of a format.

    Raises
    ------
    ConfigError
        It is neither a known name nor a path, or a format without a path.
    DataError
        There are no data at the path.
    """
    name, path = datasets.resolve(target)
    if name in FORMATS and path is None and directory is None:
        raise ConfigError(
            f"{name} is a format of your own data",
            remedy="give the path of the data instead",
        )
    keys: dict[str, str | None] = {f"data.{role}": None for role in ROLES}
    keys |= {"data.name": name, "data.path": None if path is None else str(path)}
    if name in FORMATS and path is None:
        keys["data.dir"] = str(directory)
    return keys


def with_data(
    config: Config, target: str | None, directory: str | PathLike[str] | None = None
) -> Config:
    """Return a configuration with the data set ``target``, or as it is if that is None.

    Options of the data, such as ``data.invert``, are kept where the format is the same: they are
    then the same data, or data of the same kind, in another place.
    """
    if target is None:
        return config
    values: dict[str, object] = {**data_keys(target, directory)}
    if values["data.name"] != config.data.name:
        options = ("size", "transpose", "invert", "class_names", "test_fraction")
        values |= {f"data.{key}": getattr(Data, key) for key in options}
    return config.with_values(values)


def validation_indices(config: Config, count: int) -> NDArray[np.int64]:
    """Return the indices of the validation images among ``count`` training images.

    The built-in digits that were added to them, which are the last ones, are not for validation.
    """
    used = min(count - config.data.drawn, config.data.limit or count)
    count = validation_count(config.data.validation, used)
    return held_out(used, count, config.data.validation_seed)


def split_indices(config: Config, split: str, count: int) -> dict[str, Any]:
    """Return the arguments of :class:`Loader` that select the images of a split.

    Parameters
    ----------
    config
        Determines the validation images.
    split
        ``test``, ``train`` (without the validation images) or ``validation``.
    count
        Number of images in the file of the split.

    Raises
    ------
    ConfigError
        There are no validation images.
    """
    if split == "test":
        return {}
    validation = validation_indices(config, count)
    if split == "train":
        return {"without": validation, "count": config.data.limit}
    if not validation.size:
        raise ConfigError(
            "is 0, so there are no validation images",
            remedy="use --split test or train",
            key="data.validation",
        )
    return {"only": validation}


def build_preprocessing(config: Config) -> Preprocessing:
    """Return the preprocessing of a configuration's network."""
    model = config.model.specification()
    return Preprocessing(model.input_shape, model.scale, model.shift)


def training_preprocessing(
    config: Config, images: NDArray[np.uint8], facts: ImageFacts | None = None
) -> Preprocessing:
    """Return the preprocessing for a configuration's network and its training images.

    Levels and background are measured on the images, unless ``model.scale`` or ``model.shift``
    are given. Images that use most of the levels from 0 to 255 on black are scaled as the
    configuration says. ``facts`` are the measurements, if they were made before.
    """
    preprocessing = build_preprocessing(config)
    if not _is_measured(config):
        return preprocessing
    return fit_preprocessing(preprocessing, facts or image_facts(images))


def _is_measured(config: Config) -> bool:
    return config.model.scale is None and config.model.shift is None


def build_distorter(
    augment: Augment, preprocessing: Preprocessing, strength: float = 1.0
) -> Distorter | None:
    """Return the random distortion of images, or None if all ranges are zero.

    Parameters
    ----------
    augment
        The ranges of the distortions.
    preprocessing
        The preprocessing of the distorted images.
    strength
        A factor for the affine ranges, the elastic field and the degradations.
    """
    ranges = {
        name: strength * getattr(augment, name)
        for name in ("rotation", "scale", "shear", "shift", "elastic_alpha", "stretch")
    }
    amounts = {name: strength * getattr(augment, name) for name in DEGRADATIONS}
    if not any(ranges.values()) and not any(amounts.values()):
        return None
    levels: dict[str, Any] = {
        "background": preprocessing.background,
        "gain": preprocessing.scale,
        "offset": preprocessing.shift,
    }
    degrader = Degrader(amounts, augment.chance, **levels) if any(amounts.values()) else None
    return Distorter(
        preprocessing.input_shape[1],
        preprocessing.input_shape[2],
        **ranges,
        elastic_sigma=augment.elastic_sigma,
        degrader=degrader,
        **levels,
    )


# --- Network ------------------------------------------------------------------------------------


def build_network(config: Config) -> Network:
    """Return the network of a configuration, with all weights zero."""
    return config.model.specification().build(
        dtype=config.train.precision,
        fused=config.model.fuse == "auto",
        block=gemm_block(config),
    )


def initialize(network: Network, config: Config) -> None:
    """Draw the initial weights of a configuration's network from its seed."""
    rng = np.random.default_rng(config.seed)
    network.initialize(rng, config.model.specification().initializer)


def gemm_block(config: Config) -> int:
    """Return the maximum number of multiply-adds in one matrix product."""
    return DEFAULT_BLOCK if config.train.block == "auto" else int(config.train.block)


def build_loss(
    network: Network, config: Config, weights: NDArray[np.float64] | None = None
) -> Loss:
    """Return the loss of a configuration's training.

    Parameters
    ----------
    network
        Its last layer determines the loss.
    config
        May ask for label smoothing.
    weights
        Factors of the classes, as :func:`class_weights` returns them.

    Raises
    ------
    ConfigError
        The loss of the last layer does not support label smoothing.
    """
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
    """Return what a teacher adds to the loss of the labels, or None without a teacher.

    Raises
    ------
    ConfigError
        The loss of the labels is not cross-entropy.
    """
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
    labels: NDArray[np.uint8],
    communicator: Communicator | None = None,
    *,
    network: Network | None = None,
    preprocessing: Preprocessing | None = None,
    validation: Images | None = None,
    class_names: Sequence[str] = (),
    pool: Pool | None = None,
) -> Trainer:
    """Return the trainer of one worker, at the start of a run.

    Parameters
    ----------
    config
        The complete configuration; the same in all workers.
    images, labels
        The training set: uint8 (count,H,W) or (count,C,H,W), and (count,).
    communicator
        Connects the workers; by default there is only one.
    network
        A network of which a copy is trained, from its weights; by default that of the
        configuration, from random weights.
    preprocessing
        Of the images; by default as :func:`training_preprocessing` measures it.
    validation
        Validation images and labels; by default the configuration chooses them among the training
        set.
    class_names
        By which ``train.class_weights`` may name the classes; by default their numbers.
    pool
        The distorted training images with the scores of ``train.teacher``.

    Raises
    ------
    ConfigError
        The configuration and the data contradict each other.
    """
    communicator = communicator or SingleProcess()
    if network is None:
        network = build_network(config)
        initialize(network, config)
    else:
        network = network.rebuilt(fused=config.model.fuse == "auto")
    _share_parameters(network, communicator)
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


def _share_parameters(network: Network, communicator: Communicator) -> None:
    """Move the parameters and gradients into vectors of the communicator."""
    size, dtype = network.parameters.size, network.dtype
    shared = communicator.zeros(size, dtype)
    np.copyto(shared, network.parameters)
    network.bind(shared, communicator.gradient_buffer(size, dtype))


def _build_optimizer(config: Config, network: Network, communicator: Communicator) -> Optimizer:
    optimizer = config.optimizer
    names = hyperparameter_names(OPTIMIZERS[optimizer.name])
    return make_optimizer(
        optimizer.name,
        network.parameters.size,
        network.dtype,
        weight_decay=optimizer.weight_decay,
        decays=network.decays,
        lr_multipliers=network.lr_multipliers,
        zeros=communicator.zeros,
        **{name: getattr(optimizer, name) for name in names},
    )


def _build_schedule(config: Config, steps_per_epoch: int) -> Schedule:
    options = fields(ScheduleOptions)
    return make_schedule(
        config.schedule.name,
        scaled(config.optimizer.lr, config.train.batch_size, config.optimizer.lr_batch),
        steps=config.train.epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        **{option.name: getattr(config.schedule, option.name) for option in options},
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
    held_out_images = None if validation else validation_indices(config, len(images))
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
        without=held_out_images,
        count=config.data.limit,
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
    return loader, Loader(*(validation or training), only=held_out_images, sliced=True, **common)

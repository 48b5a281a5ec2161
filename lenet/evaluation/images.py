"""From a configuration to the images that a network is given: data set, split, preprocessing.

Also the images of a data set for the network of a checkpoint, whose classes and size they must fit.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lenet.checkpoint.checkpoint import Checkpoint
from lenet.config.schema import Config
from lenet.config.sections import Augment, Data
from lenet.data import datasets
from lenet.data.augmentation import Distorter
from lenet.data.catalogue import FORMATS, ROLES
from lenet.data.datasets import Split
from lenet.data.degradation import DEGRADATIONS, Degrader
from lenet.data.labels import as_labels, first_names, numbers
from lenet.data.loader import held_out, validation_count
from lenet.data.measure import ImageFacts, fit_preprocessing, image_facts
from lenet.data.preprocessing import Preprocessing, image_shape
from lenet.errors import ConfigError, DataError

Images: TypeAlias = tuple[NDArray[np.uint8], NDArray[Any]]
"""Images, uint8 (count,H,W) or (count,C,H,W), and labels (count,)."""

# --- The data set of a configuration ------------------------------------------------------------


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
    return usable(config, found, split)


def usable(config: Config, found: Split, split: str) -> Split:
    """Return images that fit the network of a configuration, which may have more classes.

    Raises
    ------
    ConfigError
        The data set and the network have different numbers of classes.
    DataError
        The images are too large, or all of one class.
    """
    model = config.model
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
    configuration says. ``facts`` are the measurements, if they were made before. The background of
    the user's own images is always measured: their mean, where there is no paper.
    """
    preprocessing = build_preprocessing(config)
    if not _is_measured(config):
        if config.data.name not in FORMATS:
            return preprocessing
        facts = facts or image_facts(images)
        background = round(facts.mean) if facts.paper is None else facts.paper
        return replace(preprocessing, background=background)
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
        for name in ("rotation", "scale", "shear", "shift", "elastic_alpha", "stretch", "crop")
    }
    amounts = {name: strength * getattr(augment, name) for name in DEGRADATIONS}
    ranges["flip"] = augment.flip
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


# --- The images for a checkpoint ---------------------------------------------------------------


def load_images(
    checkpoint: Checkpoint,
    split: str,
    config: Config | None = None,
    directory: str | PathLike[str] | None = None,
    *,
    warn: Callable[[str], None] = warnings.warn,
) -> Split:
    """Return images to evaluate the network of a checkpoint on; their labels are its classes.

    If the names of the classes in the data are among those of the network, the names count, not
    the order; classes without names count by number. Pictures in directories are scaled to the
    size of the training images, if ``data.size`` is not given.

    Parameters
    ----------
    checkpoint
        The trained network.
    split
        ``train`` or ``test``.
    config
        The configuration of the data set; by default that of the checkpoint.
    directory
        Searched first for the files.
    warn
        Takes a line about what is not an error but should be known.

    Raises
    ------
    ConfigError
        The data have other classes than the network.
    DataError, SystemFailure
        The files are missing, damaged or cannot be downloaded, or the images do not fit.
    """
    config = config or checkpoint.config
    if config.data.name == "folder" and config.data.size is None and checkpoint.images is not None:
        config = config.with_values({"data.size": checkpoint.images.shape[1:]})
    found = load_dataset(config, split, directory, warn=warn)
    return for_network(checkpoint, found, images_file(config.data, split), warn=warn)


def for_network(
    checkpoint: Checkpoint,
    found: Split,
    file: str,
    *,
    warn: Callable[[str], None] = warnings.warn,
) -> Split:
    """Return ``found``, read from ``file``, with labels that are the classes of a network.

    Raises
    ------
    ConfigError
        The data have other classes than the network.
    DataError
        The images do not fit it.
    """
    try:
        checkpoint.preprocessing.check(found.images)
    except DataError as error:
        C, H, W = checkpoint.preprocessing.input_shape
        channels = "1 channel" if C == 1 else f"{C} channels"
        error.file, error.remedy = file, f"give images of at most {H}×{W} with {channels}"
        raise
    if found.class_names == checkpoint.class_names:
        return found
    labels = _as_classes(found, checkpoint.class_names, file, warn)
    return replace(found, class_names=checkpoint.class_names, labels=labels)


def _as_classes(
    found: Split, names: tuple[str, ...], file: str, warn: Callable[[str], None]
) -> NDArray[Any]:
    """Return the labels of ``found`` as indices into ``names``."""
    theirs = found.class_names
    unnamed = theirs == numbers(len(theirs))
    if set(theirs) <= set(names):
        return as_labels(np.array(list(map(names.index, theirs)))[found.labels], Path(file))
    if unnamed and len(theirs) <= len(names):
        return found.labels
    if len(theirs) != len(names):
        from_one = unnamed and found.labels.min() == 1 and len(theirs) == len(names) + 1
        raise ConfigError(
            f"has {len(theirs)} classes ({first_names(theirs)}), the network has {len(names)} "
            f"({first_names(names)})",
            remedy="subtract 1 from the labels, which seem to begin at 1"
            if from_one
            else "name data with the classes of the network",
            file=file,
        )
    warn(
        f"{file}: its classes ({first_names(theirs)}) have other names than those of the network "
        f"({first_names(names)}); they are compared by number"
    )
    return found.labels

"""From a configuration to the images that a network is given: data set, split, preprocessing.

Also the images of a data set for the network of a checkpoint, whose classes and size they must fit.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lenet.checkpoint.checkpoint import Checkpoint
from lenet.config.data_section import Augment, Data
from lenet.config.schema import Config
from lenet.data.augmentation import Distorter
from lenet.data.catalogue import FORMATS, ROLES
from lenet.data.dataset import Dataset, Rows, Split, fingerprint, open_dataset
from lenet.data.degradation import DEGRADATIONS, Degrader
from lenet.data.formats.stored import Options
from lenet.data.labels import as_labels, first_names, numbers
from lenet.data.loader import Loader
from lenet.data.measure import ImageFacts, disagreements, fit_preprocessing, image_facts
from lenet.data.preprocessing import Preprocessing, image_shape
from lenet.data.sources import resolve
from lenet.errors import ConfigError, DataError, LenetError

NAMING = ("name", "path", *ROLES)  # the keys that name the data

Images: TypeAlias = tuple[NDArray[np.uint8], NDArray[Any]]
"""Images, uint8 (count,H,W) or (count,C,H,W), and labels (count,)."""

# --- The data set of a configuration ------------------------------------------------------------


def load_dataset(
    config: Config,
    directory: str | PathLike[str] | None = None,
    *,
    warn: Callable[[str], None] = warnings.warn,
    **changes: Any,  # noqa: ANN401 - of Options
) -> Dataset:
    """Return the data set of a configuration, whether or not it fits its network."""
    data, model = config.data, config.model
    values = {f.name: getattr(data, f.name) for f in fields(Options) if hasattr(data, f.name)}
    values["dir"] = None if (named := directory or data.dir) is None else fspath(named)
    values["classes"] = model.classes if model.layers is None and data.name in FORMATS else None
    values["within"] = build_preprocessing(config).input_shape[1:]
    return open_dataset(Options(**(values | changes)), warn=warn)


def load_split(
    config: Config,
    split: str,
    directory: str | PathLike[str] | None = None,
    *,
    warn: Callable[[str], None] = warnings.warn,
) -> Split:
    """Return the ``train`` (with those for validation) or ``test`` images of a configuration."""
    data = load_dataset(config, directory, warn=warn)
    return usable(config, data.training if split == "train" else data.split(split), split)


def usable(config: Config, found: Split, split: str) -> Split:
    """Return images that fit the network of a configuration, which may have more classes."""
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


def _with_outputs(found: Split, outputs: int) -> Split:
    """Return images whose classes, if they have no names, are as many as the outputs, or more."""
    names = found.class_names
    if len(names) >= outputs or names != numbers(len(names)):
        return found
    return replace(found, class_names=numbers(outputs))


def for_split(config: Config, found: Split) -> Config:
    """Return a copy of ``config`` whose network has the classes and the channels of images."""
    channels, *_ = image_shape(found.images)
    return config.for_data(len(found.class_names), channels, config.data.title)


def images_file(data: Data, split: str) -> str:
    """Return the file that errors about the images of a split name."""
    return getattr(data, f"{split}_images", None) or data.title


def _remedy_for_shape(config: Config, shape: tuple[int, int, int]) -> str:
    """Return how a network could take images (C,H,W) that do not fit its input."""
    C, H, W = shape
    taken = build_preprocessing(config).input_shape
    if config.model.input is None and config.model.name == "lenet5":
        return f"set model.input_size to {max(H, W)}"
    return f"set model.input to [{C}, {max(H, taken[1])}, {max(W, taken[2])}]"


def data_keys(
    target: str, directory: str | PathLike[str] | None = None, *, pattern: bool = False
) -> dict[str, str | None]:
    """Return the values of the keys that name a data set."""
    name, path = resolve(target, Options(label_pattern="()") if pattern else None)
    if name in FORMATS and path is None and directory is None:
        raise ConfigError(
            f"{name} is a format for user-supplied data",
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
        options = (
            *("size", "transpose", "invert", "class_names", "test_fraction", "validation_path"),
            *("label_column", "label_pattern", "labels"),
            *("limit", "drawn", "validation", "validation_seed"),  # how others were chosen
        )
        values |= {f"data.{key}": getattr(Data, key) for key in options}
    return config.with_values(values)


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
    """Return the random distortion of images, or None if all ranges are zero."""
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


def distorted(config: Config, found: Split, seed: int = 0) -> NDArray[np.uint8]:
    """Return images as training sees them: distorted and padded, if there are distortions."""
    complete = for_split(config, found)
    preprocessing = replace(training_preprocessing(complete, found.images), scale=1.0, shift=0.0)
    distorter = build_distorter(config.augment, preprocessing)
    if distorter is None:
        return found.images
    loader = Loader(
        found.images,
        found.labels,
        batch_size=len(found.labels),
        preprocessing=preprocessing,
        distorter=distorter,
    )
    (batch,) = loader.epoch(seed)
    pixels = np.clip(np.rint(batch.x), 0, 255).astype(np.uint8).transpose(3, 0, 1, 2)
    return pixels[:, 0] if pixels.shape[1] == 1 else pixels


# --- The images for a checkpoint ---------------------------------------------------------------


def load_images(
    checkpoint: Checkpoint,
    split: str,
    config: Config | None = None,
    directory: str | PathLike[str] | None = None,
    *,
    warn: Callable[[str], None] = warnings.warn,
) -> Split:
    """Return the images of :func:`load_part`, and no others."""
    found, rows = load_part(checkpoint, split, config, directory, warn=warn)
    return found.take(rows)


def load_part(
    checkpoint: Checkpoint,
    split: str,
    config: Config | None = None,
    directory: str | PathLike[str] | None = None,
    *,
    warn: Callable[[str], None] = warnings.warn,
) -> tuple[Split, Rows]:
    """Return images to evaluate the network of a checkpoint on; their labels are its classes.

    If the names of the classes in the data are among those of the network, the names count, not
    the order; classes without names count by number. Pictures are scaled to the size of the
    training images, if ``data.size`` is not given. How the training images were chosen
    (``data.limit``, ``data.drawn``, ``data.validation``) has no effect on other data, and data
    without a test part are evaluated as a whole.
    """
    config = config or checkpoint.config
    form = picture_form(checkpoint, config)
    data = load_dataset(config, directory, warn=warn, **form)
    mine = (getattr(c.data, key) for c in (config, checkpoint.config) for key in NAMING)
    values = list(mine)
    if values[: len(NAMING)] != values[len(NAMING) :] and not _is_own(checkpoint, data):
        others = {"limit": None, "drawn": 0, "validation": None, "own": False}
        data = load_dataset(config, directory, warn=warn, **form, **others)
    found, rows = data.part(split)
    file = images_file(config.data, split)
    fitting = for_network(checkpoint, found, file, warn=warn)
    for remark in _remarks(checkpoint, found):
        warn(f"{file}: {remark}")
    return fitting, rows


def picture_form(checkpoint: Checkpoint, config: Config) -> dict[str, Any]:
    """Return options of a data set that give its pictures the form of the training images."""
    form: dict[str, Any] = {"classes": None}
    if checkpoint.images is not None:
        C, *size = checkpoint.images.shape
        form["channels"] = C
        if config.data.size in (None, "auto"):
            form["size"] = tuple(size)
    return form


def _is_own(checkpoint: Checkpoint, data: Dataset) -> bool:
    """Return whether data in another place are those that the network was trained on."""
    if not data.divided or "data" not in checkpoint.facts:
        return False
    try:
        return fingerprint(data.training) == checkpoint.facts["data"]
    except LenetError:
        return False


def _remarks(checkpoint: Checkpoint, found: Split) -> list[str]:
    """Return how images differ from those that the network was trained on."""
    known = checkpoint.images
    if known is None or not len(found.images):
        return []
    training = ImageFacts(known.shape, known.darkest, known.lightest, math.nan, known.paper)
    return disagreements(training, image_facts(found.images), "these images")


def for_network(
    checkpoint: Checkpoint,
    found: Split,
    file: str,
    *,
    warn: Callable[[str], None] = warnings.warn,
) -> Split:
    """Return ``found``, read from ``file``, with labels that are the classes of a network."""
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

"""From a checkpoint to objects: the stored network, and images to evaluate it on."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.resources import as_file, files
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.config.schema import Config
from lenet.data.datasets import Split
from lenet.data.labels import as_labels, first_names, numbers
from lenet.errors import ConfigError, DataError
from lenet.nn.network import Network
from lenet.train.build import gemm_block, images_file, load_dataset
from lenet.train.checkpoint import Checkpoint, load_checkpoint

PRETRAINED, PRETRAINED_FILE = "pretrained", "lenet5-mnist.npz"


def read_checkpoint(path: str | PathLike[str], *, resume: bool = False) -> Checkpoint:
    """Return a checkpoint whose arrays are exactly those that its network needs.

    ``pretrained`` is the model that ships with the package.

    Raises
    ------
    CheckpointError
        The file is missing, damaged or malicious; with ``resume``, also if it cannot be resumed.
    """
    if fspath(path) == PRETRAINED:
        with packaged() as file:
            return load_checkpoint(file, resume=resume)
    return load_checkpoint(path, resume=resume)


def packaged(file: str = PRETRAINED_FILE) -> AbstractContextManager[Path]:
    """Return a context with the path of packaged weights, by default the pretrained model's."""
    return as_file(files("lenet") / "weights" / file)


def restore_network(checkpoint: Checkpoint) -> Network:
    """Return the network stored in a checkpoint."""
    config = checkpoint.config
    network = checkpoint.model.build(
        dtype=config.train.precision, fused=config.model.fuse == "auto", block=gemm_block(config)
    )
    for p in network.parameter_list:
        np.copyto(p.value, checkpoint.parameters[p.name])
    for name, array in network.state_arrays().items():
        np.copyto(array, checkpoint.state[name])
    return network


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


def plain_network(checkpoint: Checkpoint) -> Network:
    """Return a checkpoint's network, not fused, in float32 and in evaluation mode."""
    values = {"model.fuse": "off", "train.precision": "float32"}
    network = restore_network(replace(checkpoint, config=checkpoint.config.with_values(values)))
    network.training = False
    return network

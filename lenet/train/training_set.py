"""The images that a run trains on: loaded, checked, and completed by the automatic recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.checkpoint.checkpoint import Checkpoint
from lenet.config.schema import Config
from lenet.data.catalogue import FORMATS
from lenet.data.dataset import Dataset, Split, fingerprint
from lenet.data.labels import first_names, remark_on_missing
from lenet.data.levels import BYTES, Levels
from lenet.data.measure import ImageFacts, disagreements, image_facts
from lenet.errors import LenetError
from lenet.evaluation.images import Images, for_split, load_dataset, usable
from lenet.nn.network import Network
from lenet.train.finetune import with_start
from lenet.train.recipe import complete


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


def load_training_set(
    config: Config,
    directory: str | PathLike[str] | None,
    origin: Checkpoint | None,
    *,
    fit_outputs: bool,
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> TrainingSet:
    """Return the images of a configuration, with a line to ``warn`` about each possible mistake.

    ``origin`` is the checkpoint whose network is trained further, if there is one.
    """
    data = load_dataset(config, directory, warn=warn)
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
        warn(remark)
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


def remarks_on_training(config: Config, found: Split, facts: ImageFacts) -> list[str]:
    """Return what to report about training images: levels, background, missing classes."""
    measured = config.model.scale is None and config.model.shift is None
    remarks = facts.remarks() if measured else []
    missing = remark_on_missing(found.labels, found.class_names, "training images")
    return [*remarks, *([missing] if missing else [])]


def remarks_on_test(config: Config, data: Dataset, training: Split, facts: ImageFacts) -> list[str]:
    """Return what to report about the test images, which are only read to be checked.

    Of the user's own data: published files are verified when they are read.
    """
    if config.data.name not in FORMATS:
        return []
    try:
        test = usable(config, data.test, "test")
    except LenetError as error:
        return [f"no usable test images: {error}"]
    remarks = disagreements(facts, image_facts(test.images))
    counts = [np.bincount(s.labels, minlength=len(s.class_names)) for s in (training, test)]
    absent = [
        name
        for name, here, there in zip(test.class_names, *counts, strict=True)
        if here and not there
    ]
    if absent:
        remarks.append(f"no test images of class{'es' * (len(absent) > 1)} {first_names(absent)}")
    return remarks

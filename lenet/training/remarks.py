"""Remarks on the data, before the first epoch: what is no error, but may be a mistake."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

from lenet.config.schema import Config
from lenet.data.catalogue import FORMATS
from lenet.data.datasets import Split
from lenet.data.labels import first_names, missing_classes, numbers
from lenet.data.measure import ImageFacts, disagreements, image_facts
from lenet.system.errors import LenetError
from lenet.training.build import load_split


def remarks_on_training(config: Config, found: Split, facts: ImageFacts) -> list[str]:
    """Return what to report about training images: levels, background, missing classes."""
    measured = config.model.scale is None and config.model.shift is None
    remarks = facts.remarks() if measured else []
    missing = missing_classes(found.labels, found.class_names)
    if missing:
        remark = f"no training images of {_classes(missing)}"
        if missing == ("0",) and found.class_names == numbers(len(found.class_names)):
            remark += ": the labels seem to begin at 1; subtract 1 from them, or leave them so, "
            remark += f"with model.classes {len(found.class_names)}"
        remarks.append(remark)
    return remarks


def remarks_on_test(
    config: Config,
    training: Split,
    facts: ImageFacts,
    directory: str | PathLike[str] | None = None,
) -> list[str]:
    """Return what to report about the test images, which are only read to be checked.

    Of the user's own data: published files are verified when they are read.

    Parameters
    ----------
    config
        With the number of classes of the training images.
    training, facts
        The training images, and what was measured on them.
    directory
        Searched first for the files.
    """
    if config.data.name not in FORMATS:
        return []
    try:
        test = load_split(config, "test", directory, warn=lambda _: None)
    except LenetError as error:
        return [f"no usable test images: {error}"]
    remarks = disagreements(facts, image_facts(test.images))
    missing, known = (missing_classes(s.labels, s.class_names) for s in (test, training))
    if only_here := [name for name in missing if name not in known]:
        remarks.append(f"no test images of {_classes(only_here)}")
    return remarks


def _classes(names: Sequence[str]) -> str:
    return f"class{'es' * (len(names) > 1)} {first_names(names)}"

"""Remarks on the data, before the first epoch: what is no error, but may be a mistake."""

from __future__ import annotations

import numpy as np

from lenet.config.schema import Config
from lenet.data.catalogue import FORMATS
from lenet.data.dataset import Dataset, Split
from lenet.data.labels import first_names, remark_on_missing
from lenet.data.measure import ImageFacts, disagreements, image_facts
from lenet.errors import LenetError
from lenet.evaluation.images import usable


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

"""The sections of the data and its distortions, and the checks of their keys."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lenet.config.rules import (
    BOOLEAN,
    NULL,
    STRING,
    Checked,
    Rule,
    choice,
    either,
    integer,
    names,
    number,
    pair,
    setting,
)
from lenet.data.augmentation import MAX_CROP, max_elastic_alpha
from lenet.data.catalogue import CATALOGUE, FORMATS, ROLES
from lenet.data.degradation import DEGRADATIONS
from lenet.data.splits import MAX_VALIDATION
from lenet.errors import ConfigError
from lenet.system.text import listed


@dataclass(frozen=True, kw_only=True)
class Data(Checked):
    """The data set."""

    name: str = setting(
        "strokes",
        choice(*CATALOGUE),
        "Data set; strokes is built in and needs no download; idx, folder, labelled, npz, csv, "
        "parquet and mat read your own files",
    )
    path: str | None = setting(
        None,
        either(NULL, STRING),
        "File or directory of your own data",
    )
    validation_path: str | None = setting(
        None,
        either(NULL, STRING),
        "File or directory of images for validation; null uses the validation part of the data, "
        "or some of the training images",
    )
    dir: str | None = setting(
        None,
        either(NULL, STRING),
        "Directory that is searched first, before the cache and the download",
    )
    train_images: str | None = setting(
        None, either(NULL, STRING), "IDX file of the training images; only with name idx"
    )
    train_labels: str | None = setting(
        None, either(NULL, STRING), "IDX file of the training labels; only with name idx"
    )
    test_images: str | None = setting(
        None, either(NULL, STRING), "IDX file of the test images; only with name idx"
    )
    test_labels: str | None = setting(
        None, either(NULL, STRING), "IDX file of the test labels; only with name idx"
    )
    size: tuple[int, int] | str | None = setting(
        "auto",
        either(NULL, choice("auto"), pair(integer(1, 4096))),
        "Height and width that every image file is scaled to; auto is their median, reduced to fit "
        "the network; null requires that all have the same",
    )
    label_column: str | int | None = setting(
        None,
        either(NULL, integer(-100_000, 100_000), STRING),
        "Column of the labels in a table: its name, or its number from 0; null means the one that "
        "is called label or class, or where it is plain",
    )
    label_pattern: str | None = setting(
        None,
        either(NULL, STRING),
        "Regular expression for labels in the names of image files; its first group is the label",
    )
    labels: str | None = setting(
        None,
        either(NULL, STRING),
        "CSV file of corrected labels with the columns path and label",
    )
    damaged: str = setting(
        "refuse",
        choice("refuse", "skip"),
        "What to do with image files that cannot be read",
    )
    transpose: bool = setting(False, BOOLEAN, "Exchange rows and columns of the images")
    invert: bool = setting(False, BOOLEAN, "Exchange dark and light")
    test_fraction: float = setting(
        0.2,
        number(above=0, below=1),
        "Fraction of each class used as the test set, if your own data have no test set",
    )
    class_names: tuple[str, ...] | None = setting(
        None,
        either(NULL, names(100_000)),
        "Classes of your own data: some or all of their names, in the order to use; or names for "
        "labels that are numbers; null means all, in alphabetical order",
    )
    validation: int | None = setting(
        None,
        either(NULL, integer(0, 10**9)),
        "Training images used for validation, to select the best epoch; null means "
        f"{MAX_VALIDATION}, or a fifth of fewer than {5 * MAX_VALIDATION}; 0 disables validation",
    )
    validation_seed: int = setting(
        0, integer(0, 2**63 - 1), "Seed of the random choice of validation images"
    )
    drawn: int = setting(
        0,
        integer(0, 60_000),
        "Built-in digits that are added to the training images, but not to the validation images; "
        "only where the classes are the digits",
    )
    limit: int | None = setting(
        None,
        either(NULL, integer(1, 10**9)),
        "Use only this many images of the training set, including those for validation: a random "
        "choice with as many of each class as possible",
    )

    @property
    def title(self) -> str:
        """The path of the user's own data, or the name of the data set."""
        return self.path or self.name


def _amount(degradation: str) -> Rule:
    return number(at_least=0, at_most=DEGRADATIONS[degradation].limit)


@dataclass(frozen=True, kw_only=True)
class Augment(Checked):
    """Random distortions of the training images; none if all ranges are zero."""

    auto: bool = setting(
        True,
        BOOLEAN,
        "Choose the ranges for your own images, if all are zero; no effect on named data sets",
    )

    rotation: float = setting(
        0.0, number(at_least=0, at_most=180), "Maximum rotation in either direction, in degrees"
    )
    scale: float = setting(
        0.0, number(at_least=0, below=0.5), "Maximum enlargement or reduction, as a fraction"
    )
    shear: float = setting(0.0, number(at_least=0, at_most=1), "Maximum shear in either direction")
    shift: float = setting(
        0.0, number(at_least=0, at_most=14), "Maximum shift along each axis, in pixels"
    )
    elastic_alpha: float = setting(
        0.0,
        number(at_least=0, at_most=1000),
        "Strength of the elastic field, in pixels: factor of smoothed uniform noise from -1 to 1",
    )
    elastic_sigma: float = setting(
        4.0,
        number(above=0, at_most=14),
        "Standard deviation of the Gaussian that smooths the elastic field, in pixels",
    )
    stretch: float = setting(
        0.0,
        number(at_least=0, at_most=1),
        "Probability with which the box of an image's ink is stretched to a square",
    )
    flip: float = setting(
        0.0,
        number(at_least=0, at_most=1),
        "Probability with which an image is mirrored, left to right",
    )
    crop: float = setting(
        0.0,
        number(at_least=0, at_most=MAX_CROP),
        "Maximum fraction of each side that is left out: a window at a random place is enlarged to "
        "the whole image",
    )
    stroke: float = setting(
        0.0,
        _amount("stroke"),
        "Maximum movement of the edges of strokes, which become thicker or thinner, in pixels",
    )
    gaps: float = setting(0.0, _amount("gaps"), "Maximum number of gaps of 3 pixels in strokes")
    line: float = setting(
        0.0, _amount("line"), "Maximum width of a straight line across the image, in pixels"
    )
    blur: float = setting(
        0.0, _amount("blur"), "Maximum standard deviation of a Gaussian blur, in pixels"
    )
    faint: float = setting(
        0.0, _amount("faint"), "Maximum fraction of the difference from the background that is lost"
    )
    brightness: float = setting(
        0.0, _amount("brightness"), "Maximum change of brightness, as a fraction of all levels"
    )
    contrast: float = setting(0.0, _amount("contrast"), "Maximum change of contrast, as a fraction")
    noise: float = setting(
        0.0, _amount("noise"), "Maximum standard deviation of added noise, in levels from 0 to 255"
    )
    chance: float = setting(
        0.3,
        number(above=0, at_most=1),
        "Probability with which an image gets each of stroke, gaps, line, blur, faint, brightness, "
        "contrast and noise",
    )


ONLY_WITH = {
    "size": ("folder", "labelled", "parquet"),
    "label_pattern": ("labelled",),
    "label_column": ("csv", "labelled", "parquet"),
    "validation_path": FORMATS,
    "labels": FORMATS,
}
"""Keys of the data that have an effect only on some formats."""


def check_files(data: Data) -> None:
    """Require the paths that the format needs, and reject those that it does not use."""
    if data.path is not None and data.name not in FORMATS:
        raise ConfigError(
            f"requires data.name {listed(FORMATS, 'or')}, which is {data.name}",
            remedy="set data.name to the format, or remove the path",
            key="data.path",
        )
    for key, formats in ONLY_WITH.items():
        value = getattr(data, key)
        if value not in (None, getattr(Data, key)) and data.name not in formats:
            raise ConfigError(
                f"requires data.name {listed(formats, 'or')}, which is {data.name}",
                remedy="remove it, or set data.name to the format",
                key=f"data.{key}",
            )
    somewhere = data.path is not None or data.dir is not None
    if data.name in FORMATS and data.name != "idx" and not somewhere:
        what = "directory with one directory of images per class"
        raise ConfigError(
            f"is missing: data.name is {data.name}",
            remedy=f"name the {what if data.name == 'folder' else f'.{data.name} file'}",
            key="data.path",
        )
    for name in ROLES:
        given = getattr(data, name) is not None
        if data.name == "idx" and not given and not somewhere:
            raise ConfigError(
                "is missing: data.name is idx",
                remedy="give the four files, train_images, train_labels, test_images, test_labels, "
                "or data.path, the directory that they are in",
                key=f"data.{name}",
            )
        if data.name != "idx" and given:
            raise ConfigError(
                f"requires data.name idx, which is {data.name}",
                remedy="set data.name to idx, or remove the file",
                key=f"data.{name}",
            )


def check_elastic_field(augment: Augment) -> None:
    """Reject an elastic field that folds the image."""
    strongest = max_elastic_alpha(augment.elastic_sigma)
    if augment.elastic_alpha > strongest:
        raise ConfigError(
            f"is {augment.elastic_alpha:g}, which folds the image with elastic_sigma "
            f"{augment.elastic_sigma:g}",
            remedy=f"lower it to {math.floor(10 * strongest) / 10:g} or less, or raise "
            "augment.elastic_sigma",
            key="augment.elastic_alpha",
        )

"""The named data sets: one table. A new data set is one entry of :data:`CATALOGUE`.

Nothing here is heavy: the configuration takes the choices of ``data.name`` from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lenet.system.errors import ConfigError

ROLES = ("train_images", "train_labels", "test_images", "test_labels")
NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class Archive:
    """A published file: its name without ``.gz`` and the checksum it was published with."""

    name: str
    content_sha256: str | None = None
    gzip_md5: str | None = None


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Attributes
    ----------
    description
        A line for ``lenet data list``.
    class_names
        One a class; empty if the data themselves determine the classes.
    archives
        The published files by role; empty for a data set that is not downloaded.
    mirrors
        Addresses of directories with these files, each ending in a slash, in order of preference.
    """

    description: str
    class_names: tuple[str, ...] = ()
    archives: Mapping[str, Archive] = field(default_factory=dict)
    mirrors: tuple[str, ...] = ()


def _by_sha256(*sums: str) -> dict[str, Archive]:
    return {r: Archive(n, content_sha256=s) for r, n, s in zip(ROLES, NAMES, sums, strict=True)}


def _by_md5(*sums: str) -> dict[str, Archive]:
    return {r: Archive(n, gzip_md5=s) for r, n, s in zip(ROLES, NAMES, sums, strict=True)}


CATALOGUE = {
    "mnist": Source(
        "handwritten digits, 60,000 + 10,000 images of 28×28 (12 MB)",
        tuple("0123456789"),
        _by_sha256(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        (
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
    ),
    "fashion-mnist": Source(
        "clothes, 60,000 + 10,000 images of 28×28 (31 MB)",
        (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        _by_md5(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
    ),
    "kmnist": Source(
        "cursive Japanese, 60,000 + 10,000 images of 28×28 (21 MB)",
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        _by_md5(
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
        (
            "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        ),
    ),
    "strokes": Source("built-in digits drawn from a seed, 60,000 + 10,000", tuple("0123456789")),
    "idx": Source("IDX files of your own: data.train_images and so on"),
}


def names() -> tuple[str, ...]:
    """Return the names of all data sets, the choices of ``data.name``."""
    return tuple(CATALOGUE)


def find_source(name: str) -> Source:
    """Return the entry of a data set.

    Raises
    ------
    ConfigError
        There is no data set of this name.
    """
    if name not in CATALOGUE:
        from difflib import get_close_matches

        near = get_close_matches(name, CATALOGUE, 1)
        remedy = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(CATALOGUE)}"
        raise ConfigError(f"there is no data set {name}", remedy=remedy, key="data.name")
    return CATALOGUE[name]

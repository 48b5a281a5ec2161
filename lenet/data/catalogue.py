"""The named data sets: one table. A new data set is one entry of :data:`CATALOGUE`.

Importing this module is fast: the configuration takes the choices of ``data.name`` from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lenet.errors import ConfigError

ROLES = ("train_images", "train_labels", "test_images", "test_labels")
FORMATS = ("idx", "folder", "labelled", "npz", "csv", "parquet", "mat")
"""Of user-supplied data: entries of the catalogue without files."""

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class Bundle:
    """A published archive of several files: zip or tar."""

    name: str
    md5: str


@dataclass(frozen=True)
class Archive:
    """A published file.

    Attributes
    ----------
    name
        Of an IDX file, without ``.gz``.
    content_sha256, gzip_md5
        The checksum an IDX file was published with: of its content, or of the packed file.
    md5
        The checksum of a file of another format.
    bundle
        The archive that contains the file, which then has no checksum.
    """

    name: str
    content_sha256: str | None = None
    gzip_md5: str | None = None
    md5: str | None = None
    bundle: Bundle | None = None


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Attributes
    ----------
    description
        A line for ``lenet data list``.
    class_names
        One name per class; empty if the data determine the classes.
    archives
        The published files by role, which begins with the split; empty for a data set that is not
        downloaded.
    mirrors
        Addresses of directories with these files, each ending in a slash, in order of preference.
    layout
        What the files contain, a key of ``lenet.data.formats.published.LAYOUTS``.
    folder
        The directory of the files, by default the name of the data set.
    channels, count
        Of the training images.
    """

    description: str
    class_names: tuple[str, ...] = ()
    archives: Mapping[str, Archive] = field(default_factory=dict)
    mirrors: tuple[str, ...] = ()
    layout: str = "idx"
    folder: str = ""
    channels: int = 1
    count: int = 0


def _by_sha256(*sums: str) -> dict[str, Archive]:
    return {r: Archive(n, content_sha256=s) for r, n, s in zip(ROLES, NAMES, sums, strict=True)}


def _by_md5(*sums: str) -> dict[str, Archive]:
    return {r: Archive(n, gzip_md5=s) for r, n, s in zip(ROLES, NAMES, sums, strict=True)}


EMNIST = Bundle("gzip.zip", "58c8d27c78d21e728a6bc7b3cc06412e")
CIFAR = Bundle("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")
DIGITS = tuple("0123456789")
CAPITALS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def _emnist(
    part: str,
    count: int,
    description: str,
    class_names: tuple[str, ...],
    layout: str = "transposed",
) -> Source:
    """Return a part of EMNIST (G. Cohen et al. (2017), EMNIST: an extension of MNIST)."""
    archives = {
        f"{split}_{what}": Archive(f"emnist-{part}-{split}-{what}-{kind}-ubyte", bundle=EMNIST)
        for split in ("train", "test")
        for what, kind in (("images", "idx3"), ("labels", "idx1"))
    }
    mirrors = (
        "https://biometrics.nist.gov/cs_links/EMNIST/",
        "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/",
    )
    return Source(description, class_names, archives, mirrors, layout, "emnist", count=count)


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
        count=60_000,
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
        count=60_000,
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
        count=60_000,
    ),
    "emnist-balanced": _emnist(
        "balanced",
        112_800,
        "letters and digits, 47 classes, 112,800 + 18,800 images of 28×28 (562 MB with all EMNIST)",
        (*DIGITS, *CAPITALS, *"abdefghnqrt"),
    ),
    "emnist-letters": _emnist(
        "letters",
        124_800,
        "letters, 26 classes, 124,800 + 20,800 images of 28×28 (562 MB with all EMNIST)",
        CAPITALS,
        "transposed, labels from 1",
    ),
    "emnist-digits": _emnist(
        "digits",
        240_000,
        "digits, 240,000 + 40,000 images of 28×28 (562 MB with all EMNIST)",
        DIGITS,
    ),
    "emnist-byclass": _emnist(
        "byclass",
        697_932,
        "letters, digits, 62 classes, 697,932 + 116,323 images of 28×28 (562 MB with all EMNIST)",
        (*DIGITS, *CAPITALS, *map(str.lower, CAPITALS)),
    ),
    "qmnist": Source(
        "MNIST with its 60,000 test images, 60,000 + 60,000 images of 28×28 (20 MB)",
        DIGITS,
        {
            "train_images": Archive(
                "qmnist-train-images-idx3-ubyte", gzip_md5="ed72d4157d28c017586c42bc6afe6370"
            ),
            "train_labels": Archive(
                "qmnist-train-labels-idx2-int", gzip_md5="0058f8dd561b90ffdd0f734c6a30e5e4"
            ),
            "test_images": Archive(
                "qmnist-test-images-idx3-ubyte", gzip_md5="1394631089c404de565df7b7aeaf9412"
            ),
            "test_labels": Archive(
                "qmnist-test-labels-idx2-int", gzip_md5="5b5b05890a5e13444e108efe57b788aa"
            ),
        },
        (
            "https://raw.githubusercontent.com/facebookresearch/qmnist/master/",
            "https://github.com/facebookresearch/qmnist/raw/master/",
        ),
        count=60_000,
    ),
    "cifar-10": Source(
        "objects in colour, 50,000 + 10,000 images of 32×32 (170 MB)",
        (
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
        {
            **{f"train_{k}": Archive(f"data_batch_{k}.bin", bundle=CIFAR) for k in range(1, 6)},
            "test": Archive("test_batch.bin", bundle=CIFAR),
        },
        ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/"),
        layout="cifar",
        channels=3,
        count=50_000,
    ),
    "usps": Source(
        "digits from envelopes, 7,291 + 2,007 images of 16×16 (8 MB)",
        DIGITS,
        {
            "train": Archive("usps.bz2", md5="ec16c51db3855ca6c91edd34d0e9b197"),
            "test": Archive("usps.t.bz2", md5="8ea070ee2aca1ac39742fdd1ef5ed118"),
        },
        ("https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/",),
        layout="libsvm",
        count=7_291,
    ),
    "strokes": Source("built-in digits drawn from a seed, 60,000 + 10,000", DIGITS, count=60_000),
    "idx": Source("your own IDX files: data.train_images and so on, or data.path"),
    "folder": Source("your own pictures, one directory per class: data.path"),
    "labelled": Source("your own pictures, labels in a table or in the file names: data.path"),
    "npz": Source("your own .npz file with x_train, y_train, x_test, y_test: data.path"),
    "csv": Source("your own CSV files, one label and its pixels per row: data.path"),
    "parquet": Source("your own parquet files of pictures, as on the Hub: data.path"),
    "mat": Source("your own MATLAB files of images and labels: data.path"),
    "arrays": Source("images given to lenet.Model in Python, which are not stored"),
}


def find_source(name: str) -> Source:
    """Return the entry of a data set."""
    if name not in CATALOGUE:
        from difflib import get_close_matches

        near = get_close_matches(name, CATALOGUE, 1)
        remedy = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(CATALOGUE)}"
        raise ConfigError(f"there is no data set {name}", remedy=remedy, key="data.name")
    return CATALOGUE[name]

"""Which images are for training, for validation and for testing: all of it is decided here."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.data.mapped import blocks
from lenet.errors import ConfigError

MAX_VALIDATION = 5000  # by default
HELD_OUT, LIMITED = 2, 3  # streams of random numbers; 0 and 1 are the loader's

PARTS = {
    "train": {"train", "training", "trn"},
    "validation": {"val", "valid", "validation", "dev", "eval"},
    "test": {"test", "testing", "tst", "t10k"},
}
UNLABELLED = {"pred", "predict", "unlabeled", "unlabelled"}


def part_of(name: str) -> str | None:
    """Return the part of a data set that a name of a directory, file or array stands for.

    One of its words is a usual name of a part; a directory of images to predict is ``unlabelled``.

    Examples
    --------
    >>> [part_of(name) for name in ("Training Data", "seg_test", "val", "asl_alphabet_train")]
    ['train', 'test', 'validation', 'train']
    >>> part_of("seg_pred"), part_of("trains"), part_of("x_valid_2.npy")
    ('unlabelled', None, 'validation')
    """
    words = re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    found = [part for part, names in PARTS.items() if names & set(words)]
    found += ["test"] if "10" in words and "t" in words and "k" in words else []
    if found == ["validation", "test"]:  # such as test_val: neither
        return None
    if found:
        return found[0]
    return "unlabelled" if UNLABELLED & set(words) else None


def is_part(name: str) -> bool:
    """Return whether a name is that of a part and of nothing else, such as ``train``.

    Examples
    --------
    >>> is_part("Test_Set"), is_part("test tube")
    (True, False)
    """
    words = set(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()))
    rest = words - {"set", "data", "dataset", "images", "split"}
    return len(rest) == 1 and any(rest <= names for names in PARTS.values())


def identities(images: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a digest of each image, which depends on its numbers and not on their type."""
    found = np.empty(len(images), np.uint64)
    k = 0
    for block in blocks(images):
        rows = np.ascontiguousarray(block.reshape(len(block), -1), np.float32)
        for row in rows:
            found[k] = int.from_bytes(hashlib.blake2b(row.data, digest_size=8).digest(), "big")
            k += 1
    return found


def held_for_testing(
    identity: NDArray[np.uint64], labels: NDArray[Any], fraction: float
) -> NDArray[np.bool_]:
    """Return a mask of the test images: of each class about the same share.

    Whether an image is one of them depends on its digest alone, so that another image beside it
    never moves it; up to four equal images stay together. Two exceptions keep small sets usable: a
    class whose images would all be test images keeps one to train on, and if there would be no
    test image there is one.

    Examples
    --------
    >>> digests = np.array([1, 2**60, 2**62, 2**63], np.uint64)
    >>> held_for_testing(digests, np.zeros(4), 0.2)
    array([ True,  True, False, False])
    """
    share = (identity + _later_equals(identity)) / 2.0**64
    chosen = share < fraction
    if fraction and not chosen.any():
        chosen[np.argmin(share)] = True
    for label in np.unique(labels[chosen]):
        members = np.flatnonzero(labels == label)
        if chosen[members].all():
            chosen[members[np.argmax(share[members])]] = False
    return chosen


def _later_equals(identity: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return 0 for the first four images of a digest, another number for the next four, ...."""
    order = np.argsort(identity, kind="stable")
    _, first, counts = np.unique(identity[order], return_index=True, return_counts=True)
    group = np.empty(len(identity), np.uint64)
    group[order] = (np.arange(len(identity)) - np.repeat(first, counts)) // 4
    return group * np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ divided by the golden ratio: spread evenly


def validation_count(given: int | None, count: int) -> int:
    """Return how many of ``count`` training images are for validation; ``given``, if it is.

    Examples
    --------
    >>> validation_count(None, 60_000), validation_count(None, 1000)
    (5000, 200)
    """
    return min(MAX_VALIDATION, count // 5) if given is None else given


def held_out(count: int, validation: int, seed: int) -> NDArray[np.int64]:
    """Return the sorted indices of the ``validation`` images held out of ``count``.

    Examples
    --------
    >>> held_out(10, 3, seed=0)
    array([0, 2, 7])
    """
    if not 0 <= validation < count:
        raise ConfigError(
            f"{validation:,} of {count:,} training images cannot be used for validation",
            remedy=f"choose 0 to {count - 1:,}",
            key="data.validation",
        )
    rng = np.random.default_rng([seed, HELD_OUT])
    return np.sort(rng.choice(count, validation, replace=False, shuffle=False))


def validation_rows(data: Any, count: int) -> NDArray[np.int64]:  # noqa: ANN401 - Options or Data
    """Return the sorted indices of the validation images among ``count`` training images.

    Built-in digits that were added to them, which are the last ones, are not for validation.
    """
    own = count - data.drawn
    return held_out(own, validation_count(data.validation, own), data.validation_seed)


def others(count: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sorted indices below ``count`` that are not among ``rows``."""
    kept = np.ones(count, bool)
    kept[rows] = False
    return np.flatnonzero(kept)


def balanced(labels: NDArray[Any], limit: int) -> NDArray[np.int64]:
    """Return sorted indices of ``limit`` images at random, of each class as many as possible.

    A smaller limit chooses some of the images of a larger one.

    Examples
    --------
    >>> labels = np.repeat([0, 1, 2], [50, 5, 45])
    >>> np.bincount(labels[balanced(labels, 25)])
    array([10,  5, 10])
    """
    order = np.random.default_rng([0, LIMITED]).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    place = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_class[np.argsort(place, kind="stable")][:limit])

"""A data set of a few hundred images that can be learned in a second, for tests and trials."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lenet.config.sections import NAMED
from lenet.data.formats.idx import write_idx

CLASSES = 3


def bars(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy images (count,28,28) with a bright bar, and its place: top, middle or bottom."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count, dtype=np.uint8)
    images = rng.integers(0, 60, (count, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        top = 3 + 8 * int(label) + rng.integers(0, 3)
        image[top : top + 4, 4:24] += 150
    return images, labels


def write_bars(place: Path, train: int = 300, test: int = 100) -> dict[str, object]:
    """Write both sets as IDX files; return the keys of a configuration that trains on them."""
    keys: dict[str, object] = {
        **NAMED,  # nothing is chosen for the images
        "model.scale": 0.005,
        "model.shift": -0.1,
        "data.name": "idx",
        "data.validation": 60,
        "model.classes": CLASSES,
        "train.epochs": 2,
        "train.batch_size": 32,
        "train.workers": 1,
    }
    for split, count in (("train", train), ("test", test)):
        for what, array in zip(("images", "labels"), bars(count, seed=count), strict=True):
            path = place / f"{split}-{what}"
            write_idx(path, array)
            keys[f"data.{split}_{what}"] = str(path)
    return keys

"""The images of a benchmark, noise with a margin, and its configuration."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from lenet.config.schema import Config
from lenet.data.formats.idx import header
from lenet.errors import SystemFailure
from lenet.evaluation.images import build_preprocessing

CHUNK = 8192  # images that are generated at once
MARGIN = 4  # pixels of background around the noise, as in MNIST


def write_images(
    folder: Path, count: int, classes: int, shape: tuple[int, ...], *, mapped: bool = False
) -> dict[str, object]:
    """Write images and labels as IDX files, and return the keys of ``data`` that name them."""
    need, free = count * (int(np.prod(shape)) + 1), shutil.disk_usage(folder).free
    if need > free:
        raise SystemFailure(
            f"{count:,} images need {need >> 20:,} MiB, {free >> 20:,} MiB are free",
            remedy="free space, or name another directory in TMPDIR",
            file=folder,
        )
    rng = np.random.default_rng(0)
    suffix = "" if mapped else ".gz"
    images, labels = folder / f"{count}-images{suffix}", folder / f"{count}-labels{suffix}"
    with _opened(images) as to_images, _opened(labels) as to_labels:
        to_images.write(header(np.broadcast_to(np.uint8(0), (count, *shape))))
        to_labels.write(header(np.broadcast_to(np.uint8(0), count)))
        for first in range(0, count, CHUNK):
            n = min(CHUNK, count - first)
            to_images.write(noisy_images(rng, n, shape).data)
            to_labels.write(rng.integers(min(classes, 256), size=n, dtype=np.uint8).data)
    return {
        "data.name": "idx",
        "data.train_images": str(images),
        "data.train_labels": str(labels),
        "data.test_images": str(images),
        "data.test_labels": str(labels),
    }


def noisy_images(rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return images (count, *shape) of noise with a margin of zeros."""
    images = np.zeros((count, *shape), np.uint8)
    H, W = shape[-2:]
    inside = images[..., MARGIN : H - MARGIN, MARGIN : W - MARGIN]
    inside[...] = rng.integers(256, size=inside.shape, dtype=np.uint8)
    return images


ALL_IMAGES = {"data.validation": 0, "data.limit": None, "data.drawn": 0}
"""What makes a configuration train on the images that it is given, and on no others."""


def image_shape(config: Config) -> tuple[int, ...]:
    """Return (H,W) or (C,H,W) of the images for a network: at most 28×28 grey ones, as in MNIST."""
    C, H, W = build_preprocessing(config).input_shape
    return (min(H, 28), min(W, 28)) if C == 1 else (C, H, W)


def benchmark_config(config: Config, data: dict[str, object], rounds: int) -> Config:
    """Return the configuration of a run on these data: one epoch to warm up, then the rounds.

    The learning rate is low: with noise, training would diverge.
    """
    return config.with_values(
        {
            **data,
            "model.classes": config.model.specification().classes(),
            **ALL_IMAGES,
            "train.epochs": rounds + 1,
            "train.patience": 0,
            "train.checkpoint_every": None,
            "optimizer.lr": 1e-3,
            "schedule.name": "constant",
            "schedule.warmup": 0.0,
        }
    )


def _opened(path: Path) -> gzip.GzipFile | IO[bytes]:
    return gzip.open(path, "wb", compresslevel=1) if path.suffix == ".gz" else path.open("wb")

"""Teachers: trained networks whose scores of distorted training images another network learns.

The images are distorted and given to the teachers once, before the first step, and stay in the
cache, so that a step costs what it costs without a teacher. The pool depends on the images, their
distortions and the teachers, but not on the seed of the run: several runs share it.

The teachers see the distorted images before they are degraded (:mod:`lenet.data.degradation`):
their scores of a noisy image are those of the same image without noise.

Some images may be mixed with others (mixup). No label is right for a mixed image, but the teachers'
scores are still what the network should compute, so it learns their function in more places than
those of the training images.

References
----------
H. Zhang, M. Cissé, Y. Dauphin, D. Lopez-Paz (2018), mixup: Beyond Empirical Risk Minimization
(https://arxiv.org/abs/1710.09412), section 2; L. Beyer and others (2022), Knowledge distillation: A
good teacher is patient and consistent (https://arxiv.org/abs/2106.05237), with teachers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.checkpoint.checkpoint import Checkpoint
from lenet.checkpoint.restore import read_checkpoint, restore_network
from lenet.config.data_section import Augment
from lenet.config.schema import Config
from lenet.data.cache import cached
from lenet.data.degradation import DEGRADATIONS
from lenet.data.loader import Loader
from lenet.data.pool import Pool
from lenet.data.preprocessing import Preprocessing
from lenet.data.splits import others
from lenet.errors import CheckpointError, DataError, LenetError
from lenet.evaluation.images import Images, build_distorter
from lenet.evaluation.loop import batches, scores
from lenet.version import __version__

BATCH = 128  # images that a teacher evaluates at once
MIXING = 1  # the stream of random numbers that mixes images


class Teachers:
    """One or several trained networks; their scores are averaged.

    The mean of the scores is, up to one constant per image, the logarithm of the geometric mean
    of the probabilities, at any temperature.
    """

    def __init__(
        self, config: Config, class_names: Sequence[str], images: NDArray[np.uint8]
    ) -> None:
        named = config.train.teacher or ()
        paths = (named,) if isinstance(named, str) else named
        self.checkpoints = [_read(path) for path in paths]
        for path, checkpoint in zip(paths, self.checkpoints, strict=True):
            _check(path, checkpoint, tuple(class_names), images)
        self.networks = [restore_network(checkpoint) for checkpoint in self.checkpoints]

    def digest(self) -> str:
        """Return what identifies the networks, wherever their files are."""
        digest = hashlib.blake2b(digest_size=8)
        for checkpoint in self.checkpoints:
            digest.update(repr((checkpoint.model, checkpoint.preprocessing)).encode())
            for arrays in (checkpoint.parameters, checkpoint.state):
                for array in arrays.values():
                    digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the mean scores (N,classes) of a batch of images (N,C,H,W).

        A teacher with a smaller input sees the middle of the images.
        """
        total = np.zeros((len(images), *self.networks[0].output_shape))
        for checkpoint, network in zip(self.checkpoints, self.networks, strict=True):
            preprocessing = checkpoint.preprocessing
            middle = _middle(images, *preprocessing.input_shape[1:])
            total += scores(network, batches(middle, preprocessing, network.dtype, BATCH))
        return (total / len(self.networks)).astype(np.float32)


def _read(path: str) -> Checkpoint:
    try:
        return read_checkpoint(path)
    except LenetError as error:
        error.key = error.key or "train.teacher"
        raise


def _middle(images: NDArray[np.uint8], H: int, W: int) -> NDArray[np.uint8]:
    """Return the middle H×W pixels of images (N,C,H,W), or all where they have no more."""
    top, left = (max(0, n - m) // 2 for n, m in zip(images.shape[2:], (H, W), strict=True))
    return images[:, :, top : top + H, left : left + W]


def _check(
    path: str, teacher: Checkpoint, class_names: tuple[str, ...], images: NDArray[np.uint8]
) -> None:
    """Refuse a teacher with other classes, or one that does not take such images."""
    problem = ""
    if len(teacher.class_names) != len(class_names):
        problem = f"has {len(teacher.class_names)} classes, the data have {len(class_names)}"
    elif teacher.class_names != class_names:
        mine, theirs = next(
            pair for pair in zip(class_names, teacher.class_names, strict=True) if len({*pair}) > 1
        )
        problem = f"has a class {theirs} where the data have {mine}"
    else:
        try:
            teacher.preprocessing.check(images)
        except DataError as error:
            problem = error.problem
    if problem:
        raise CheckpointError(
            problem,
            remedy="choose a teacher that was trained on such images, with the same classes",
            file=path,
            key="train.teacher",
        )


def build_pool(
    config: Config,
    teachers: Teachers,
    training: Images,
    without: NDArray[np.int64] | None,
    preprocessing: Preprocessing,
    *,
    started: Callable[[str], None],
) -> Pool:
    """Return the distorted copies of the training images, and the teachers' scores of them."""
    images, labels = training
    levels = replace(preprocessing, scale=1.0, shift=0.0)

    def loader(augment: Augment) -> Loader:
        return Loader(
            images,
            labels,
            batch_size=BATCH,
            preprocessing=levels,
            rows=None if without is None else others(len(images), without),
            distorter=build_distorter(augment, levels),
        )

    seen = loader(config.augment)
    clean: dict[str, Any] = dict.fromkeys(DEGRADATIONS, 0.0)
    shown = loader(replace(config.augment, **clean))
    mixup = config.train.teacher_mixup
    copies = config.train.teacher_copies if seen.distorter or mixup else 1
    count, input_shape = copies * seen.count, preprocessing.input_shape

    def distorted() -> Iterator[NDArray[np.uint8]]:
        started(f"distorting {count:,} images for the teacher")
        yield from _copies(seen, copies, mixup)

    def scored() -> Iterator[NDArray[np.uint8]]:
        started(f"evaluating {count:,} images with the teacher")
        for block in _copies(shown, copies, mixup):
            yield teachers.scores(block).view(np.uint8)

    facts = (__version__, config.augment, levels, copies, mixup)
    key = hashlib.blake2b(repr(facts).encode())
    key.update(images.data)
    if without is not None:
        key.update(without.data)
    pool = cached("distorted", key.digest(), distorted)
    key.update(teachers.digest().encode())
    scores = cached("scores", key.digest(), scored)
    return Pool(
        pool.reshape(copies, seen.count, *input_shape),
        scores.view(np.float32).reshape(copies, seen.count, -1),
    )


def _copies(loader: Loader, copies: int, mixup: float) -> Iterator[NDArray[np.uint8]]:
    """Yield the images (n,C,H,W) of all copies, batch by batch; an epoch is a copy."""
    for copy in range(copies):
        rng = np.random.default_rng([MIXING, copy])
        for batch in loader.epoch(copy):
            images = batch.x.transpose(3, 0, 1, 2)
            yield np.rint(mixed(images, mixup, rng)).astype(np.uint8)


def mixed(
    images: NDArray[np.float32], chance: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return λ·x + (1 − λ)·x′ for images x and random others x′ of the same batch (n,C,H,W).

    λ is uniform from 0.5 to 1 with the probability ``chance``, and otherwise 1.
    """
    n = len(images)
    share = np.where(rng.random(n) < chance, rng.uniform(0.5, 1.0, n), 1.0)
    share = share.astype(np.float32).reshape(n, 1, 1, 1)
    result: NDArray[np.float32] = share * images + (1 - share) * images[rng.permutation(n)]
    return result

"""Distillation: the loss, the pool of distorted images, the teachers, and runs with a teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracles import assert_gradient
from runs import STATEFUL, StopAfter, assert_same_state, checkpoint, log, timeless
from scipy.special import log_softmax, rel_entr, softmax
from tiny import CLASSES, write_bars
from untrained import untrained

from lenet.checkpoint.checkpoint import save_checkpoint
from lenet.checkpoint.restore import read_checkpoint, restore_network
from lenet.config.schema import Config
from lenet.data.augmentation import Distorter
from lenet.data.formats.idx import read_idx
from lenet.data.loader import Loader
from lenet.data.pool import Pool
from lenet.data.preprocessing import Preprocessing
from lenet.data.splits import held_out, others
from lenet.errors import CheckpointError, ConfigError, LenetError
from lenet.nn.distillation import Distillation
from lenet.nn.losses import SoftmaxCrossEntropy
from lenet.train.build import build_trainer
from lenet.train.distillation import Teachers, build_pool, mixed
from lenet.train.events import Callback
from lenet.train.run import run_training

# --- The loss -----------------------------------------------------------------------------------


def whole_loss(z, v, labels, temperature, weight, batch=None):
    """The loss and its gradient, from the loss of the labels."""
    hard = SoftmaxCrossEntropy(len(z))
    loss = hard.forward(z, labels, batch)
    gradient = hard.backward()
    return Distillation(temperature, weight)(z, v, gradient, loss, batch), gradient


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 1.0), (4.0, 0.7), (0.5, 0.2)])
def test_the_loss_is_the_formula_and_its_gradient_that_of_central_differences(temperature, weight):
    rng = np.random.default_rng(0)
    z, v, labels = rng.normal(0, 3, (5, 7)), rng.normal(0, 3, (5, 7)), rng.integers(0, 5, 7)
    loss, gradient = whole_loss(z, v, labels, temperature, weight)
    hard = -log_softmax(z, axis=0)[labels, np.arange(7)].mean()
    soft = rel_entr(softmax(v / temperature, axis=0), softmax(z / temperature, axis=0)).sum() / 7
    assert loss == pytest.approx((1 - weight) * hard + weight * temperature**2 * soft, rel=1e-12)
    assert_gradient(lambda: whole_loss(z, v, labels, temperature, weight)[0], z, gradient.copy())


def test_the_parts_of_a_batch_add_up():
    rng = np.random.default_rng(1)
    z, v, labels = rng.normal(0, 3, (5, 7)), rng.normal(0, 3, (5, 7)), rng.integers(0, 5, 7)
    loss, gradient = whole_loss(z, v, labels, 3.0, 0.6)
    parts = [whole_loss(z[:, s], v[:, s], labels[s], 3.0, 0.6, 7) for s in (slice(3), slice(3, 7))]
    assert sum(part for part, _ in parts) == pytest.approx(loss, rel=1e-12)
    assert_allclose(np.hstack([g for _, g in parts]), gradient, rtol=1e-12, atol=1e-15)


def test_enormous_scores_do_not_overflow():
    z, v = np.float32([[1e4], [-1e4]]), np.float32([[-1e4], [1e4]])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        loss, gradient = whole_loss(z, v, np.array([0]), 2.0, 0.5)
    assert loss == pytest.approx(0.5 * 2**2 * 2e4 / 2)
    assert_array_equal(gradient, [[1], [-1]])


# --- The pool and the teachers ------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    return write_bars(tmp_path_factory.mktemp("bars"))


@pytest.fixture
def configured(bars, tmp_path, cache):
    """Make a configuration with two small, untrained teachers of the tiny data set."""
    paths = [str(tmp_path / f"teacher-{seed}.npz") for seed in (1, 2)]
    for seed, path in enumerate(paths, start=1):
        save_checkpoint(path, untrained(seed, model__classes=CLASSES, model__channels=[3, 4]))

    def make(**changes: object) -> Config:
        values = {
            **bars,
            "output.dir": str(tmp_path / "run"),
            "augment.shift": 2.0,
            "augment.rotation": 20.0,
            "train.teacher": paths,
            "train.teacher_copies": 2,
            **{key.replace("__", "."): value for key, value in changes.items()},
        }
        return Config().with_values(values)

    return make


def images_of(config: Config) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (
        read_idx(config.data.__dict__[f"train_{what}"]) for what in ("images", "labels")
    )
    return images, labels


def pool_of(config: Config, without: np.ndarray | None, started: list[str]) -> Pool:
    preprocessing = Preprocessing(scale=0.01, shift=-0.5)
    training = images_of(config)
    teachers = Teachers(config, tuple(map(str, range(CLASSES))), training[0])
    return build_pool(config, teachers, training, without, preprocessing, started=started.append)


def test_the_pool_has_distorted_images_and_the_mean_scores_of_the_teachers(configured):
    config = configured()
    images, _ = images_of(config)
    without = held_out(len(images), 30, seed=0)
    started: list[str] = []
    pool = pool_of(config, without, started)
    N = len(images) - 30
    assert pool.images.shape == (2, N, 1, 32, 32)
    assert pool.scores.shape == (2, N, CLASSES)
    assert started == [
        f"distorting {2 * N} images for the teacher",
        f"evaluating {2 * N} images with the teacher",
    ]

    padded = np.zeros((N, 1, 32, 32), np.uint8)
    padded[:, 0, 2:30, 2:30] = np.delete(images, without, axis=0)
    distorter = Distorter(32, 32, rotation=20, shift=2)
    batch = np.empty((1, 32, 32, 128), np.float32)
    distorter.distort(padded[:128], batch, key=(0, 1, 1, 0))
    assert_array_equal(pool.images[1, :128], np.rint(batch).transpose(3, 0, 1, 2))

    for copy in range(2):
        x = pool.images[copy, :9].astype(np.float32) * (1.275 / 255) - 0.1
        scores = []
        for path in config.train.teacher:
            network = restore_network(read_checkpoint(path))
            scores.append(np.log(network.predict(x).astype(float)))
        probabilities = softmax(np.mean(scores, axis=0), axis=1)
        assert_allclose(softmax(pool.scores[copy, :9], axis=1), probabilities, rtol=1e-4)

    again = pool_of(config, without, started)
    assert len(started) == 2, "from the cache"
    assert_array_equal(again.scores, pool.scores)
    assert isinstance(again.images, np.memmap)


def test_mixed_images_are_convex_sums_of_two():
    rng = np.random.default_rng(0)
    images = np.eye(64, dtype=np.float32).reshape(64, 1, 8, 8)  # image i has the pixel i
    shares = mixed(images, 0.5, rng).reshape(64, 64)
    assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    assert ((shares > 0).sum(axis=1) <= 2).all()
    own = np.diag(shares)
    assert (own >= 0.5).all()
    assert 16 < (own < 1).sum() < 48
    assert_array_equal(mixed(images, 0.0, rng), images)


def test_the_teachers_score_the_mixed_images_of_the_pool(configured):
    plain, pool = (pool_of(configured(train__teacher_mixup=m), None, []) for m in (0.0, 0.5))
    same = (pool.images == plain.images).all(axis=(2, 3, 4))
    assert 0.4 < same.mean() < 0.6
    assert not np.array_equal(same[0], same[1])
    x = pool.images[1, ~same[1]][:9].astype(np.float32) * (1.275 / 255) - 0.1
    networks = [restore_network(read_checkpoint(p)) for p in configured().train.teacher]
    scores = np.mean([np.log(net.predict(x).astype(float)) for net in networks], axis=0)
    found = softmax(pool.scores[1, ~same[1]][:9], axis=1)
    assert_allclose(found, softmax(scores, axis=1), rtol=1e-4)


def test_mixed_images_without_distortions_differ_from_copy_to_copy(configured):
    changes = {"augment__shift": 0.0, "augment__rotation": 0.0, "train__teacher_mixup": 1.0}
    first, second = pool_of(configured(**changes), None, []).images
    assert not np.array_equal(first, second)


def test_teachers_see_the_images_before_they_are_degraded(configured):
    plain, degraded = (
        pool_of(configured(augment__noise=noise, augment__chance=1.0), None, [])
        for noise in (0.0, 50.0)
    )
    difference = degraded.images.astype(float) - plain.images
    assert 20 < difference[plain.images > 127].std() < 50
    assert_array_equal(degraded.scores, plain.scores)


@pytest.mark.parametrize(("size", "where"), [(28, slice(2, 30)), (36, slice(0, 32))])
def test_a_teacher_may_have_another_size_of_input(configured, tmp_path, size, where):
    path = str(tmp_path / "other.npz")
    layers = [{"type": "linear", "units": CLASSES}]
    teacher = untrained(model__input=[1, size, size], model__layers=layers)
    save_checkpoint(path, teacher)
    pool = pool_of(configured(train__teacher=path), None, [])
    network = restore_network(teacher)
    x = teacher.preprocessing.prepare(pool.images[1, :9, :, where, where]).transpose(3, 0, 1, 2)
    assert_allclose(softmax(pool.scores[1, :9], axis=1), network.predict(x), rtol=1e-4)


def test_one_copy_is_enough_without_distortions(configured):
    config = configured(augment__shift=0.0, augment__rotation=0.0)
    pool = pool_of(config, None, [])
    images, _ = images_of(config)
    assert_array_equal(pool.images[:, :, 0, 2:30, 2:30], images[None])
    assert pool.images[:, :, :, :2].max() == 0


@pytest.mark.parametrize("workers", [1, 3])
def test_a_loader_takes_one_copy_an_epoch(workers):
    rng = np.random.default_rng(0)
    labels = np.arange(50, dtype=np.uint8)
    without = held_out(50, 7, seed=1)
    kept = np.delete(labels, without)
    pool = Pool(
        np.broadcast_to(kept[None, :, None, None, None], (2, 43, 1, 4, 4)).copy(),
        rng.random((2, 43, 3), np.float32),
    )
    pool.images[1] += 100
    loaders = [
        Loader(
            np.zeros((50, 4, 4), np.uint8),
            labels,
            batch_size=20,
            preprocessing=Preprocessing((1, 4, 4), 1.0, 0.0),
            rows=others(50, without),
            seed=3,
            pool=pool,
            rank=rank,
            size=workers,
        )
        for rank in range(workers)
    ]
    seen = []
    for epoch in range(3):
        for loader in loaders:
            for batch in loader.epoch(epoch):
                copy = epoch % 2
                assert_array_equal(batch.x[0, 0, 0], batch.labels + 100 * copy)
                place = np.searchsorted(kept, batch.labels)
                assert_array_equal(batch.teacher, pool.scores[copy][place].T)
                seen.append(batch.labels.copy())
    assert_array_equal(np.sort(np.concatenate(seen)), np.repeat(kept, 3))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"model__classes": 7}, "has 7 classes, the data have 10"),
        ({"class_names": tuple("0123456x89")}, "has a class x where the data have 7"),
        (
            {"model__layers": [{"type": "linear", "units": 10}], "model__input": [1, 28, 20]},
            "images of 28×28 do not fit a network with an input of 28×20",
        ),
        (
            {"model__layers": [{"type": "linear", "units": 10}], "model__input": [3, 32, 32]},
            "images with 1 channel do not fit a network with an input of 3 channels",
        ),
    ],
)
def test_a_teacher_that_does_not_fit(tmp_path, made, said):
    path = tmp_path / "teacher.npz"
    save_checkpoint(path, untrained(**made))
    config = Config().with_values({"train.teacher": str(path)})
    with pytest.raises(CheckpointError) as caught:
        Teachers(config, tuple("0123456789"), np.zeros((1, 28, 28), np.uint8))
    assert str(caught.value).startswith(f"{path}: train.teacher: {said}; ")


def test_a_teacher_that_is_missing():
    config = Config().with_values({"train.teacher": "nowhere.npz"})
    with pytest.raises(CheckpointError, match=r"^nowhere.npz: train.teacher: there is no such"):
        Teachers(config, (), np.zeros((1, 28, 28), np.uint8))


def test_distances_have_no_teacher():
    config = Config().with_values({"model.name": "lenet5-1998", "train.teacher": "teacher.npz"})
    images, labels = np.zeros((80, 28, 28), np.uint8), np.zeros(80, np.uint8)
    with pytest.raises(ConfigError, match=r"^train.teacher: requires cross-entropy"):
        build_trainer(config.with_values({"data.validation": 0}), images, labels)


# --- Runs ---------------------------------------------------------------------------------------


def test_a_step_with_a_teacher_is_the_formula(configured):
    config = configured(train__precision="float64", train__teacher_weight=0.6)
    images, labels = images_of(config)
    pool = pool_of(config, held_out(len(images), config.data.validation, seed=0), [])
    trainer = build_trainer(config, images, labels, pool=pool)
    batch = next(trainer.loader.epoch(0))
    z = trainer.network.forward(batch.x).copy()
    expected, gradient = whole_loss(z, batch.teacher, batch.labels, 4.0, 0.6)
    trainer.network.backward(gradient)
    gradients = trainer.network.gradients.copy()
    trainer._add_gradients(batch)
    ((loss, _),) = trainer._figures
    assert loss == pytest.approx(expected, rel=1e-12)
    assert_array_equal(trainer.network.gradients, gradients)


class Preparations(Callback):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_preparation(self, what: str) -> None:
        self.lines.append(what)


def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(configured, tmp_path, cache):
    heard = Preparations()
    whole = configured(**STATEFUL, output__dir=str(tmp_path / "whole"))
    run_training(whole, callbacks=[heard])
    parts = configured(**STATEFUL)
    run_training(parts, callbacks=[StopAfter(step=5), heard])
    assert len(heard.lines) == 2, "the second run found the pool in the cache"
    for file in (cache / "lenet" / "decoded").iterdir():
        file.unlink()
    run_training(parts, resume=True)
    assert_same_state(checkpoint(whole), checkpoint(parts))
    assert timeless(log(whole)) == timeless(log(parts))


def test_a_run_is_resumed_with_the_same_teacher_wherever_it_is(configured, tmp_path):
    config = configured(train__epochs=2)
    run_training(config, callbacks=[StopAfter(step=2)])
    first, second = config.train.teacher
    moved = str(Path(first).rename(tmp_path / "moved.npz"))
    for teacher in (second, [second, moved], None):
        with pytest.raises(LenetError, match=r"train.teacher: the teacher is not the network"):
            run_training(config.with_values({"train.teacher": teacher}), resume=True)
    again = config.with_values({"train.teacher": [moved, second]})
    assert run_training(again, resume=True).last.epoch == 2


def test_one_worker_and_two_agree(configured, tmp_path):
    options = {"train__precision": "float64", "train__epochs": 1, "data__limit": 100}
    one, two = (
        configured(**options, output__dir=str(tmp_path / str(n)), train__workers=n) for n in (1, 2)
    )
    for config in (one, two):
        run_training(config)
    a, b = checkpoint(one), checkpoint(two)
    for name in a.parameters:
        assert_allclose(b.parameters[name], a.parameters[name], rtol=1e-9, atol=1e-12)
    assert log(two)[0]["train_loss"] == pytest.approx(log(one)[0]["train_loss"], rel=1e-12)

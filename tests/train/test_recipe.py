"""The recipe for the user's own images: what is chosen, stored, resumed, and refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from runs import StopAfter, assert_same_state, checkpoint

from lenet.checkpoint.restore import read_checkpoint
from lenet.config.reader import load_config
from lenet.config.schema import Config
from lenet.data.dataset import Split
from lenet.data.measure import image_facts
from lenet.data.strokes import draw
from lenet.train.build import class_weights
from lenet.train.recipe import complete, mirrors
from lenet.train.run import run_training

RNG = np.random.default_rng(0)


def bars(count: int, classes: int = 3, size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Dark upright bars at one of several heights, on light noise: mirrored, they look the same."""
    labels = np.arange(count) % classes
    images = RNG.integers(200, 256, (count, size, size), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 + 4 * label : 5 + 4 * label, 3:-3] -= 150
    return images, labels


def completed(
    images: np.ndarray, labels: np.ndarray, classes: int = 3, **values: object
) -> tuple[Config, list[str]]:
    """The configuration that is chosen for images, and the lines that say so."""
    names = tuple(map(str, range(classes)))
    given = {name.replace("__", "."): value for name, value in values.items()}
    config = Config.from_dict({"data": {"name": "npz", "path": "x.npz"}}).with_values(given)
    found, lines = Split(images, labels, names), []
    return complete(config, found, image_facts(images), lines.append), lines


def write(place: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    np.savez(place, x_train=images, y_train=labels, x_test=images[:20], y_test=labels[:20])
    return place


def own(path: Path, *overrides: str, recipe: str | None = None) -> Config:
    """The configuration of lenet train --data PATH, with the directory beside the data."""
    keys = ("data.name=npz", f"data.path={path}", f"output.dir={path.with_suffix('')}")
    return load_config(recipe, [*keys, "train.workers=1", *overrides])


def test_everything_is_chosen_and_said_in_two_lines():
    images, labels = bars(90)
    config, lines = completed(images, labels, train__epochs=1)
    assert config.open() == []
    assert len(lines) == 2
    for key in ("model.name", "model.scale", "train.batch_size", "optimizer.lr", "augment.flip"):
        assert sum(key in line for line in lines) == 1
    x = images * config.model.scale + config.model.shift
    assert (x.mean(), x.std()) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.01))
    assert (config.train.epochs, config.train.batch_size, config.augment.flip) == (1, 8, 0.5)


def test_what_is_given_stays():
    given = {
        "model__name": "lenet5", "model__scale": 0.01, "optimizer__lr": 0.3, "train__epochs": 2,
        "train__batch_size": 20, "augment__rotation": 3.0, "train__patience": 0,
        "train__class_weights": "balanced", "schedule__warmup": 1.0, "optimizer__weight_decay": 0.0,
    }  # fmt: skip
    config, _ = completed(*bars(60), **given)
    for name, value in given.items():
        section, key = name.split("__")
        assert getattr(getattr(config, section), key) == value
    assert (config.augment.shift, config.augment.flip) == (0, 0)


@pytest.mark.parametrize(("count", "batch"), [(60, 8), (900, 32), (5000, 64)])
def test_small_sets_get_small_batches_and_enough_steps(count, batch):
    images, labels = bars(count)
    config, _ = completed(images, labels, model__name="lenet5")
    assert config.train.batch_size == batch
    steps = -(-(count - count // 5) // batch) * config.train.epochs
    assert steps >= 1000


def test_more_images_get_fewer_epochs_and_a_large_network_too():
    images, labels = bars(900)
    many = np.broadcast_to(images[:1], (200_000, 16, 16)), np.arange(200_000) % 3
    few, _ = completed(images, labels, model__name="lenet5")
    long, _ = completed(*many, model__name="lenet5")
    large, _ = completed(*many, model__name="mini-vgg", model__input=[1, 32, 32])
    assert few.train.epochs == 100
    assert few.train.epochs > long.train.epochs >= large.train.epochs >= 6


def test_images_of_any_size_get_an_input_that_takes_them():
    rng = np.random.default_rng(1)
    labels = np.arange(40) % 3
    for shape in ((40, 5, 6), (40, 3, 40, 50)):
        images = rng.integers(0, 256, shape, dtype=np.uint8)
        for name in ("lenet5", "mini-vgg"):
            config, _ = completed(images, labels, model__name=name, train__epochs=1)
            C, H, W = config.model.specification().input_shape
            assert (3 if len(shape) == 4 else 1) == C
            assert max(shape[-2], 8) <= H
            assert max(shape[-1], 8) <= W


def test_digits_are_not_mirrored_and_symmetric_images_are():
    digits, labels = draw(400, seed=2)
    assert not mirrors(digits, labels)
    assert mirrors(*bars(300))
    left = np.zeros((80, 12, 12), np.uint8)
    left[:40, 3:9, :6], left[40:, 3:9, 6:] = 200, 200
    assert not mirrors(left, np.repeat([0, 1], 40))


def test_photographs_get_windows_and_light_and_paper_does_not():
    photographs = RNG.integers(0, 256, (60, 3, 16, 16), dtype=np.uint8)
    config, _ = completed(photographs, np.arange(60) % 3, model__name="mini-vgg")
    assert min(config.augment.crop, config.augment.brightness, config.augment.contrast) > 0
    config, _ = completed(*bars(60), model__name="mini-vgg")
    assert config.augment.crop == config.augment.brightness == config.augment.contrast == 0


def test_rare_classes_are_weighted_up_to_a_cap():
    images, labels = bars(300)
    labels[labels == 2] = 1
    labels[7] = 2
    config, _ = completed(images, labels, model__name="lenet5")
    assert config.train.class_weights == "balanced"
    counts = np.bincount(labels)
    weights = class_weights("balanced", counts, ("a", "b", "c"))
    assert weights.max() <= 15  # n/(K n_k) would be 100
    assert weights @ counts == pytest.approx(300)
    assert completed(*bars(300), model__name="lenet5")[0].train.class_weights == "none"


def test_named_data_sets_are_left_alone():
    config = Config()
    split = Split(*draw(20, seed=0), tuple("0123456789"))
    assert complete(config, split, image_facts(split.images), pytest.fail) is config
    assert config.open() == []
    values = (config.train.epochs, config.train.batch_size, config.optimizer.lr)
    assert values == (8, 64, 0.05)


def test_sixty_pictures_are_trained_on_and_resumed_to_the_bit(tmp_path):
    path = write(tmp_path / "set.npz", *bars(60))
    config, lines = own(path, "train.epochs=4"), []
    run_training(config, warn=lines.append)
    stored = load_config(tmp_path / "set" / "config.yaml")
    assert stored.open() == []
    assert stored == checkpoint(config).config
    whole = checkpoint(config)
    other = own(path, "train.epochs=4", f"output.dir={tmp_path / 'other'}")
    run_training(other, callbacks=[StopAfter(epoch=2)], warn=lines.append)
    run_training(other, resume=True, warn=lines.append)
    assert_same_state(checkpoint(other), whole)


@pytest.mark.parametrize("recipe", ["mnist", "mnist-deep", "caffe-lenet", "fashion-mnist"])
def test_a_packaged_recipe_takes_other_images_as_it_is(tmp_path, recipe):
    path = write(tmp_path / "set.npz", *bars(70, 4, 20))
    config = own(path, "train.epochs=1", recipe=recipe)
    run_training(config, fit_outputs=True, warn=lambda _: None)
    best = read_checkpoint(tmp_path / "set" / "best.npz")
    assert len(best.class_names) == 4
    assert best.config.model.layers == load_config(recipe).model.layers or recipe == "mnist-deep"
    assert best.config.model.name == load_config(recipe).model.name
    assert best.config.optimizer.lr == load_config(recipe).optimizer.lr
    assert best.config.train.batch_size == 56  # 14 of 70 validate

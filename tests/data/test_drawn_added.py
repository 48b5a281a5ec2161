"""Built-in digits that are added to the training images (``data.drawn``)."""

from __future__ import annotations

import numpy as np
import pytest

from lenet import evaluate, run_training
from lenet.config.schema import Config
from lenet.data.splits import validation_rows
from lenet.data.strokes import draw
from lenet.errors import ConfigError
from lenet.evaluation.images import load_split
from lenet.train.build import build_trainer

OWN, DRAWN = 60, 40


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Drawing takes seconds: once for all tests."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def values(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (OWN, 28, 28), dtype=np.uint8)
    labels = np.repeat(np.arange(10), OWN // 10)
    np.savez(tmp_path / "own.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    return {
        "data.name": "npz",
        "data.path": str(tmp_path / "own.npz"),
        "data.validation": 10,
        "train.batch_size": 10,
        "train.epochs": 1,
        "train.workers": 1,
        "output.dir": str(tmp_path / "run"),
    }


def test_drawn_digits_follow_the_training_images_but_not_the_test_images(values):
    config = Config().with_values(values | {"data.drawn": DRAWN})
    own = load_split(Config().with_values(values), "train")
    both = load_split(config, "train")
    images, labels = draw(DRAWN, seed=0)
    np.testing.assert_array_equal(both.images, np.concatenate([own.images, images[:DRAWN]]))
    np.testing.assert_array_equal(both.labels, np.concatenate([own.labels, labels[:DRAWN]]))
    assert len(load_split(config, "test").images) == OWN


def test_no_drawn_digit_is_held_out_for_validation(values):
    config = Config().with_values(values | {"data.drawn": DRAWN})
    own = validation_rows(Config().with_values(values).data, OWN)
    np.testing.assert_array_equal(validation_rows(config.data, OWN + DRAWN), own)
    split = load_split(config, "train")
    trainer = build_trainer(config, split.images, split.labels)
    assert trainer.loader.count == OWN + DRAWN - 10
    assert trainer.validation.rows.max() < OWN


def test_a_run_with_drawn_digits_trains_and_is_evaluated(values):
    run_training(Config().with_values(values | {"data.drawn": DRAWN}))
    best = f"{values['output.dir']}/best.npz"
    assert evaluate(best, split="validation").count == 10
    assert evaluate(best, split="train").count == OWN + DRAWN - 10


def test_what_drawn_digits_cannot_be_used_with(values):
    with pytest.raises(ConfigError, match=r"cannot be used with data\.limit"):
        Config().with_values(values | {"data.drawn": DRAWN, "data.limit": 50})
    with pytest.raises(ConfigError, match=r"cannot be used with data\.name strokes"):
        Config().with_values({"data.drawn": DRAWN})


@pytest.mark.parametrize(
    ("shape", "classes"),
    [((20, 28, 28), 2), ((60, 20, 20), 10), ((60, 28, 28, 3), 10)],
)
def test_other_images_are_refused(values, tmp_path, shape, classes):
    images, labels = np.zeros(shape, np.uint8), np.arange(shape[0]) % classes
    np.savez(tmp_path / "own.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    config = Config().with_values(values | {"data.drawn": DRAWN, "data.validation": 2})
    with pytest.raises(ConfigError, match="adds digits of 28×28, but the images are"):
        load_split(config, "train")

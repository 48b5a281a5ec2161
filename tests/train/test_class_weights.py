"""Class weights: the factors, and training with them."""

from __future__ import annotations

import numpy as np
import pytest

from lenet.config.schema import Config
from lenet.errors import ConfigError
from lenet.models.lenet5 import lenet5
from lenet.nn.losses import SoftmaxCrossEntropy
from lenet.train.build import build_trainer, class_weights

NAMES = ("cat", "dog", "T-shirt/top")
COUNTS = np.array([60, 30, 10])


def test_balanced_gives_every_class_the_same_total():
    weights = class_weights("balanced", COUNTS, NAMES)
    assert weights is not None
    total = {
        name: weight * count for name, weight, count in zip(NAMES, weights, COUNTS, strict=True)
    }
    assert total == pytest.approx(dict.fromkeys(NAMES, 100 / 3), rel=1e-12)


def test_a_class_without_images_does_not_count():
    weights = class_weights("balanced", np.array([75, 0, 25]), NAMES)
    assert weights == pytest.approx([100 / 150, 0, 100 / 50])


def test_lists_and_names():
    assert class_weights("none", COUNTS, NAMES) is None
    assert class_weights([1, 2, 3], COUNTS, NAMES) == pytest.approx([1, 2, 3])
    assert class_weights({"T-shirt/top": 0}, COUNTS, NAMES) == pytest.approx([1, 1, 0])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([1, 2], "has 2 numbers, but there are 3 classes; give one for each of cat, dog, T-shirt"),
        ({"dgo": 2}, "there is no class dgo; did you mean dog?"),
        ({"7": 2}, "there is no class 7; the classes are cat, dog, T-shirt"),
        ([0, 0, 0], "is 0 for all training images"),
    ],
)
def test_what_is_refused(given, said):
    with pytest.raises(ConfigError) as caught:
        class_weights(given, COUNTS, NAMES)
    assert str(caught.value).startswith("train.class_weights: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("fuse", ["auto", "off"])
def test_a_step_is_the_formula(fuse):
    """The gradient of the mean of weight times loss, in float64 without fusion."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 28, 28), np.uint8)
    labels = np.repeat([0, 1, 2], [25, 12, 3]).astype(np.uint8)
    config = Config().with_values(
        {
            "model.classes": 3, "model.fuse": fuse, "model.activation": "tanh",
            "train.batch_size": 36, "train.precision": "float64", "data.validation": 4,
            "train.class_weights": {"dog": 2.5, "cat": 0.5}, "optimizer.weight_decay": 0,
        }
    )  # fmt: skip
    trainer = build_trainer(config, images, labels, class_names=NAMES)
    network = lenet5(fused=False, dtype=np.float64, classes=3, activation="tanh")
    network.parameters[:] = trainer.parameters
    batch = next(trainer.loader.epoch(0))
    total, gradient = 0.0, np.zeros_like(network.gradients)
    for n, label in enumerate(batch.labels):
        loss = SoftmaxCrossEntropy(3)
        factor = (0.5, 2.5, 1.0)[label] / 36
        total += factor * loss.forward(network.forward(batch.x[..., [n]].copy()), np.array([label]))
        network.backward(loss.backward())
        gradient += factor * network.gradients
    trainer._add_gradients(batch)
    ((loss_of_step, _),) = trainer._figures
    assert loss_of_step == pytest.approx(total, rel=1e-12)
    np.testing.assert_allclose(trainer.network.gradients, gradient, rtol=0, atol=1e-14)


def test_balanced_counts_the_images_that_are_trained_on():
    """Validation images do not count."""
    labels = np.repeat([0, 1], [30, 30]).astype(np.uint8)
    config = Config().with_values(
        {
            "model.classes": 2, "train.batch_size": 8, "train.class_weights": "balanced",
            "data.validation": 10,
        }
    )  # fmt: skip
    trainer = build_trainer(config, np.zeros((60, 28, 28), np.uint8), labels)
    seen = np.concatenate([batch.labels.copy() for batch in trainer.loader.epoch(0)])
    expected = 50 / 2 / np.bincount(seen)
    assert trainer.loss.class_weights == pytest.approx(expected, rel=1e-6)
    assert seen.size == 50

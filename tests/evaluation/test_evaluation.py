"""Ensembles, test-time augmentation, and the network in the package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import bars, write_bars

from lenet.checkpoint.restore import read_checkpoint, restore_network
from lenet.cli import main
from lenet.config.schema import Config
from lenet.data.formats.idx import write_idx
from lenet.errors import ConfigError
from lenet.evaluation.ensemble import evaluate_checkpoints
from lenet.evaluation.loop import evaluate_probabilities
from lenet.nn.losses import SoftmaxCrossEntropy
from lenet.train.run import run_training


@pytest.fixture(scope="module")
def pair_of_networks(tmp_path_factory):
    """Two networks for the same bars, trained for an epoch with distortions."""
    place = tmp_path_factory.mktemp("pair")
    keys = {**write_bars(place), "train.epochs": 1, "augment.shift": 1, "optimizer.lr": 0.01}
    held = []
    for seed in (0, 1):
        config = Config().with_values({**keys, "seed": seed, "output.dir": str(place / str(seed))})
        run_training(config)
        held.append(read_checkpoint(Path(config.output.dir) / "best.npz"))
    return held


def expected_probabilities(checkpoint, images):
    """Softmax of the scores, image by image in float64."""
    network, preprocessing = restore_network(checkpoint), checkpoint.preprocessing
    x = preprocessing.blank(len(images), np.float32)
    preprocessing.apply(images, x)
    z = network.forward(x).astype(float)
    return (np.exp(z) / np.exp(z).sum(axis=0)).T


def test_an_ensemble_is_the_mean_of_the_probabilities(pair_of_networks):
    images, labels = bars(100, seed=100)
    p = sum(expected_probabilities(held, images) for held in pair_of_networks) / 2
    result, _ = evaluate_checkpoints(pair_of_networks, "test")
    assert result.count == 100
    assert result.mistakes == np.count_nonzero(p.argmax(axis=1) != labels)
    loss = -np.log(p[np.arange(100), labels]).mean()
    assert result.loss == pytest.approx(loss, rel=1e-5)


def test_twice_the_same_network_is_that_network(pair_of_networks):
    held = pair_of_networks[0]
    alone, _ = evaluate_checkpoints([held], "test")
    twice, _ = evaluate_checkpoints([held, held], "test")
    np.testing.assert_array_equal(twice.confusion, alone.confusion)
    assert twice.loss == pytest.approx(alone.loss, rel=1e-5)


def test_views_change_the_prediction_and_are_the_same_every_time(pair_of_networks):
    held = pair_of_networks[:1]
    plain, _ = evaluate_checkpoints(held, "test")
    some, again = (evaluate_checkpoints(held, "test", views=3)[0] for _ in range(2))
    assert some.loss == again.loss != plain.loss


def test_views_of_a_network_trained_without_distortions_are_refused(pair_of_networks):
    held = pair_of_networks[0]
    plain = held.config.with_values({"augment.shift": 0})
    with pytest.raises(ConfigError, match="trained with distortions"):
        evaluate_checkpoints([replace(held, config=plain)], "test", views=1)


def test_networks_of_other_classes_make_no_ensemble(pair_of_networks):
    held = pair_of_networks[0]
    with pytest.raises(ConfigError, match="different classes"):
        evaluate_checkpoints([held, replace(held, class_names=("a", "b", "c"))], "test")


def test_evaluated_by_hand():
    result = evaluate_probabilities(
        np.array([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]]), np.array([0, 1], np.uint8)
    )
    assert result.loss == pytest.approx(-(np.log(0.5) + np.log(0.2)) / 2)
    assert result.confusion.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_the_packaged_network_is_small_and_right_about_mnist(mnist_dir):
    held = read_checkpoint("pretrained")
    assert held.training is None
    assert sum(p.size for p in held.parameters.values()) == 61_706
    result, _ = evaluate_checkpoints([held], "test", directory=mnist_dir)
    assert result.accuracy >= 0.995


@pytest.mark.parametrize(
    ("size", "classes", "words"),
    [
        (40, 10, "40×40 do not fit a network with an input of 32×32"),
        (28, 12, "the 10 classes are 0 to 9"),
    ],
)
def test_the_packaged_network_refuses_other_sizes_and_classes(
    size, classes, words, tmp_path, capsys
):
    place = tmp_path / "fashion-mnist"
    place.mkdir()
    write_idx(place / "t10k-images-idx3-ubyte", np.zeros((24, size, size), np.uint8))
    write_idx(place / "t10k-labels-idx1-ubyte", (np.arange(24) % classes).astype(np.uint8))
    with pytest.raises(SystemExit) as caught:
        main(["eval", "pretrained", "--data", "fashion-mnist", "--data-dir", str(tmp_path)])
    assert caught.value.code == 3
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert words in err


def test_correct_counts_the_labels_with_the_highest_score():
    z = np.array([[3.0, 0.0, 1.0], [1.0, 2.0, 5.0]])
    loss = SoftmaxCrossEntropy(2)
    loss.forward(z, np.array([0, 0, 1], np.uint8))
    assert loss.correct == 2


def test_weights_that_overflow_are_evaluated_without_a_warning(pair_of_networks):
    absurd = [
        replace(held, parameters={name: 1e30 * p for name, p in held.parameters.items()})
        for held in pair_of_networks
    ]
    for checkpoints in (absurd[:1], absurd):
        result, _ = evaluate_checkpoints(checkpoints, "test")
        assert result.confusion.sum() == result.count

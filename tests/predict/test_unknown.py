"""The warning "not like a digit": what gets it, what does not, and which networks have it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawn import drawn, inked
from sets import load
from untrained import untrained

from lenet.checkpoint.checkpoint import load_checkpoint
from lenet.checkpoint.restore import packaged, plain_network, read_checkpoint
from lenet.data.measure import TrainingImages
from lenet.data.splits import held_out
from lenet.data.strokes import draw
from lenet.nn.losses import softmax
from lenet.predict.prediction import FILE, DigitOrNot, Predictor

MNIST = TrainingImages((1, 28, 28))
WARNING = "not like a digit"

# Letters as lines between points of a box 60 wide and 100 high.
LETTERS = {
    "H": [((0, 0), (0, 100)), ((60, 0), (60, 100)), ((0, 50), (60, 50))],
    "M": [((0, 100), (0, 0)), ((0, 0), (30, 60)), ((30, 60), (60, 0)), ((60, 0), (60, 100))],
    "X": [((0, 0), (60, 100)), ((60, 0), (0, 100))],
}


@pytest.fixture(scope="module")
def warned(tmp_path_factory):
    """Return, for each of an array of images, which are taken as they are, its warning."""
    file = tmp_path_factory.mktemp("images") / "images.npy"
    predictor = Predictor(read_checkpoint("pretrained"), way="as-is")

    def call(images: np.ndarray) -> list[str | None]:
        np.save(file, images)
        return [prediction.warning for prediction, _ in predictor.files([file], pytest.fail)]

    return call


def is_warned(warning: str | None) -> bool:
    return WARNING in (warning or "")


@pytest.mark.parametrize("letter", LETTERS)
def test_a_letter_on_paper_is_not_like_a_digit(letter):
    predictor = Predictor(read_checkpoint("pretrained"))
    assert is_warned(predictor(letter, inked(drawn(lines=LETTERS[letter]))).warning)


def test_noise_and_a_frame_are_not_like_digits(warned):
    frame = np.full((1, 28, 28), 255, np.uint8)
    frame[:, 3:25, 3:25] = 0
    noise = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    blank = np.zeros((1, 28, 28), np.uint8)
    assert all(map(is_warned, warned(np.concatenate([frame, noise, blank]))))


def test_few_drawn_digits_are_warned_of(warned):
    """Another seed than the training's; some of these digits can hardly be read."""
    assert np.mean(list(map(is_warned, warned(draw(400, seed=77)[0])))) < 0.1


def test_few_validation_images_of_mnist_are_warned_of(warned, mnist_dir):
    train = load("mnist", "train", directory=mnist_dir)
    images = train.images[held_out(len(train.images), 5000, seed=0)[:2000]]
    assert np.mean([warning is not None for warning in warned(images)]) < 0.01


def test_the_probability_is_that_of_the_second_class():
    with packaged(FILE) as path:
        checkpoint = load_checkpoint(path)
    assert checkpoint.class_names == ("other", "digit")
    images = draw(9, seed=5)[0]
    network = plain_network(checkpoint)
    scores = [
        network.forward(checkpoint.preprocessing.prepare(image[None], network.dtype))[:, 0].copy()
        for image in images
    ]
    expected = softmax(np.array(scores, np.float64).T)[1]
    np.testing.assert_allclose(DigitOrNot()(images), expected, atol=1e-5)


def test_the_file_is_small():
    with packaged(FILE) as path:
        assert path.stat().st_size < 300_000


@pytest.mark.parametrize(
    ("class_names", "images", "expected"),
    [
        ("0123456789", MNIST, True),
        ("abcdefghij", MNIST, False),
        ("1234567890", MNIST, False),
        ("0123456789", None, False),
        ("0123456789", replace(MNIST, drawn_as_mnist=False), False),
        ("0123456789", replace(MNIST, shape=(1, 20, 20)), False),
        ("0123456789", replace(MNIST, paper=255), False),
        ("0123456789", replace(MNIST, lightest=90), False),
    ],
)
def test_for_digits_as_mnist_draws_them_only(class_names, images, expected):
    checkpoint = replace(untrained(class_names=tuple(class_names)), images=images)
    checkpoint = replace(checkpoint, dataset="idx")
    assert (Predictor(checkpoint).digit_or_not is not None) == expected


def test_a_fitted_picture_gets_no_such_warning():
    predictor = Predictor(replace(untrained(), images=MNIST), way="fit")
    assert not is_warned(predictor("H", inked(drawn(lines=LETTERS["H"]))).warning)

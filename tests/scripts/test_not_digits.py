"""The training images of the network digit-or-not, and the script that writes them."""

from __future__ import annotations

import sys

import not_digits
import numpy as np
import pytest
from not_digits import DRAWN, MADE_OF_DIGITS, Digits, in_a_row, trimmed
from numpy.testing import assert_array_equal
from scipy import ndimage
from scripted import load_script
from signs import LETTERS, SIGNS

from lenet.data.strokes import draw

COUNT = 8  # images of each kind


@pytest.fixture
def few(monkeypatch) -> None:
    for table in (DRAWN, MADE_OF_DIGITS):
        for name, (function, _) in table.items():
            monkeypatch.setitem(table, name, (function, COUNT))


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits(*draw(200, seed=0))


def test_every_kind_follows_from_the_seed(few, digits):
    first, again, other = (dict(not_digits.not_digits(seed, digits)) for seed in (1, 1, 2))
    assert set(first) == set(DRAWN) | set(MADE_OF_DIGITS)
    for name, images in first.items():
        assert (images.shape, images.dtype) == ((COUNT, 28, 28), np.uint8), name
        assert_array_equal(images, again[name])
        assert (images != other[name]).any(), name


def test_letters_that_are_digits_too_are_left_out():
    names = {line.split(":")[0].split(",")[0].split()[0] for line in LETTERS.splitlines()}
    assert not names & set("OoIilSsZzbqg")
    assert len(names) > 35
    lines = [*LETTERS.splitlines(), *SIGNS.splitlines()]
    assert len({line.split(":")[0] for line in lines}) == len(lines)


def test_two_signs_in_a_row_are_beside_each_other():
    """Two squares that do not touch are two shapes of the same rows, and together wide."""
    square = np.zeros((28, 28), np.uint8)
    square[4:24, 4:24] = 255
    rng = np.random.default_rng(0)
    rows = [in_a_row(rng, square, square) for _ in range(40)]
    counts = [ndimage.label(row > 127)[1] for row in rows]
    assert set(counts) == {1, 2}
    for row in rows:
        height, width = trimmed(row).shape
        assert width >= 14
        assert height <= 26


def test_each_of_two_overlapping_digits_adds_ink(digits):
    rng = np.random.default_rng(0)
    ink = (digits.images > 127).sum(axis=(1, 2))
    thin = Digits(digits.images[ink < 100], digits.labels[ink < 100])
    inked = (not_digits.overlapping(rng, 20, thin) > 127).sum(axis=(1, 2))
    assert inked.mean() > 1.4 * ink[ink < 100].mean()


def test_the_script_writes_a_data_set(few, tmp_path, monkeypatch, capsys):
    script = load_script("weights")
    monkeypatch.setattr(script, "DRAWN", 30)
    monkeypatch.delenv("LENET_DATA_DIR", raising=False)
    monkeypatch.setattr(sys, "argv", ["weights", "draw", "--out", str(tmp_path / "images.npz")])
    script.main()
    with np.load(tmp_path / "images.npz") as stored:
        images, labels = stored["x"], stored["y"]
    others = COUNT * (len(DRAWN) + len(MADE_OF_DIGITS))
    assert images.shape == (30 + others, 28, 28)
    assert np.bincount(labels).tolist() == [others, 30]
    assert (np.diff(labels.astype(int)) != 0).sum() > 10, "shuffled"
    assert "without MNIST" in capsys.readouterr().out

"""The examples, small: they run, they learn, and they fail where they do not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

import cifar_like  # noqa: E402 - from examples/
import train  # noqa: E402


def test_lenet_learns_drawn_digits(capsys):
    train.main(count=3_000, epochs=4, batch=32, target=0.75)
    assert "% of 5,000 other digits are correct" in capsys.readouterr().out


def test_another_network_learns_colour_images(capsys):
    cifar_like.main(count=1_500, epochs=4, batch=25, target=0.40, workers=1)
    assert "% of 2,000 other images are correct" in capsys.readouterr().out


def test_an_example_fails_below_its_target():
    with pytest.raises(AssertionError, match="the target is 90%"):
        train.main(count=64, epochs=1, batch=32, target=0.90)


def test_forty_lines_are_enough():
    assert len((EXAMPLES / "train.py").read_text(encoding="utf-8").splitlines()) <= 40

"""The twelve corruptions on drawn digits, and the table of scripts/corruptions."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from corrupted import CORRUPTIONS, STRENGTHS, corrupted
from numpy.testing import assert_array_equal
from scipy import ndimage
from tiny import write_bars
from untrained import untrained

from lenet.checkpoint.checkpoint import save_checkpoint
from lenet.data.strokes import draw

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "corruptions"


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return draw(40, seed=7)[0]


def box(image: np.ndarray) -> tuple[int, int]:
    """Height and width of the ink."""
    rows, columns = np.nonzero(image > 40)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def ink(images: np.ndarray) -> np.ndarray:
    return images.sum(axis=(1, 2), dtype=float)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_is_reproducible_and_grows(digits, name):
    changes = []
    for strength in STRENGTHS:
        changed = corrupted(digits, name, strength)
        assert (changed.shape, changed.dtype) == (digits.shape, np.uint8)
        assert_array_equal(changed, corrupted(digits, name, strength))
        changes.append(np.abs(changed.astype(float) - digits).mean())
    assert 0 < changes[0] < changes[1] < changes[2]
    blank = np.zeros((2, 28, 28), np.uint8)
    assert name in ("noise", "line") or not corrupted(blank, name, "strong").any()


def test_another_seed_is_another_corruption(digits):
    assert (corrupted(digits, "gaps", "mild", 0) != corrupted(digits, "gaps", "mild", 1)).any()


def test_aspect_and_size_change_the_box_of_the_ink(digits):
    for image, wide, small in zip(
        digits,
        corrupted(digits, "aspect", "strong"),
        corrupted(digits, "size", "strong"),
        strict=True,
    ):
        height, width = box(image)
        ratio = np.divide(*box(wide)) / (height / width)
        assert min(abs(np.log(ratio) - sign * 2 * np.log(1.3)) for sign in (-1, 1)) < 0.35
        assert box(small)[0] == pytest.approx(0.6 * height, abs=2)


def test_rotation_and_slant_move_the_ink_by_their_angles():
    """A vertical bar leans by arctan 0.45, or by 24 degrees."""
    bar = np.zeros((20, 28, 28), np.uint8)
    bar[:, 6:22, 13:15] = 255
    for name, tangent in (("slant", 0.45), ("rotation", np.tan(np.radians(24)))):
        leans = []
        for image in corrupted(bar, name, "strong"):
            rows, columns = np.indices(image.shape)
            weights = image.astype(float) / image.sum()
            row, column = (weights * rows).sum(), (weights * columns).sum()
            lean = (weights * (rows - row) * (columns - column)).sum()
            leans.append(lean / (weights * (rows - row) ** 2).sum())
        assert np.abs(leans) == pytest.approx(np.full(20, tangent), abs=0.03)
        assert len(set(np.sign(leans))) == 2


def test_strokes_become_thicker_or_thinner_by_quarters_of_a_pixel():
    bar = np.zeros((20, 28, 28), np.uint8)
    bar[:, :, 10:16] = 255
    widths = corrupted(bar, "stroke", "strong")[:, 14].sum(axis=1) / 255
    assert {round(width, 1) for width in widths} == {6 - 1.5, 6 + 1.5}


def test_blur_keeps_the_ink_and_is_that_of_a_gaussian(digits):
    blurred = corrupted(digits, "blur", "strong")
    expected = [ndimage.gaussian_filter(image.astype(float), 1.5) for image in digits]
    assert np.abs(blurred - np.array(expected)).max() <= 0.5 + 1e-9


def test_noise_has_its_standard_deviation():
    grey = np.full((20, 28, 28), 128, np.uint8)
    assert corrupted(grey, "noise", "mild").std() == pytest.approx(25, rel=0.03)


def test_gaps_only_erase_and_lines_only_add(digits):
    erased = corrupted(digits, "gaps", "strong")
    assert ((erased == digits) | (erased == 0)).all()
    assert (ink(erased) < ink(digits)).all()
    crossed = corrupted(digits, "line", "strong")
    assert (crossed >= digits).all()
    assert (crossed.max(axis=1) > 100).all(), "every column has a part of the line"


def test_faint_and_shifted_images_are_what_they_say(digits):
    assert_array_equal(corrupted(digits, "faint", "strong"), np.rint(0.3 * digits))
    middle = np.pad(digits[:, 6:22, 6:22], ((0, 0), (6, 6), (6, 6)))
    for before, after in zip(middle, corrupted(middle, "shift", "strong"), strict=True):
        moves = [(i, j) for i in (-3, 0, 3) for j in (-3, 0, 3) if (i, j) != (0, 0)]
        assert any((np.roll(before, move, (0, 1)) == after).all() for move in moves)


def test_a_scan_has_rounded_frequencies(digits):
    """The mean of a block is a multiple of the finest step divided by 8."""
    flat = np.repeat(np.arange(100, 120, dtype=np.uint8), 28 * 28).reshape(20, 28, 28)
    means = corrupted(flat, "scan", "strong")[:, :8, :8].mean(axis=(1, 2))
    np.testing.assert_allclose(means / 5, np.rint(np.arange(100, 120) / 5), atol=0.11)


def test_the_table_and_the_json_object(tmp_path, monkeypatch, capsys):
    config = write_bars(tmp_path, train=80, test=20)
    made = untrained(**{k.replace(".", "__"): v for k, v in config.items()})
    path = tmp_path / "network.npz"
    save_checkpoint(path, made)

    def printed(*options: str) -> str:
        monkeypatch.setattr(sys, "argv", ["corruptions", str(path), "--limit", "8", *options])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return capsys.readouterr().out

    found = json.loads(printed("--json"))
    assert list(found["corruptions"]) == list(CORRUPTIONS)
    accuracies = [row[strength] for row in found["corruptions"].values() for strength in STRENGTHS]
    assert found["mean"] == pytest.approx(np.mean(accuracies))
    assert found["count"] == 8
    lines = printed("--split", "validation").splitlines()
    assert lines[0].endswith("8 validation images")
    assert [line.split()[0] for line in lines[2:]] == [*CORRUPTIONS, "mean", "clean"]

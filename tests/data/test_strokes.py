"""Built-in digits: pictures against the definition, MNIST's format, same seed same bytes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lenet.data import strokes
from lenet.data.strokes import BOX, SIZE, Lines, catmull_rom, draw, fit, ink, load_strokes, write


@pytest.fixture(scope="module")
def drawn():
    return draw(2000, seed=3)


def digest(array):
    return hashlib.sha256(array.tobytes()).hexdigest()


def coverage(places, radius, down):
    """Draw one picture pixel by pixel, segment by segment, in plain Python floats."""
    picture = np.zeros((BOX, BOX))
    for row in range(BOX):
        for column in range(BOX):
            pixel = np.array([column + 0.5, row + 0.5])
            for s in np.flatnonzero(down):
                a, b = places[s], places[s + 1]
                length = (b - a) @ (b - a)
                t = min(max((pixel - a) @ (b - a) / length, 0), 1) if length else 0.0
                distance = np.linalg.norm(pixel - a - t * (b - a))
                covered = 0.5 + radius[s] + t * (radius[s + 1] - radius[s]) - distance
                picture[row, column] = max(picture[row, column], min(covered, 1))
    return picture


def test_ink_is_the_distance_to_the_nearest_segment():
    rng = np.random.default_rng(0)
    places = rng.uniform(0, BOX, (3, 6, 2))
    places[0, 2] = places[0, 3]  # a pen that stands still
    radius = rng.uniform(0.3, 3, (3, 6))
    down = np.array([[1, 1, 1, 1, 1, 0], [1, 0, 1, 1, 0, 0], [0, 0, 0, 1, 0, 0]], bool)
    picture = ink(Lines(places, radius, down))
    expected = [coverage(*line) for line in zip(places, radius, down, strict=True)]
    np.testing.assert_allclose(picture, expected, atol=1e-4)


def test_a_horizontal_line_covers_as_many_pixels_as_it_is_wide():
    places = np.array([[[2.0, 10.0], [18.0, 10.0]]])
    picture = ink(Lines(places, np.full((1, 2), 1.75), np.array([[True, False]])))[0]
    np.testing.assert_allclose(picture[:, 10].sum(), 3.5, rtol=1e-6)
    assert picture[:7].max() == 0


def test_the_curve_goes_through_its_points_and_keeps_straight_lines_straight():
    points = np.random.default_rng(1).uniform(0, 100, (5, 2))
    np.testing.assert_allclose(catmull_rom(5, np.arange(5.0)) @ points, points, atol=1e-12)
    even = np.linspace([0.0, 5.0], [40.0, 25.0], 5)
    time = np.linspace(0, 4, 30)
    np.testing.assert_allclose(catmull_rom(5, time) @ even, time[:, None] * [10, 5] + [0, 5])


def test_every_style_is_sampled_through_its_ends_with_short_steps():
    sk = strokes.skeletons()
    places = sk.curve @ sk.points
    steps = np.hypot(*(places[:, 1:] - places[:, :-1]).transpose(2, 0, 1))
    assert steps[sk.down[:, :-1]].max() <= 1.01 * strokes.STEP
    np.testing.assert_allclose(places[:, 0], sk.points[:, 0], atol=1e-9)
    assert not sk.down[:, -1].any()
    assert set(sk.digit) == set(range(10))
    assert (np.bincount(sk.digit) >= 5).all()


def test_corners_and_lifted_pens_are_kept():
    fields = strokes._trace("7 1 barred: 0,0 60,0! 20,100 / 10,50 50,50")
    points, curve, down = fields[2], fields[5], fields[8]
    places = curve @ points
    assert (places == [60, 0]).all(axis=1).sum() == 2  # the end of a piece, the start of the next
    lifts = np.flatnonzero(~down)
    np.testing.assert_allclose(places[lifts], [[60, 0], [20, 100], [50, 50]], atol=1e-9)


def test_the_ink_just_fits_the_box():
    style = np.arange(len(strokes.skeletons().digit))
    lines = fit(write(style, np.random.default_rng(2)))
    inked = lines.down.copy()
    inked[:, 1:] |= lines.down[:, :-1]
    for places, radius, on in zip(lines.places, lines.radius, inked, strict=True):
        low = (places[on] - radius[on, None]).min(axis=0)
        high = (places[on] + radius[on, None]).max(axis=0)
        assert (high - low).max() == pytest.approx(BOX, abs=0.01)
        np.testing.assert_allclose((low + high) / 2, BOX / 2, atol=0.01)


def test_pictures_have_mnists_format(drawn):
    images, labels = drawn
    assert images.shape == (2000, SIZE, SIZE)
    assert images.dtype == labels.dtype == np.uint8
    inked = images > 0
    height, width = (
        SIZE - side.argmax(axis=1) - side[:, ::-1].argmax(axis=1)
        for side in (inked.any(axis=2), inked.any(axis=1))
    )
    longest = np.maximum(height, width)
    assert longest.max() == BOX
    assert np.mean(longest == BOX) > 0.95
    assert longest.min() >= BOX - 2
    assert (images.max(axis=(1, 2)) > 100).all()


def test_the_centre_of_mass_is_in_the_middle(drawn):
    grey = drawn[0].astype(float)
    mass = grey.sum(axis=(1, 2))
    pixel = np.arange(SIZE)
    for axis in (1, 2):
        off = grey.sum(axis=3 - axis) @ pixel / mass - SIZE / 2
        # Half a pixel is the rounding; more only where the box has come to the edge.
        side = (drawn[0] > 0).any(axis=3 - axis)
        at_edge = side[:, 0] | side[:, -1]
        assert np.abs(off[~at_edge]).max() <= 0.5 + 1e-9
        assert np.abs(off).mean() < 0.3


def test_every_digit_is_there_as_often_and_in_no_order(drawn):
    labels = drawn[1]
    assert (np.bincount(labels) == 200).all()
    assert (np.sort(labels.reshape(-1, 10), axis=1) == np.arange(10)).all()
    assert len({tuple(ten) for ten in labels.reshape(-1, 10)}) > 190


def test_same_seed_same_bytes_in_another_process_and_other_blocks(drawn, monkeypatch):
    program = "import hashlib, lenet.data.strokes as s; x, y = s.draw(1100, 3); "
    program += "print(hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    expected = hashlib.sha256(drawn[0][:1100].tobytes() + drawn[1][:1100].tobytes()).hexdigest()
    assert done.stdout.strip() == expected
    monkeypatch.setattr(strokes, "BLOCK", 37)
    images, labels = draw(1100, seed=3)
    np.testing.assert_array_equal(images, drawn[0][:1100])
    np.testing.assert_array_equal(labels, drawn[1][:1100])


def test_other_seeds_and_streams_give_other_digits():
    digests = {digest(draw(10, seed, stream)[0]) for seed in (0, 1) for stream in (0, 1)}
    assert len(digests) == 4


def test_no_digits_are_no_images():
    images, labels = draw(0, seed=0)
    assert images.shape == (0, SIZE, SIZE)
    assert labels.shape == (0,)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(strokes, "COUNTS", {"train": 1000, "test": 1000})


def test_train_and_test_share_no_picture(few):
    (train, _), (test, _) = load_strokes("train"), load_strokes("test")
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in test}


def test_what_was_drawn_is_read_the_next_time(few, tmp_path, monkeypatch):
    images, labels = load_strokes("test", 5, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(strokes, "draw", None)
    again, same = load_strokes("test", 5, tmp_path)
    np.testing.assert_array_equal(again, images)
    np.testing.assert_array_equal(same, labels)
    assert same.dtype == np.uint8


def test_a_damaged_cache_is_drawn_again(few, tmp_path):
    images, _ = load_strokes("test", 5, tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    again, _ = load_strokes("test", 5, tmp_path)
    np.testing.assert_array_equal(again, images)
    assert file.read_bytes() == whole


def test_without_a_cache_that_can_be_written_it_just_draws(few, tmp_path):
    (tmp_path / "file").write_text("in the way")
    images, _ = load_strokes("test", 5, Path(tmp_path, "file", "cache"))
    np.testing.assert_array_equal(images, draw(1000, 5, 1)[0])


def test_another_table_of_styles_is_written():
    style = np.zeros(20, np.intp)
    rng = np.random.default_rng(0)
    lines = fit(write(style, rng, table="0 1 dash: 0,0 50,0 100,0"))
    across, down = (np.ptp(lines.places[..., axis], axis=1) for axis in (0, 1))
    assert (across > down).all()

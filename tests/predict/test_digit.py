"""Finding a digit: the same drawing must give the same image however it was put into a picture."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drawn import drawn, inked
from scipy import ndimage
from sets import load

from lenet.data.pixels import fitted, resized
from lenet.predict import planes
from lenet.predict.finder import find_digit
from lenet.predict.planes import BOX, MAX_SIDE, SIZE, stroke_width


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    found = find_digit(inked(drawn()))
    assert found is not None
    return found.image


def differs(pixels: np.ndarray, reference: np.ndarray) -> float:
    """Mean difference in grey levels of the pixels that are ink in either."""
    found = find_digit(pixels)
    assert found is not None
    assert found.shapes == 1
    a, b = found.image.astype(int), reference.astype(int)
    return float(np.abs(a - b)[(a > 40) | (b > 40)].mean())


# --- The image as MNIST's are --------------------------------------------------------------------


def test_the_box_is_20_pixels_long_and_the_mass_in_the_middle(reference):
    rows, columns = (np.flatnonzero((reference > 127).any(axis=axis)) for axis in (1, 0))
    assert abs(np.ptp(rows) + 1 - BOX) <= 1
    assert np.ptp(columns) + 1 < BOX
    v, u = np.mgrid[0:SIZE, 0:SIZE]
    total = reference.sum(dtype=float)
    assert (v * reference).sum() / total == pytest.approx(14, abs=0.1)
    assert (u * reference).sum() / total == pytest.approx(14, abs=0.1)
    assert reference.max() > 250
    assert reference[0].max() == 0


def test_the_box_is_where_the_digit_is():
    found = find_digit(inked(drawn(400, height=0.3, at=(0.3, 0.6))))
    assert found is not None
    top, left, bottom, right = found.box
    # 100 of the drawing are 120 pixels, and the pen stands over by 6 on every side.
    assert (top, bottom) == pytest.approx((240 - 66, 240 + 66), abs=4)
    assert (left, right) == pytest.approx((120 - 34.8, 120 + 37.2), abs=4)
    assert found.contrast == pytest.approx(0.85, abs=0.08)


def test_mnist_stays_as_it_is(mnist_dir):
    images = load("mnist", "test", directory=mnist_dir).images[:40]
    for image in images:
        pixels = np.repeat((image / np.float32(255))[..., None], 3, axis=2)
        found = find_digit(pixels)
        assert found is not None
        correlation = np.corrcoef(found.image.ravel(), image.ravel())[0, 1]
        assert correlation > 0.85


# --- However it is put into a picture ------------------------------------------------------------

GREEN, RED, BLUE = (0.1, 0.45, 0.2), (0.8, 0.25, 0.25), (0.3, 0.42, 0.72)
PICTURES = {
    "light on dark": lambda: 1 - inked(drawn()),
    "small": lambda: inked(drawn(32, height=0.8)),
    "large": lambda: inked(drawn(900)),
    "far away": lambda: inked(drawn(1200, height=0.08)),
    "in a corner": lambda: inked(drawn(at=(0.25, 0.35))),
    "pale": lambda: inked(drawn(), ink=(0.8, 0.8, 0.8)),
    "white on green": lambda: inked(drawn(), ink=(0.9, 0.9, 0.9), paper=GREEN),
    "red on blue": lambda: inked(drawn(), ink=RED, paper=BLUE),
    "wide picture": lambda: np.pad(inked(drawn()), ((0, 0), (0, 500), (0, 0)), mode="edge"),
    "light from the left": lambda: inked(drawn()) * np.linspace(1, 0.35, 200)[:, None],
    "noise": lambda: inked(drawn()) + np.random.default_rng(0).normal(0, 0.04, (200, 200, 3)),
    "dark corners": lambda: inked(drawn()) * vignette(200),
    "frame": lambda: framed(inked(drawn())),
    "sheet on a table": lambda: on_table(inked(drawn())),
    "edge of a table": lambda: np.pad(
        inked(drawn()), ((0, 0), (60, 0), (0, 0)), constant_values=0.15
    ),
}


def vignette(side: int) -> np.ndarray:
    v, u = np.mgrid[-1 : 1 : 1j * side, -1 : 1 : 1j * side]
    return (1 - 0.25 * (u**2 + v**2))[..., None]


def framed(pixels: np.ndarray) -> np.ndarray:
    return np.pad(pixels, ((9, 9), (9, 9), (0, 0)), constant_values=0.1)


def on_table(pixels: np.ndarray) -> np.ndarray:
    return np.pad(pixels, ((70, 70), (90, 90), (0, 0)), constant_values=0.2)


@pytest.mark.parametrize("name", PICTURES)
def test_the_same_digit(reference, name):
    pixels = np.clip(PICTURES[name](), 0, 1).astype(np.float32)
    assert differs(pixels, reference) < 40


def test_cut_to_its_edges(reference):
    amount = drawn()
    rows, columns = (np.flatnonzero((amount > 0).any(axis=axis)) for axis in (1, 0))
    cut = amount[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert differs(inked(cut), reference) < 40


def test_a_shadow_across_it(reference):
    shade = np.where(np.arange(200) < 110, 1, 0.6)
    soft = np.convolve(np.pad(shade, 6, mode="edge"), np.full(13, 1 / 13), "valid")
    assert differs((inked(drawn()) * soft[:, None]).astype(np.float32), reference) < 60


def test_thin_strokes_are_thickened_and_thick_ones_thinned(reference):
    def ink(width: float) -> float:
        found = find_digit(inked(drawn(400, width=width)))
        assert found is not None
        return float(found.image.sum()) / 255

    assert ink(0.01) == pytest.approx(ink(0.08), rel=0.35)
    assert ink(0.3) < 2.2 * ink(0.15)


# --- Several, and none ---------------------------------------------------------------------------


def test_several_digits_are_counted():
    page = np.concatenate([drawn(), drawn(), drawn()], axis=1)
    found = find_digit(inked(page))
    assert found is not None
    assert found.shapes == 3


def test_broken_strokes_are_one_digit(reference):
    amount = drawn()
    amount[96:102] = 0  # a gap of 3 % of the picture
    found = find_digit(inked(amount))
    assert found is not None
    assert found.shapes == 1
    assert found.box[3] - found.box[1] > 60


def test_dust_is_dropped(reference):
    amount = drawn()
    for row, column in np.random.default_rng(1).integers(5, 195, (15, 2)):
        amount[row : row + 2, column : column + 2] = 1
    assert differs(inked(amount), reference) < 40


def test_nothing():
    rng = np.random.default_rng(0)
    page = np.full((150, 200, 3), 0.8)
    v, u = np.mgrid[-1:1:150j, -1:1:200j]
    light = (0.7 + 0.2 * u - 0.15 * v**2)[..., None]
    for pixels in (page, 0 * page, page + rng.normal(0, 0.02, page.shape), page * light):
        assert find_digit(pixels.astype(np.float32)) is None


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (8, 8), (8, 2048), (900, 9), (28, 28)])
def test_any_size_and_any_noise_is_accepted(shape):
    pixels = np.random.default_rng(2).random((*shape, 3), np.float32)
    found = find_digit(pixels)
    assert found is None or found.image.shape == (SIZE, SIZE)
    if min(shape) < 8:
        assert found is None


# --- The parts -----------------------------------------------------------------------------------


def test_resizing_is_a_mean_with_the_weights_of_a_tent():
    x = np.random.default_rng(3).random((6, 4, 2), np.float32)
    expected = np.zeros((2, 4, 2))
    for i, centre in enumerate((1.5, 4.5)):
        weights = [max(0, 1 - abs(j + 0.5 - centre) / 3) for j in range(6)]
        expected[i] = sum(w * x[j] for j, w in enumerate(weights)) / sum(weights)
    np.testing.assert_allclose(resized(x, 2, 4), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "expected"), [((64, 64), (32, 32)), ((90, 30), (32, 11)), ((3, 400), (1, 48))]
)
def test_a_fitted_image_keeps_its_shape(shape, expected):
    pixels = np.random.default_rng(5).random((*shape, 3), np.float32)
    image = fitted(pixels, 32, 48)
    assert image.shape == (3, *expected)
    assert image.dtype == np.uint8
    colours = pixels.mean(axis=(0, 1)) * 255
    np.testing.assert_allclose(image.mean(axis=(1, 2)), colours, atol=12)


def test_a_picture_of_the_right_size_is_not_changed():
    levels = np.random.default_rng(6).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    pixels = levels.astype(np.float32) / 255
    np.testing.assert_array_equal(fitted(pixels, 20, 30), levels.transpose(2, 0, 1))


def test_resizing_to_the_same_size_changes_nothing():
    x = np.random.default_rng(4).random((5, 7, 3), np.float32)
    np.testing.assert_allclose(resized(x, 5, 7), x, atol=1e-6)


@pytest.mark.parametrize("shape", [(30, 40), (400, 90)])
def test_a_picture_is_resized_and_blurred(shape):
    pixels = np.random.default_rng(7).random((*shape, 3), np.float32)
    small = resized(pixels, 60, 50).transpose(2, 0, 1)
    found = planes.seen(pixels, 60, 50, sigma=0.8)
    expected = ndimage.gaussian_filter(small, (0, 0.8, 0.8), truncate=6)
    np.testing.assert_allclose(found[:, 5:-5, 5:-5], expected[:, 5:-5, 5:-5], atol=1e-4)
    np.testing.assert_allclose(planes.seen(0 * pixels + 1, 60, 50, sigma=0.8), 1, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 7, 12])
def test_a_closing_of_squares(n):
    x = np.random.default_rng(8).random((2, 21, 30), np.float32)
    padded = np.pad(x, ((0, 0), (n, n), (n, n)))
    expected = ndimage.grey_closing(padded, (1, n, n))[:, n:-n, n:-n]
    np.testing.assert_array_equal(planes.closed(x, n, outside=0), expected)


@pytest.mark.parametrize("n", [1, 3])
def test_masks_grow_shrink_and_are_filled(n):
    mask = np.random.default_rng(9).random((20, 31)) < 0.6
    expected = ndimage.binary_dilation(mask, iterations=n)
    np.testing.assert_array_equal(planes.dilated(mask, n), expected)
    expected = ndimage.binary_erosion(mask, iterations=n)
    np.testing.assert_array_equal(planes.eroded(mask, n), expected)
    expected = ndimage.binary_fill_holes(mask)
    np.testing.assert_array_equal(planes.without_holes(mask), expected)


def test_the_smallest_rectangle_around_a_turned_one():
    v, u = np.mgrid[-60:60, -60:60]
    along, across = u * math.cos(0.4) + v * math.sin(0.4), v * math.cos(0.4) - u * math.sin(0.4)
    mask = (np.abs(along) < 40) & (np.abs(across) < 15) & (np.hypot(u, v) > 9)
    assert planes.smallest_rectangle(mask) == pytest.approx(81 * 31, rel=0.05)


def test_grey_and_colour_are_analysed_alike():
    grey = inked(drawn())
    tinted = grey * np.array([1, 1, 0.999], np.float32)
    a, b = find_digit(grey), find_digit(tinted)
    assert a is not None
    assert b is not None
    assert a.box == b.box
    np.testing.assert_allclose(a.image.astype(int), b.image, atol=2)


def test_stroke_width_of_a_ring():
    v, u = np.mgrid[0:MAX_SIDE, 0:MAX_SIDE] - MAX_SIDE / 2
    for width in (6, 14, 30):
        ring = np.abs(np.hypot(u, v) - 80) < width / 2
        assert math.isclose(stroke_width(ring), width, rel_tol=0.15)

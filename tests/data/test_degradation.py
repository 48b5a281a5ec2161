"""Degradations of training images, against SciPy and definitions."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from lenet.data.augmentation import Distorter
from lenet.data.degradation import DEGRADATIONS, Degrader
from lenet.data.strokes import draw
from lenet.errors import ConfigError

CROSS = ndimage.generate_binary_structure(2, 1)
PAPER = {"stroke": 1.0, "gaps": 3.0, "line": 2.0, "blur": 1.5, "faint": 0.7}
EVERYTHING = PAPER | {"brightness": 0.2, "contrast": 0.3, "noise": 60.0}


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """Drawn digits (1,28,28,n)."""
    return draw(32, seed=3)[0].transpose(1, 2, 0)[None].astype(np.float32)


def applied(name: str, x: np.ndarray, amount: float, seed: int = 0) -> np.ndarray:
    """Images with one degradation of a given amount."""
    kind, (_, H, W, n) = DEGRADATIONS[name], x.shape
    drawn = kind.draw(np.random.default_rng(seed), (H, W), n)
    changed = kind.apply(x, np.full(n, amount, np.float32), drawn)
    assert (changed.shape, changed.dtype) == (x.shape, np.float32)
    return changed


@pytest.mark.parametrize("amount", [1.0, 0.4])
def test_strokes_are_dilated_or_eroded(digits, amount):
    changed = applied("stroke", digits, amount)
    sides = set()
    for i in range(digits.shape[3]):
        image = digits[0, ..., i]
        ends = [f(image, footprint=CROSS) for f in (ndimage.grey_dilation, ndimage.grey_erosion)]
        matches = [
            np.allclose(changed[0, ..., i], image + amount * (end - image), atol=1e-3)
            for end in ends
        ]
        assert sum(matches) == 1
        sides.add(matches[0])
    assert sides == {True, False}


def test_blur_is_that_of_scipy(digits):
    expected = ndimage.gaussian_filter(
        digits.astype(float), (0, 1.5, 1.5, 0), mode="constant", radius=(0, 5, 5, 0)
    )
    assert_allclose(applied("blur", digits, 1.5), expected, atol=1e-3)
    assert_allclose(applied("blur", digits, 0.0), digits, atol=1e-4)


def test_gaps_are_discs_on_ink(digits):
    changed = applied("gaps", digits, 2.5)
    erased = changed != digits
    assert (changed[erased] == 0).all()
    for i in range(digits.shape[3]):
        _, count = ndimage.label(erased[0, ..., i])
        assert 1 <= count <= 3
        assert (digits[0, ..., i][erased[0, ..., i]] >= 128).any()
    assert_array_equal(applied("gaps", np.zeros_like(digits), 3), 0)


def test_a_line_crosses_the_image(digits):
    changed = applied("line", np.zeros_like(digits), 2.0)
    for image in np.moveaxis(changed[0], 2, 0):
        crossed = [(image.max(axis=axis) > 127).all() for axis in (0, 1)]
        assert any(crossed)
        length = min(np.hypot(28, np.ptp(np.argwhere(image > 127)[:, axis])) for axis in (0, 1))
        assert image.sum() / 255 == pytest.approx(2 * length, rel=0.25)
    assert (applied("line", digits, 2.0) >= digits).all()


def test_faint_and_noise(digits):
    assert_allclose(applied("faint", digits, 0.25), 0.75 * digits)
    noise = applied("noise", digits, 20.0) - digits
    assert noise.std() == pytest.approx(20, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=0.5)


def test_brightness_and_contrast():
    x = np.random.default_rng(0).uniform(0, 255, (3, 5, 6, 400)).astype(np.float32)
    moved = applied("brightness", x, 0.1) - x
    assert_allclose(np.abs(moved), 25.5, atol=1e-3)
    assert 0.4 < (moved[0, 0, 0] > 0).mean() < 0.6
    mean = x.mean(axis=(0, 1, 2))
    changed = applied("contrast", x, 0.3)
    factor = (changed - mean).std(axis=(0, 1, 2)) / x.std(axis=(0, 1, 2))
    assert_allclose(changed.mean(axis=(0, 1, 2)), mean, rtol=1e-4)
    assert_allclose(np.sort(factor)[[0, -1]], [0.7, 1.3], atol=1e-3)
    assert_allclose(changed, mean + factor * (x - mean), atol=1e-2)


def test_each_image_gets_each_degradation_with_the_same_probability():
    x = np.full((1, 4, 4, 2000), 100, np.float32)
    degrader = Degrader({"faint": 0.5}, chance=0.2)
    degrader.degrade(x, np.random.default_rng(0), 0, 2000)
    factor = x[0, 0, 0] / 100
    assert (factor < 1).mean() == pytest.approx(0.2, abs=0.03)
    assert factor.min() == pytest.approx(0.5, abs=0.02)


def test_dark_ink_on_light_paper_and_other_scales_are_degraded_alike(digits):
    light, dark = digits.copy(), (255 - digits) * 0.01 - 0.5
    Degrader(EVERYTHING, 0.5).degrade(light, np.random.default_rng(1), 0, 32)
    levels = {"background": 255, "gain": 0.01, "offset": -0.5}
    Degrader(EVERYTHING, 0.5, **levels).degrade(dark, np.random.default_rng(1), 0, 32)
    assert_allclose((255 - light) * 0.01 - 0.5, dark, atol=1e-4)
    assert 0 <= light.min() <= light.max() <= 255


def test_the_parts_of_a_batch_are_degraded_as_the_whole():
    images = draw(75, seed=5)[0]
    distorter = Distorter(28, 28, shift=1, degrader=Degrader(EVERYTHING, 0.6))
    whole, parts = np.empty((2, 28, 28, 75), np.float32)
    distorter.distort(images, whole, key=(1, 2))
    for first, last in ((0, 20), (20, 50), (50, 75)):
        distorter.distort(images[first:last], parts[..., first:last], key=(1, 2), start=first)
    assert_array_equal(parts, whole)
    colour = np.empty((3, 28, 28, 75), np.float32)
    distorter.distort(np.repeat(images[:, None], 3, axis=1), colour, key=(1, 2))
    for channel in colour:
        assert_array_equal(channel, whole)


def test_an_image_is_blurred_alone_as_among_others(digits):
    amounts = np.linspace(0.1, 5, 32, dtype=np.float32)
    blur, nothing = DEGRADATIONS["blur"].apply, np.empty((0, 32), np.float32)
    whole = blur(digits, amounts, nothing)
    for i in (0, 9, 20):
        alone = blur(digits[..., [i]], amounts[[i]], nothing[:, :1])
        assert_array_equal(alone[..., 0], whole[..., i])


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_amounts_out_of_range(name):
    with pytest.raises(ConfigError, match=rf"^augment\.{name}: must be from 0 to "):
        Degrader({name: DEGRADATIONS[name].limit + 1}, chance=0.5)

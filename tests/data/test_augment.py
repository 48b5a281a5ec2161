"""Distortions against scipy's resampling and filters, and against what they must leave alone."""

from __future__ import annotations

from itertools import pairwise
from math import inf, nan, pi, sqrt

import numpy as np
import pytest
from scipy import ndimage

from lenet.data.augmentation import (
    BLOCK,
    INK,
    MAX_STRETCH,
    PIXEL,
    Distorter,
    Resampler,
    affine_coefficients,
    elastic_basis,
)
from lenet.errors import ConfigError

MILD = {"rotation": 12, "scale": 0.12, "shear": 0.15, "shift": 2, "elastic_alpha": 12}
WITH_STRETCHING = pytest.mark.parametrize(
    "ranges", [MILD, MILD | {"stretch": 0.5}, MILD | {"flip": 0.5, "crop": 0.3}]
)


def noise_images(n, height=28, width=28, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width), dtype=np.uint8)


def boxed_images(n, seed=0, height=28, width=28):
    """Noise in a box of random size and place, at least 3×3, on a background of 0."""
    rng, images = np.random.default_rng(seed), noise_images(n, height, width, seed)
    for image in images:
        for axis, size in enumerate(image.shape):
            first, last = np.sort(rng.choice(size - 2, 2))
            outside = np.r_[0:first, last + 3 : size]
            image[(slice(None),) * axis + (outside,)] = 0
    return images


def distorted(distorter, images, **where):
    n, height, width = images.shape
    out = np.full((height, width, n), np.nan, dtype=np.float32)
    distorter.distort(images, out, **where)
    return out


def read_at(images, coordinates, background=0):
    """Ours, at (2, H, W, n) coordinates in pixels."""
    n, height, width = images.shape
    out = np.empty((height, width, n), dtype=np.float32)
    units = (coordinates + 1) * PIXEL + 0.5
    units = units.reshape(2, -1, n).astype(np.float32)
    Resampler(n, height, width, background, gain=1, offset=0)(images, units, out)
    return out


def scipy_read_at(images, coordinates, background=0):
    """Theirs; the margin lets the border blend into the background, as ours does."""
    return np.stack(
        [
            ndimage.map_coordinates(
                np.pad(image.astype(float), 1, constant_values=background),
                coordinates[..., i] + 1,
                order=1,
                mode="constant",
                cval=background,
            )
            for i, image in enumerate(images)
        ],
        axis=-1,
    )


def affine_places(size, **numbers):
    order = ("angle", "taller", "wider", "shear", "down", "right")
    column = np.array([[numbers.get(name, 0.0)] for name in order])
    a = affine_coefficients(column)[..., 0]
    centre = (size - 1) / 2
    row, col = np.indices((size, size)) - centre
    return np.stack([b[0] + b[1] * row + b[2] * col + centre for b in a])[..., None]


# Reading between pixels


@pytest.mark.parametrize("background", [0, 255, 37])
def test_reading_equals_scipy_map_coordinates(background):
    images = noise_images(5, 17, 23)
    rng = np.random.default_rng(1)
    places = np.indices((17, 23))[..., None] + rng.normal(0, 6, (2, 17, 23, 5))
    rounded = np.round(places * 256) / 256
    exact = scipy_read_at(images, rounded, background)
    assert np.abs(read_at(images, rounded, background) - exact).max() < 1e-4
    # Rounding moves a place by at most 1/512 pixel each way: less than a grey level of 255.
    near = scipy_read_at(images, places, background)
    assert np.abs(read_at(images, places, background) - near).max() < 1


def test_far_outside_is_background():
    images = noise_images(3)
    places = np.full((2, 28, 28, 3), 1e6)
    places[:, ::2] = -1e6
    assert (read_at(images, places, background=9) == 9).all()


def test_a_place_at_the_far_corner_sees_no_neighbouring_image():
    images = np.full((3, 6, 6), 255, dtype=np.uint8)
    places = np.broadcast_to(np.array([6.0, 6.0]).reshape(2, 1, 1, 1), (2, 6, 6, 3))
    assert (read_at(images, places, background=4) == 4).all()


# Affine maps


@pytest.mark.parametrize("size", [27, 28])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_equal_rot90(size, quarters):
    images = noise_images(1, size, size)
    turned = read_at(images, affine_places(size, angle=quarters * pi / 2))
    np.testing.assert_array_equal(turned[..., 0], np.rot90(images[0], quarters))


@pytest.mark.parametrize(("down", "right"), [(3, 0), (0, -2), (-4, 5)])
def test_whole_pixel_shift_moves_and_fills(down, right):
    images = noise_images(1)
    wide = np.pad(images[0], 8, constant_values=7)
    expected = np.roll(wide, (down, right), (0, 1))[8:-8, 8:-8]
    shifted = read_at(images, affine_places(28, down=down, right=right), background=7)
    np.testing.assert_array_equal(shifted[..., 0], expected)


def test_distorter_draws_the_documented_affine_maps():
    n, size = 40, 28
    images = noise_images(n, size, size)
    ranges = np.array([np.radians(30), 0.2, 0.2, 0.3, 3, 3])[:, None]
    streams = [np.random.SeedSequence((5, 8), spawn_key=(block,)) for block in (0, 1)]
    numbers = np.hstack(
        [np.random.default_rng(s).uniform(-1, 1, (6, BLOCK)) * ranges for s in streams]
    )
    centre = (size - 1) / 2
    places = np.empty((2, size, size, n))
    for i in range(n):
        angle, taller, wider, shear, down, right = numbers[:, i]
        scaled = np.diag([1 + taller, 1 + wider])
        sheared = np.array([[1, 0], [-shear, 1]])  # up (negative rows) goes to the right
        rotated = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        back = np.linalg.inv(rotated @ sheared @ scaled)
        target = np.indices((size, size)).reshape(2, -1) - centre
        source = back @ target + centre - np.array([[down], [right]])
        places[..., i] = source.reshape(2, size, size)
    expected = scipy_read_at(images, places)
    ours = distorted(
        Distorter(size, size, rotation=30, scale=0.2, shear=0.3, shift=3), images, key=(5, 8)
    )
    assert np.abs(ours - expected).max() < 1.1


def test_ink_is_kept_by_rotation_and_grows_with_scale():
    row, col = np.indices((28, 28)) - 13.5
    blob = 255 * np.exp(-(row**2 / 18 + col**2 / 8))
    images = np.repeat(np.round(blob).astype(np.uint8)[None], 64, axis=0)
    turned = distorted(Distorter(28, 28, rotation=45, shear=0.3, shift=2), images, key=(1,))
    np.testing.assert_allclose(turned.sum((0, 1)), images[0].sum(), rtol=0.01)
    scaled = distorted(Distorter(28, 28, scale=0.2), images, key=(1,)).sum((0, 1)) / images[0].sum()
    assert 0.64 < scaled.min() < 0.85
    assert 1.15 < scaled.max() < 1.45


# Elastic fields


def fields_per_number(height, width, sigma):
    """Return the matrix (H·W, K) that turns K normal numbers into a field."""
    rows, columns, (i, j) = elastic_basis(height, width, sigma)
    return (rows[:, None, i] * columns[None, :, j]).reshape(height * width, -1).astype(float)


@pytest.mark.parametrize(("height", "width", "sigma"), [(28, 28, 4.0), (20, 26, 2.5)])
def test_elastic_covariance_is_that_of_scipys_filter(height, width, sigma):
    def filter_matrix(size):
        margin = 40
        unit = np.eye(size + 2 * margin)
        return ndimage.gaussian_filter1d(unit, sigma, axis=0, mode="constant")[margin:-margin]

    S_h, S_w = filter_matrix(height), filter_matrix(width)
    expected = np.kron(S_h @ S_h.T, S_w @ S_w.T) / 3
    A = fields_per_number(height, width, sigma)
    assert np.trace(A @ A.T) == pytest.approx(np.trace(expected), rel=0.005)
    assert np.abs(A @ A.T - expected).max() < 0.05 * expected.max()
    assert np.linalg.norm(A @ A.T - expected) < 0.005 * np.linalg.norm(expected)


def test_elastic_displacements_vary_as_scipys_smoothed_noise():
    alpha, sigma, n = 12, 4, 320
    # Ramps tell where each pixel was read: 8 grey levels a pixel, well inside the image.
    row, col = np.indices((28, 28))
    distorter = Distorter(28, 28, elastic_alpha=alpha, elastic_sigma=sigma)
    fields = np.concatenate(
        [
            distorted(distorter, np.repeat((8 * ramp).astype(np.uint8)[None], n, axis=0), key=(2,))
            / 8
            - ramp[..., None]
            for ramp in (row, col)
        ],
        axis=-1,
    )[6:22, 6:22].transpose(2, 0, 1)
    noise = np.random.default_rng(3).uniform(-1, 1, (2 * n, 56, 56))
    theirs = alpha * ndimage.gaussian_filter(noise, sigma, axes=(1, 2))[:, 20:36, 20:36]

    assert fields.std() == pytest.approx(theirs.std(), rel=0.08)
    assert fields.std() == pytest.approx(alpha / (2 * sqrt(3 * pi) * sigma), rel=0.05)
    for lag in (2, 4, 8):
        for axis in (1, 2):
            ours_lag, theirs_lag = (
                (np.delete(f, np.s_[:lag], axis) * np.delete(f, np.s_[-lag:], axis)).mean()
                / f.var()
                for f in (fields, theirs)
            )
            assert ours_lag == pytest.approx(theirs_lag, abs=0.06)
    rows, columns = fields[:n].ravel(), fields[n:].ravel()
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.06


def test_the_strongest_accepted_field_hardly_ever_folds():
    sigma, n = 4.0, 400
    limit = 0.25 * 2 * sqrt(6 * pi) * sigma**2
    Distorter(28, 28, elastic_alpha=limit * 0.9999, elastic_sigma=sigma)
    with pytest.raises(ConfigError, match=r"folds the image; lower elastic_alpha"):
        Distorter(28, 28, elastic_alpha=limit * 1.0001, elastic_sigma=sigma)
    A = limit * fields_per_number(28, 28, sigma)
    u, v = (A @ np.random.default_rng(4).standard_normal((2, A.shape[1], n))).reshape(2, 28, 28, n)
    u_row, u_col = np.gradient(u, axis=(0, 1))
    v_row, v_col = np.gradient(v, axis=(0, 1))
    assert ((1 + u_row) * (1 + v_col) - u_col * v_row <= 0).mean() < 1e-3


# Stretching


def test_a_stretched_box_becomes_a_square_in_the_centre():
    images = boxed_images(20)
    images[images < INK] = 0
    ours = distorted(Distorter(28, 28, stretch=1), images, key=(1,))
    rows, columns = np.indices((28, 28)) - 13.5
    for i, image in enumerate(images):
        (box,) = ndimage.find_objects((image > 0).astype(int))
        sides = [part.stop - part.start for part in box]
        centres = [(part.start + part.stop - 1) / 2 for part in box]
        factors = [max(side / max(sides), 1 / MAX_STRETCH) for side in sides]
        places = [
            centre + factor * offset
            for centre, factor, offset in zip(centres, factors, (rows, columns), strict=True)
        ]
        theirs = scipy_read_at(image[None], np.array(places)[..., None])
        np.testing.assert_allclose(ours[..., i], theirs[..., 0], atol=2)


def test_a_blank_image_is_not_stretched():
    blank = np.full((2, 28, 28), 9, np.uint8)
    np.testing.assert_array_equal(
        distorted(Distorter(28, 28, stretch=1, background=9), blank, key=(1,)), 9
    )


def test_the_chance_of_stretching_is_the_one_that_was_asked_for():
    images = np.zeros((4000, 12, 12), np.uint8)
    images[:, 2:10, 4:8] = 200
    ours = distorted(Distorter(12, 12, stretch=0.3), images, key=(3,))
    share = (ours != images.transpose(1, 2, 0)).any(axis=(0, 1)).mean()
    assert abs(share - 0.3) < 4 * sqrt(0.3 * 0.7 / 4000)


def test_a_flip_mirrors_left_to_right_with_its_probability():
    images = noise_images(1000, 10, 11)
    ours = distorted(Distorter(10, 11, flip=0.25), images, key=(3,))
    expected = images.transpose(1, 2, 0)
    plain = (ours == expected).all(axis=(0, 1))
    np.testing.assert_array_equal(ours[..., ~plain], expected[:, ::-1][..., ~plain])
    assert abs((~plain).mean() - 0.25) < 4 * sqrt(0.25 * 0.75 / 1000)


def test_a_crop_is_a_window_of_the_image_enlarged_to_all_of_it():
    # Of a ramp, the window is a ramp too: its slope is the side of the window, 1 - crop at least.
    row, column = np.mgrid[0:32, 0:32]
    for ramp, axis in ((row * 6 + 20, 0), (column * 6 + 20, 1)):
        images = np.repeat(ramp[None].astype(np.uint8), 500, axis=0)
        ours = distorted(Distorter(32, 32, crop=0.4), images, key=(5,)).mean(axis=1 - axis)
        slope = (ours[-3] - ours[2]) / (27 * 6)
        assert 0.59 < slope.min() < 0.62
        assert 0.98 < slope.max() < 1.01
        centre = (ours[15] + ours[16]) / 2
        aside = (centre - centre.mean()) / 6 / 32
        assert (np.abs(aside) <= (1 - slope) / 2 + 0.01).all()
        assert aside.min() < -0.1
        assert aside.max() > 0.1


# Batches, slices, random numbers


def test_no_range_is_an_exact_copy():
    images = noise_images(40, 28, 20)
    copy = distorted(Distorter(28, 20), images, key=(1, 2))
    np.testing.assert_array_equal(copy, images.transpose(1, 2, 0))


@WITH_STRETCHING
@pytest.mark.parametrize("cuts", [(32,), (33,), (31,), (16, 32, 48), (1, 40, 63)])
def test_slices_of_a_batch_give_the_bits_of_the_whole(cuts, ranges):
    images = boxed_images(64)
    whole = distorted(Distorter(28, 28, **ranges), images, key=(1, 7))
    edges = [0, *cuts, 64]
    for start, stop in pairwise(edges):
        worker = Distorter(28, 28, **ranges)
        part = distorted(worker, images[start:stop], key=(1, 7), start=start)
        np.testing.assert_array_equal(part, whole[..., start:stop])


def test_a_batch_has_no_memory_of_the_batches_before():
    distorter, images = Distorter(28, 28, **MILD), noise_images(50)
    first = distorted(distorter, images, key=(1, 0))
    distorted(distorter, noise_images(37, seed=9), key=(1, 1), start=5)
    np.testing.assert_array_equal(distorted(distorter, images, key=(1, 0)), first)


def test_seeds_steps_blocks_and_images_differ():
    images = np.repeat(noise_images(1), 2 * BLOCK, axis=0)
    distorter = Distorter(28, 28, **MILD)
    batches = [distorted(distorter, images, key=key) for key in ((1, 0), (1, 1), (2, 0))]
    every = np.concatenate(batches, axis=-1).reshape(28 * 28, -1)
    assert len(np.unique(every, axis=1).T) == 3 * 2 * BLOCK


@WITH_STRETCHING
def test_a_smaller_image_stands_on_background_at_its_corner(ranges):
    images = np.maximum(boxed_images(BLOCK + 9, height=20, width=23), 37)
    distorter = Distorter(28, 32, **ranges, background=37)
    for small in (images, np.stack([images, np.maximum(37, images - 9)], axis=1)):
        padded = np.full((*small.shape[:-2], 28, 32), 37, np.uint8)
        padded[..., 3:23, 5:28] = small
        out = np.empty((2, *padded.shape[1:], len(images)), np.float32)
        distorter.distort(padded, out[0], key=(1, 2), start=4)
        distorter.distort(small, out[1], key=(1, 2), start=4, corner=(3, 5))
        np.testing.assert_array_equal(*out)


def test_gain_offset_and_strided_output():
    images = noise_images(9)
    plain = distorted(Distorter(28, 28, **MILD), images, key=(3,))
    padded = np.full((1, 32, 32, 9), -5, dtype=np.float32)
    scaled = Distorter(28, 28, **MILD, gain=1 / 80, offset=-0.4)
    scaled.distort(images, padded[0, 2:30, 2:30], key=(3,))
    np.testing.assert_allclose(padded[0, 2:30, 2:30], plain / 80 - 0.4, atol=1e-6)
    padded[0, 2:30, 2:30] = -5
    assert (padded == -5).all()


# What bad input gets


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rotation", -1),
        ("rotation", 181),
        ("scale", 0.6),
        ("shear", nan),
        ("shift", 14.5),
        ("elastic_sigma", inf),
        ("elastic_sigma", 15),
        ("elastic_alpha", -1),
        ("elastic_alpha", nan),
        ("flip", 1.1),
        ("crop", 0.95),
    ],
)
def test_senseless_ranges_are_refused_by_name(key, value):
    with pytest.raises(
        ConfigError, match=rf"^augment.{key}: must be from 0 to .*, is {value}"
    ) as caught:
        Distorter(28, 28, **{key: value})
    assert caught.value.exit_code == 2


def test_a_field_with_no_smoothing_folds():
    with pytest.raises(ConfigError, match=r"^augment.elastic_alpha: "):
        Distorter(28, 28, elastic_alpha=1, elastic_sigma=0)


# Channels and rectangles


def test_all_channels_of_an_image_are_distorted_alike():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BLOCK + 3, 3, 20, 31), dtype=np.uint8)
    distorter = Distorter(20, 31, **MILD | {"elastic_alpha": 10})
    together = np.empty((3, 20, 31, len(images)), np.float32)
    distorter.distort(images, together, key=(1, 2), start=5)
    for c in range(3):
        one = np.ascontiguousarray(images[:, c])
        np.testing.assert_array_equal(distorted(distorter, one, key=(1, 2), start=5), together[c])


def test_a_rectangle_is_turned_about_its_centre():
    image = noise_images(1, 9, 15)
    turned = read_at(image, half_turn((9, 15)))
    np.testing.assert_array_equal(turned[..., 0], image[0, ::-1, ::-1])


def half_turn(shape):
    a = affine_coefficients(np.array([[pi, 0, 0, 0, 0, 0]]).T)[..., 0]
    down, right = (np.array(shape) - 1) / 2
    row, column = np.indices(shape) - np.array([down, right])[:, None, None]
    rows, columns = (b[0] + b[1] * row + b[2] * column for b in a)
    return np.stack([rows + down, columns + right])[..., None]

"""Which images are held out, and which are in the batches that remain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lenet.data.augmentation import Distorter
from lenet.data.loader import SHUFFLE_BLOCK, Loader
from lenet.data.preprocessing import Preprocessing
from lenet.data.splits import held_out, others
from lenet.errors import ConfigError, DataError


def numbered_batches(total, epoch: int = 0, batch_size: int = 64, **options):
    """Load images with their numbers in two pixels, labels too; return numbers and batches."""
    images = np.zeros((total, 28, 28), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.divmod(np.arange(total), 256)
    loader = Loader(
        images,
        np.arange(total).astype(np.uint8),
        batch_size=batch_size,
        preprocessing=Preprocessing((1, 28, 28), 1.0, 0.0),
        **options,
    )
    batches = [replace(b, x=b.x.copy(), labels=b.labels.copy()) for b in loader.epoch(epoch)]
    assert [b.size for b in batches[:-1]] == [batch_size] * (loader.steps_per_epoch - 1)
    return [((256 * b.x[0, 0, 0] + b.x[0, 0, 1]).astype(int), b) for b in batches]


def numbered(total, epoch: int = 0, **options):
    """Return the numbers of the images of an epoch, in order."""
    return np.concatenate([numbers for numbers, _ in numbered_batches(total, epoch, **options)])


def test_held_out_and_the_rest_are_a_partition_fixed_by_its_seed():
    held = held_out(1000, 100, seed=3)
    assert (np.diff(held) > 0).all()
    assert abs(held.mean() - 500) < 100  # taken from all over
    np.testing.assert_array_equal(numbered(1000, rows=held), held)
    rest = numbered(1000, rows=others(1000, held))
    assert (np.diff(rest) > 0).all()
    np.testing.assert_array_equal(np.sort(np.concatenate([rest, held])), np.arange(1000))
    np.testing.assert_array_equal(held_out(1000, 100, seed=3), held)
    assert not np.array_equal(held_out(1000, 100, seed=4), held)
    assert len(held_out(7, 0, seed=0)) == 0


def test_shuffled_every_epoch_has_every_image_once():
    held = held_out(900, 50, seed=0)
    order = numbered(1000, rows=others(900, held), seed=1)
    assert (np.diff(order) < 0).any()
    np.testing.assert_array_equal(np.sort(order), np.setdiff1d(np.arange(900), held))


def test_the_order_is_that_of_seed_and_epoch():
    orders = [numbered(1000, seed=seed, epoch=epoch) for seed in (1, 2) for epoch in (0, 1)]
    assert len({order.tobytes() for order in orders}) == 4
    np.testing.assert_array_equal(numbered(1000, seed=2, epoch=1), orders[-1])


@pytest.mark.parametrize("validation", [-1, 10, 11])
def test_something_is_left_to_train_on(validation):
    with pytest.raises(ConfigError, match=r"^data.validation: .* choose 0 to 9"):
        held_out(10, validation, seed=0)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_parts_of_the_workers_are_every_batch_once(workers):
    """Concatenated in the order of the ranks, they are the batch of a single process."""
    held = held_out(203, 9, seed=0)  # 194 images: the last batch of 64 has 2
    options = {"batch_size": 64, "rows": others(203, held), "seed": 1}
    whole = [(numbers, b.labels) for numbers, b in numbered_batches(203, **options)]
    shards = [numbered_batches(203, rank=rank, size=workers, **options) for rank in range(workers)]
    assert len(whole) == 4
    for (numbers, labels), *parts in zip(whole, *shards, strict=True):
        assert {b.size for _, b in parts} == {numbers.size}
        assert max(n.size for n, _ in parts) - min(n.size for n, _ in parts) <= 1
        np.testing.assert_array_equal(np.concatenate([n for n, _ in parts]), numbers)
        np.testing.assert_array_equal(np.concatenate([b.labels for _, b in parts]), labels)
        np.testing.assert_array_equal(labels, numbers % 256)


@pytest.mark.parametrize("workers", [2, 3])
def test_the_parts_of_the_workers_are_distorted_as_the_whole(workers):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (75, 12, 12), np.uint8)

    def load(rank: int, size: int) -> list[np.ndarray]:
        loader = Loader(
            images,
            np.zeros(75, np.uint8),
            batch_size=75,
            preprocessing=Preprocessing((1, 16, 16)),
            seed=3,
            distorter=Distorter(16, 16, rotation=20, shift=1, elastic_alpha=4),
            rank=rank,
            size=size,
        )
        return [batch.x.copy() for batch in loader.epoch(2)]

    (whole,) = load(0, 1)
    parts = [load(rank, workers)[0] for rank in range(workers)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=3), whole)


@pytest.fixture(scope="module")
def many_orders():
    """The orders of 150,001 images, three blocks of shuffling, by seed and epoch."""
    images = np.arange(150_001, dtype="<u4").view(np.uint8).reshape(-1, 2, 2)

    def order(seed: int | None, epoch: int) -> np.ndarray:
        loader = Loader(
            images,
            np.zeros(len(images), np.uint8),
            batch_size=1000,
            preprocessing=Preprocessing((1, 2, 2), 1.0, 0.0),
            seed=seed,
        )
        bytes_ = [batch.x.reshape(4, -1).astype(np.uint8).T.copy() for batch in loader.epoch(epoch)]
        assert [len(b) for b in bytes_] == [1000] * 150 + [1]
        return np.concatenate([b.view("<u4")[:, 0] for b in bytes_]).astype(int)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lenet.data.loader.SHUFFLE_BYTES", 0)  # as if the images were large
        return {(s, e): order(s, e) for s, e in ((None, 0), (1, 0), (1, 1), (2, 0))} | {
            "again": order(1, 0)
        }


def test_a_shuffle_of_several_blocks_has_every_image_once(many_orders):
    np.testing.assert_array_equal(many_orders[None, 0], np.arange(150_001))
    for key in ((1, 0), (1, 1), (2, 0)):
        np.testing.assert_array_equal(np.sort(many_orders[key]), np.arange(150_001))


def test_a_shuffle_of_several_blocks_is_a_function_of_seed_and_epoch(many_orders):
    np.testing.assert_array_equal(many_orders["again"], many_orders[1, 0])
    orders = [many_orders[key] for key in ((None, 0), (1, 0), (1, 1), (2, 0))]
    assert len({order.tobytes() for order in orders}) == 4


def test_blocks_are_shuffled_and_each_block_within(many_orders):
    """Read one after another, so that mapped images are read from the disk a block at a time."""
    seen = []
    for key in ((1, 0), (1, 1), (2, 0)):
        blocks = many_orders[key] // SHUFFLE_BLOCK
        starts = np.flatnonzero(np.diff(blocks, prepend=-1))
        assert sorted(blocks[starts]) == [0, 1, 2]  # each is one run
        seen.append(tuple(blocks[starts]))
        for part in np.split(many_orders[key], starts[1:]):
            moved = np.abs(part - np.sort(part))
            assert moved.mean() > part.size / 4  # a third, on average
    assert len(set(seen)) > 1


def test_the_digits_that_are_added_to_mnist_are_shuffled_among_its_images():
    labels = np.repeat([0, 1], [60_000, 20_000]).astype(np.uint8)
    images = np.zeros((80_000, 28, 28), np.uint8)
    batches = Loader(images, labels, batch_size=8000, preprocessing=Preprocessing(), seed=0).epoch()
    shares = [batch.labels.mean() for batch in batches]
    assert np.ptp(shares) < 0.05


# --- Colour, rectangles, other scales ------------------------------------------------------------


def colours(count: int, C: int = 3, H: int = 9, W: int = 14) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, C, H, W), np.uint8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_colour_images_of_any_shape_are_centred_and_scaled(dtype):
    images = colours(7)
    preprocessing = Preprocessing((3, 12, 15), scale=1 / 256, shift=-0.5, background=64)
    x = preprocessing.prepare(images, dtype)
    assert (x.shape, x.dtype) == ((3, 12, 15, 7), dtype)
    expected = np.pad(images, ((0, 0), (0, 0), (1, 2), (0, 1)), constant_values=64) / 256 - 0.5
    np.testing.assert_array_equal(x, expected.transpose(1, 2, 3, 0))


def test_lenet5_takes_28_by_28_centred_in_32_by_32():
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8)
    x = Preprocessing().prepare(images)
    inside = images.astype(np.float32) * np.float32(1.275 / 255) + np.float32(-0.1)
    np.testing.assert_array_equal(x[0, 2:30, 2:30], inside.transpose(1, 2, 0))
    assert set(np.delete(x, np.s_[2:30], axis=1).ravel()) == {np.float32(-0.1)}
    np.testing.assert_array_equal(Preprocessing().prepare(images[:, None]), x)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 3, 8, 8), r"images with 3 channels do not fit .* of 1 channel; give the network an "),
        ((2, 9, 8), r"images of 9×8 do not fit a network with an input of 8×8"),
        ((2, 1, 8, 9), r"images of 8×9 do not fit a network with an input of 8×8"),
    ],
)
def test_images_that_do_not_fit_the_network(shape, words):
    with pytest.raises(DataError, match=words):
        Preprocessing((1, 8, 8)).prepare(np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=words):
        Loader(
            np.zeros(shape, np.uint8),
            np.zeros(2, np.uint8),
            batch_size=1,
            preprocessing=Preprocessing((1, 8, 8)),
        )


@pytest.mark.parametrize("distort", [False, True])
def test_batches_of_colour_images(distort):
    """A distorter whose ranges are all zero gives the images as they are."""
    images, labels = colours(20), np.arange(300, 320, dtype=np.uint16)
    preprocessing = Preprocessing((3, 12, 14), scale=0.5, shift=1, background=9)
    loader = Loader(
        images,
        labels,
        batch_size=8,
        preprocessing=preprocessing,
        distorter=Distorter(12, 14, background=9, gain=0.5, offset=1) if distort else None,
    )
    batches = [replace(b, x=b.x.copy(), labels=b.labels.copy()) for b in loader.epoch()]
    assert [b.x.shape for b in batches] == [(3, 12, 14, n) for n in (8, 8, 4)]
    np.testing.assert_array_equal(
        np.concatenate([b.x for b in batches], axis=3), preprocessing.prepare(images)
    )
    np.testing.assert_array_equal(np.concatenate([b.labels for b in batches]), labels)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_batch_has_the_numbers_of_its_images_and_step(workers):
    for rank in range(workers):
        for epoch in (0, 3):
            batches = numbered_batches(130, epoch, rank=rank, size=workers)
            assert [b.step for _, b in batches] == [3 * epoch, 3 * epoch + 1, 3 * epoch + 2]
            for numbers, batch in batches:
                assert batch.first == rank * batch.size // workers
                if numbers.size:
                    assert numbers[0] == 64 * (batch.step - 3 * epoch) + batch.first


@pytest.mark.parametrize("total", [1, 64, 65, 100, 130, 1000])
@pytest.mark.parametrize("workers", [1, 3])
def test_slices_are_a_part_of_a_batch_in_its_order(total, workers):
    for rank in range(workers):
        ((_, whole),) = numbered_batches(total, batch_size=1000, rank=rank, size=workers)
        images = np.zeros((total, 28, 28), np.uint8)
        images[:, 0, 0], images[:, 0, 1] = np.divmod(np.arange(total), 256)
        loader = Loader(
            images,
            np.arange(total).astype(np.uint8),
            batch_size=1000,
            preprocessing=Preprocessing((1, 28, 28), 1.0, 0.0),
            rank=rank,
            size=workers,
            sliced=True,
        )
        slices = [replace(b, x=b.x.copy(), labels=b.labels.copy()) for b in loader.epoch()]
        assert [b.last for b in slices] == [False] * (len(slices) - 1) + [True]
        assert {(b.size, b.step) for b in slices} == {(total, 0)}
        before = np.cumsum([0, *(b.labels.size for b in slices)])[:-1]
        assert [b.first for b in slices] == (whole.first + before).tolist()
        assert max(b.labels.size for b in slices) <= 64
        np.testing.assert_array_equal(np.concatenate([b.x for b in slices], axis=3), whole.x)
        np.testing.assert_array_equal(np.concatenate([b.labels for b in slices]), whole.labels)

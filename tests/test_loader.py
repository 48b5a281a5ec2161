"""Which images are held out, and which are in the batches that remain."""

from __future__ import annotations

import numpy as np
import pytest

from lenet.data.loader import Loader, held_out
from lenet.data.preprocessing import Preprocessing
from lenet.system.errors import ConfigError


def numbered(total, epoch: int = 0, **options):
    """Load images that are told apart by their first two grey levels; return their numbers."""
    images = np.zeros((total, 28, 28), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.divmod(np.arange(total), 256)
    plain = Preprocessing(28, 1.0, 0.0)
    loader = Loader(
        images, np.zeros(total, np.uint8), batch_size=64, preprocessing=plain, **options
    )
    batches = [256 * b.x[0, 0, 0] + b.x[0, 0, 1] for b in loader.epoch(epoch)]
    assert [b.size for b in batches[:-1]] == [64] * (loader.steps_per_epoch - 1)
    return np.concatenate(batches).astype(int)


def test_held_out_and_the_rest_are_a_partition_fixed_by_its_seed():
    held = held_out(1000, 100, seed=3)
    assert (np.diff(held) > 0).all()
    assert abs(held.mean() - 500) < 100  # taken from all over
    np.testing.assert_array_equal(numbered(1000, only=held), held)
    rest = numbered(1000, without=held)
    assert (np.diff(rest) > 0).all()
    np.testing.assert_array_equal(np.sort(np.concatenate([rest, held])), np.arange(1000))
    np.testing.assert_array_equal(held_out(1000, 100, seed=3), held)
    assert not np.array_equal(held_out(1000, 100, seed=4), held)
    assert len(held_out(7, 0, seed=0)) == 0


def test_shuffled_every_epoch_has_every_image_once():
    held = held_out(900, 50, seed=0)
    order = numbered(1000, without=held, count=900, seed=1)
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

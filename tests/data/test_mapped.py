"""Mapped arrays: what is read does not stay in memory."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from lenet.data import mapped
from lenet.data.dataset import Split, fingerprint
from lenet.data.measure import image_facts

SMAPS = Path("/proc/self/smaps")
MIB = 1 << 20


@pytest.fixture
def images(tmp_path):
    """16 MiB of images in a file, of which nothing is in this process's memory."""
    path = tmp_path / "images"
    path.write_bytes(np.random.default_rng(0).bytes(16 * MIB))
    return np.memmap(path, np.uint8, "r", shape=(16 * 1024, 32, 32))


def resident(array):
    """Return the bytes of a mapped file that are in this process's memory."""
    found = re.search(
        rf"{re.escape(str(array.filename))}\n(?:.*\n)*?Rss: *(\d+) kB", SMAPS.read_text()
    )
    return 1024 * int(found[1])


needs_smaps = pytest.mark.skipif(not SMAPS.exists(), reason="needs /proc/self/smaps of Linux")


@needs_smaps
def test_reading_everything_leaves_nothing_in_memory(images, monkeypatch):
    monkeypatch.setattr(mapped, "BLOCK_BYTES", MIB)
    largest = 0
    for block in mapped.blocks(images):
        block.sum()
        largest = max(largest, resident(images))
    assert MIB <= largest < 4 * MIB
    assert resident(images) == 0


@needs_smaps
def test_loading_a_data_set_leaves_nothing_in_memory(images):
    images.sum()
    assert resident(images) == 16 * MIB
    image_facts(images)
    assert resident(images) == 0
    fingerprint(Split(images, np.zeros(len(images), np.uint8), ("a",)))
    assert resident(images) == 0


def test_rows_are_taken_in_order(images):
    rows = np.arange(0, 16 * 1024, 5)
    assert_array_equal(mapped.take(images, rows), np.asarray(images)[rows])


def test_the_blocks_are_the_array(images, monkeypatch):
    monkeypatch.setattr(mapped, "BLOCK_BYTES", 5 * MIB)
    for array in (images, np.asarray(images)[:3]):
        assert_array_equal(np.concatenate(list(mapped.blocks(array))), array)

"""IDX files: every type there and back, and every fault of faults.md 16-20, 24, 42 on real files.

The files are built here from struct and gzip; the reader's own header function is no oracle.
"""

from __future__ import annotations

import errno
import gzip
import os
import struct
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lenet.data.formats.idx import read_idx, write_idx
from lenet.errors import DataError, SystemFailure

BYTES = bytes(range(24))
IMAGES = struct.pack(">2xBB3I", 0x08, 3, 2, 3, 4) + BYTES
TYPES = {0x08: "B", 0x09: "b", 0x0B: "h", 0x0C: "i", 0x0D: "f", 0x0E: "d"}


def gz(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def place(folder: Path, content: bytes, name: str = "images.gz") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def refuse(path: Path, *words: str, error: type[Exception] = DataError) -> None:
    """Reading ``path`` raises ``error``, names the file, says ``words``, leaves the folder."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(error) as caught:
        read_idx(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for word in words:
        assert word in message
    assert sorted(path.parent.iterdir()) == before


# --- what is right -------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gz], ids=["plain", "compressed"])
@pytest.mark.parametrize(("code", "letter"), TYPES.items())
def test_every_type_is_read_in_native_byte_order(tmp_path, code, letter, pack):
    values = [1, 2, 100, 3, 0, 7]
    content = struct.pack(">2xBB2I", code, 2, 2, 3) + struct.pack(f">6{letter}", *values)
    array = read_idx(place(tmp_path, pack(content)))
    assert array.dtype == np.dtype(letter)
    assert array.dtype.isnative
    assert not array.flags.writeable
    np.testing.assert_array_equal(array, np.reshape(values, (2, 3)))


@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_compression_is_recognised_by_content_not_by_name(tmp_path, name):
    for content in (IMAGES, gz(IMAGES)):
        array = read_idx(place(tmp_path, content, name))
        assert array.shape == (2, 3, 4)
        assert array.tobytes() == BYTES


def test_plain_bytes_are_mapped_not_read(tmp_path):
    path = tmp_path / "huge"
    with path.open("wb") as file:  # a sparse file: 4 GiB by its length, nothing on the disk
        file.write(struct.pack(">2xBB3I", 0x08, 3, 1 << 20, 64, 64))
        file.truncate(16 + (1 << 32))
    tracemalloc.start()
    try:
        array = read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert isinstance(array, np.memmap)
    assert array.shape == (1 << 20, 64, 64)
    assert array[-1, -1, -1] == 0


@given(
    array=hnp.arrays(
        st.sampled_from(["u1", "i1", "<i2", ">i2", "<i4", ">i4", "<f4", ">f4", "<f8", ">f8"]),
        hnp.array_shapes(max_dims=4, max_side=4),
    ),
    suffix=st.sampled_from(["", ".gz"]),
)
def test_what_is_written_is_read(tmp_path_factory, array, suffix):
    path = tmp_path_factory.mktemp("idx") / f"array{suffix}"
    write_idx(path, array)
    back = read_idx(path)
    assert back.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(back, array)
    assert path.read_bytes().startswith(b"\x1f\x8b") == bool(suffix)


def test_the_bytes_written_are_those_of_the_format(tmp_path):
    array = np.frombuffer(BYTES, np.uint8).reshape(2, 3, 4)
    write_idx(tmp_path / "a", array)
    assert (tmp_path / "a").read_bytes() == IMAGES
    write_idx(tmp_path / "a.gz", array)
    write_idx(tmp_path / "b.gz", array[:, ::-1][:, ::-1])
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == IMAGES
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_mnist_is_read(mnist_dir):
    labels = read_idx(mnist_dir / "mnist" / "t10k-labels-idx1-ubyte.gz")
    assert labels.shape == (10_000,)
    np.testing.assert_array_equal(labels[:10], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9])


# --- what is wrong with the file -----------------------------------------------------------------


@pytest.mark.parametrize("kept", [3, 10, 20, len(gz(IMAGES)) - 1])
def test_truncated_gzip(tmp_path, kept):
    refuse(
        place(tmp_path, gz(IMAGES)[:kept]),
        "gzip data is damaged",
        "download or copy the file again",
    )


def test_no_flipped_bit_of_the_compressed_data_changes_what_is_read(tmp_path):
    refused = 0
    for at in range(10, len(gz(IMAGES))):
        content = bytearray(gz(IMAGES))
        content[at] ^= 0x10
        try:  # a few bits of the deflate format mean nothing
            assert read_idx(place(tmp_path, bytes(content))).tobytes() == BYTES
        except DataError:
            refused += 1
    assert refused > 40


def test_bad_crc(tmp_path):
    content = bytearray(gz(IMAGES))
    content[-8] ^= 1
    refuse(place(tmp_path, bytes(content)), "gzip data is damaged", "CRC")


def test_rubbish_after_the_gzip_data(tmp_path):
    refuse(place(tmp_path, gz(IMAGES) + b"rubbish"), "gzip data is damaged")


def test_html_page_under_a_gz_name(tmp_path):
    refuse(place(tmp_path, b"<!DOCTYPE html><html>404</html>"), "is an HTML page")
    refuse(place(tmp_path, b"\n\n<html>"), "is an HTML page")


@pytest.mark.parametrize("content", [b"", gz(b"")])
def test_empty_file(tmp_path, content):
    refuse(place(tmp_path, content), "is empty")


@pytest.mark.parametrize(
    "magic", ["01000803", "00010803", "00000a03", "00000003", "00000800", "00000841", "89504e47"]
)
def test_wrong_magic(tmp_path, magic):
    content = bytes.fromhex(magic) + IMAGES[4:]
    refuse(place(tmp_path, content), f"is not an IDX file (0x{magic})")
    refuse(place(tmp_path, gz(content)), f"is not an IDX file (0x{magic})")


def test_header_cut_short(tmp_path):
    refuse(place(tmp_path, IMAGES[:3]), "too short")
    refuse(place(tmp_path, IMAGES[:11]), "ends within its header")
    refuse(place(tmp_path, gz(IMAGES[:11])), "ends within its header")


@pytest.mark.parametrize("pack", [bytes, gz], ids=["plain", "compressed"])
@pytest.mark.parametrize("axes", [1, 3, 64])
def test_absurd_header_is_refused_before_memory_is_taken(tmp_path, axes, pack):
    header = struct.pack(f">2xBB{axes}I", 0x0E, axes, *[0xFFFFFFFF] * axes)
    path = place(tmp_path, pack(header + BYTES))
    tracemalloc.start()
    try:
        refuse(path, "its header promises")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [(0,), (0, 28, 28), (0xFFFFFFFF, 0, 0xFFFFFFFF)])
def test_no_items(tmp_path, shape):
    content = struct.pack(f">2xBB{len(shape)}I", 0x08, len(shape), *shape)
    refuse(place(tmp_path, content), "contains no items")
    refuse(place(tmp_path, gz(content)), "contains no items")


def test_payload_shorter_or_longer_than_the_header(tmp_path):
    said = "its header promises 24 bytes (2×3×4), the file contains"
    refuse(place(tmp_path, IMAGES[:-1]), f"{said} 23 bytes")
    refuse(place(tmp_path, IMAGES + b"\0"), f"{said} 25 bytes")
    refuse(place(tmp_path, gz(IMAGES[:-1])), f"{said} 23 bytes")
    refuse(place(tmp_path, gz(IMAGES + b"\0")), f"{said} more")


def test_gzip_bomb_is_read_no_further_than_promised(tmp_path):
    path = place(tmp_path, gz(IMAGES + bytes(1 << 26)))
    tracemalloc.start()
    try:
        refuse(path, "the file contains more")
        assert tracemalloc.get_traced_memory()[1] < 1 << 21
    finally:
        tracemalloc.stop()


def test_missing_and_directory(tmp_path):
    refuse(tmp_path / "nowhere", "no such file")
    (tmp_path / "folder").mkdir()
    refuse(tmp_path / "folder", "is a directory")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_fifo_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    thread = threading.Thread(target=refuse, args=(tmp_path / "fifo", "pipe, socket or device"))
    thread.start()
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no /dev/zero")
def test_device_is_refused():
    with pytest.raises(DataError, match="pipe, socket or device"):
        read_idx("/dev/zero")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_unreadable_file_is_the_systems_fault(tmp_path):
    path = place(tmp_path, IMAGES)
    path.chmod(0)
    refuse(path, "cannot be read", error=SystemFailure)


# --- what goes wrong in writing ------------------------------------------------------------------


@pytest.mark.parametrize(
    "array", [np.zeros(3, np.uint16), np.zeros(3, bool), np.zeros((0, 2), "u1"), np.array(3, "u1")]
)
def test_what_idx_cannot_store_is_refused(tmp_path, array):
    with pytest.raises(ValueError, match="IDX has no array"):
        write_idx(tmp_path / "a", array)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cause", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path, monkeypatch, cause):
    path = place(tmp_path, IMAGES)

    def fail(descriptor):
        raise cause

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises((SystemFailure, KeyboardInterrupt)) as caught:
        write_idx(path, np.zeros(5, np.uint8))
    if isinstance(cause, OSError):
        assert str(caught.value).startswith(f"{path}: cannot be written: No space left; ")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == IMAGES


def test_a_header_of_64_huge_axes_is_one_short_line(tmp_path):
    (tmp_path / "a").write_bytes(b"\0\0\x08\x40" + b"\xff" * 256 + b"\0")
    eight = "×".join(["4294967295"] * 8)
    refuse(tmp_path / "a", f"promises over 2⁶³ bytes ({eight}×…), the file contains 1 bytes")

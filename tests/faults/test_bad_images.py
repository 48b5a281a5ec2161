"""Image files that cannot be predicted, and those of every kind that can."""

from __future__ import annotations

import json
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from command import ERROR
from faulty import (
    contents,
)


def png(width: int, height: int, data: bytes) -> bytes:
    """A PNG by hand, whose header may lie."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(content, words, id=f"{row} {words[0]}")
        for row, content, *words in [
            (43, b"", "is empty"),
            (43, b"<!DOCTYPE html><html>404</html>", "is not an image"),
            (43, png(28, 28, zlib.compress(bytes(29 * 28))[:9]), "is damaged"),
            (43, b"P5 28 28 255\n" + bytes(99), "is cut short"),
            (43, png(0, 5, zlib.compress(b"")), ""),
            (44, png(60_000, 60_000, zlib.compress(bytes(10**6))), "pixels"),
            (44, b"P5 60000 60000 255\n", "60,000×60,000 pixels"),
        ]
    ],
)
def test_a_damaged_image_is_refused(refuses, tmp_path, content, words):
    pytest.importorskip("PIL", reason="Pillow is not installed")
    path = tmp_path / "digit.png"
    path.write_bytes(content)
    assert refuses(3, "predict", "pretrained", path, words=words).startswith(f"{path}: ")


def test_colour_16_bits_palette_and_transparency_are_one_digit(lenet, tmp_path, tiny):
    """However the same drawing is stored, it is the same digit."""
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    levels = np.full((60, 60), 255, np.uint8)
    levels[10:50, 28:33] = 0  # a one
    grey = pillow.fromarray(levels)
    turned = pillow.Exif()
    turned[274] = 8
    see_through = np.zeros((60, 60, 4), np.uint8)
    see_through[..., 3] = 255 - levels
    stored = {
        "grey": (grey, {}),
        "rgba": (pillow.fromarray(see_through), {}),
        "16-bit": (pillow.fromarray(levels.astype(np.uint16) * 257), {}),
        "palette": (grey.convert("P"), {}),
        "animation": (grey, {"save_all": True, "append_images": [pillow.new("L", (60, 60))]}),
        "turned": (pillow.fromarray(np.rot90(levels, -1)), {"exif": turned}),
    }
    for name, (picture, options) in stored.items():
        picture.save(tmp_path / f"{name}.png", **options)
    files = [tmp_path / f"{name}.png" for name in stored]
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)  # printed, as a user has it
        ended = lenet("predict", "pretrained", "--json", *files)
    told = f"lenet: warning: {tmp_path / 'animation.png'}: the first of 2 pages or frames\n"
    assert (ended.code, ended.err) == (0, told)
    found = {
        (line["label"], line["probability"]) for line in map(json.loads, ended.out.splitlines())
    }
    assert len(found) == 1
    assert found.pop()[0] == "1"


def test_one_bad_file_among_many_and_names_that_are_not_text(lenet, tmp_path):
    levels = np.full((60, 60), 255, np.uint8)
    levels[10:50, 28:33] = 0
    np.save(tmp_path / "good.npy", levels)
    bad = tmp_path / "bad\x1b[2J\n.npy"
    if os.name == "nt":
        pytest.skip("Windows has no such names")
    bad.write_bytes(b"\x93NUMPY, but no more of it")
    before = contents(tmp_path)
    ended = lenet("predict", "pretrained", tmp_path / "good.npy", bad, tmp_path / "good.npy")
    assert ended.code == 3
    assert [line.partition(": ")[0] for line in ended.out.splitlines()] == [
        str(tmp_path / "good.npy")
    ] * 2
    assert ERROR.fullmatch(ended.err)
    assert r"bad\x1b[2J\n.npy: " in ended.err
    assert contents(tmp_path) == before

"""Data files that cannot be used: one line, exit code 3 or 4, nothing changed."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from faulty import flipped

from lenet.data.formats.idx import write_idx


def gz(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


@pytest.mark.parametrize(
    ("role", "spoil", "words"),
    [
        pytest.param(role, spoil, words, id=f"{row} {words[0]}")
        for row, role, spoil, *words in [
            (16, "images", lambda raw: gz(raw)[:-20], "gzip data is damaged", "ended"),
            (16, "images", lambda raw: flipped(gz(raw), -8), "gzip data is damaged", "CRC"),
            (16, "images", lambda raw: gz(raw) + b"rubbish", "gzip data is damaged", "gzipped"),
            (17, "images", lambda raw: b"<!DOCTYPE html><html>404</html>", "is an HTML page"),
            (17, "labels", lambda raw: b"", "is empty"),
            (18, "images", lambda raw: b"\x89PNG" + raw[4:], "is not an IDX file (0x89504e47)"),
            (18, "images", lambda raw: b"\0\0\x0a\3" + raw[4:], "is not an IDX file (0x00000a03)"),
            (19, "images", lambda raw: raw[:4] + b"\xff" * 12, "its header promises"),
            (19, "labels", lambda raw: gz(raw[:4] + b"\xff" * 4 + raw[8:]), "its header promises"),
            (20, "images", lambda raw: raw[:-1], "the file contains 235,199 bytes"),
            (20, "images", lambda raw: raw + b"\0", "the file contains 235,201 bytes"),
            (21, "images", lambda raw: raw[:4] + bytes(4) + raw[8:16], "contains no items"),
            (22, "labels", lambda raw: raw[:15] + b"\x09" + raw[16:], "label 7 is 9"),
            (
                23,
                "labels",
                lambda raw: b"\0\0\x08\1\0\0\0\2\0\1",
                "contains 2 labels for 300 images",
            ),
            (24, "images", lambda raw: gz(raw + bytes(1 << 26)), "the file contains more"),
        ]
    ],
)
def test_a_damaged_data_file_is_refused(refuses, tiny, tmp_path, role, spoil, words):
    file = tmp_path / "spoilt.gz"
    file.write_bytes(spoil((tiny.parent / f"train-{role}").read_bytes()))
    line = refuses(
        *(3, "train", "--config", tiny, "--output", tmp_path / "run"),
        *("--set", f"data.train_{role}={file}"),
        words=words,
    )
    assert line.startswith(f"{file}: ")


def test_images_and_labels_swapped(refuses, tiny, tmp_path):
    images, labels = (tiny.parent / f"train-{role}" for role in ("images", "labels"))
    swapped = (f"data.train_images={labels}", f"data.train_labels={images}")
    refuses(
        *(3, "train", "--config", tiny, "--output", tmp_path / "run"),
        *(part for value in swapped for part in ("--set", value)),
        words=(f"{labels}: ", "exchange images and labels"),
    )


def test_images_larger_than_the_network_takes(refuses, tiny, tmp_path):
    write_idx(tmp_path / "large", np.zeros((300, 40, 40), np.uint8))
    refuses(
        *(3, "train", "--config", tiny, "--output", tmp_path / "run"),
        *("--set", f"data.train_images={tmp_path / 'large'}", "--set", "data.size=null"),
        *("--set", "model.input=[1,32,32]"),
        words=(f"{tmp_path / 'large'}: ", "40×40", "32"),
    )


def test_a_corrupt_cached_file_without_network(refuses, tmp_path, monkeypatch, dead_proxy):
    cache = tmp_path / "lenet" / "mnist"
    cache.mkdir(parents=True)
    (cache / "t10k-labels-idx1-ubyte.gz").write_bytes(gz(b"\0\0\x08\1\0\0\0\2\0\1"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    refuses(
        *(4, "data", "fetch", "mnist"),
        words=(
            "t10k-labels-idx1-ubyte.gz (damaged: is not the published file",
            f"put them into {cache}",
        ),
    )

"""Checkpoints and paths that cannot be used: one line, exit code 3, nothing changed."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from faulty import (
    POSIX,
    flipped,
    within,
)
from forged import Canary, forge, npy, zipped

from lenet.checkpoint.checkpoint import save_checkpoint
from lenet.checkpoint.restore import read_checkpoint

Members = list[tuple[str, bytes]]


def members_of(path: Path) -> Members:
    """Names and bytes of a checkpoint's members but the checksum."""
    with zipfile.ZipFile(path) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()[:-1]]


def put(members: Members, place: int, content: bytes, name: str | None = None) -> Members:
    return [(name or n, content) if i == place else (n, c) for i, (n, c) in enumerate(members)]


def headed(content: bytes, old: bytes, new: bytes) -> bytes:
    """The .npy content with another header of the same length."""
    return content[:128].replace(old, new).rstrip().ljust(127) + b"\n" + content[128:]


def pickled(canary: Path) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([Canary(str(canary))], dtype=object), allow_pickle=True)
    return stream.getvalue()


def deflated(members: Members) -> bytes:
    return zipped(members, zipfile.ZIP_DEFLATED)


def text(meta: bytes) -> bytes:
    return npy(np.frombuffer(meta, np.uint8))


C1 = "parameters/C1.weight: "


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(spoil, words, id=f"{row} {number}")
        for number, (row, spoil, *words) in enumerate([
            (26, lambda m: b"", "is empty"),
            (26, lambda m: b"<html>404</html>", "is not an npz archive"),
            *((27, lambda m, n=n: forge(m)[:n], "") for n in (1, 100, 2000, -1)),
            *((28, lambda m, n=n: flipped(forge(m), n), "") for n in (7, 900, 3000, -9)),
            (29, lambda m: forge(put(m, 1, pickled(Path("canary")))), C1),
            (30, lambda m: deflated(put(m, 1, m[1][1] + bytes(1 << 26))), "meta: "),
            *(
                (31, lambda m, s=s: forge(put(m, 1, headed(m[1][1], b"(6, 1, 5, 5)", s))), C1)
                for s in (b"(99999999999,)", b"(-4,)", b"(4611686018427387904, 8)")
            ),
            (32, lambda m: forge(put(m, 1, b"\x93NUMPY\x02\0\xff\xff\xff\xff{")), C1),
            *(
                (33, lambda m, n=n: forge(put(m, 1, m[1][1], n)), C1)
                for n in ("../C1.npy", "/etc/C1.npy", "parameters/C9.npy")
            ),
            (33, lambda m: forge([*m[:2], m[1], *m[2:]]), "parameters/C1.bias: "),
            (33, lambda m: forge([*m, ("more.npy", b"x")]), "sha256: "),
            (34, lambda m: forge(m, compression=zipfile.ZIP_LZMA), "meta: "),
            (34, lambda m: forge(m)[:6] + b"\1" + forge(m)[7:], "meta: "),
            (35, lambda m: forge([m[0], *m[2:]]), C1),
            (35, lambda m: forge(put(m, 1, headed(m[1][1], b"(6, 1, 5, 5)", b"(1, 6, 5, 5)"))), C1),
            (35, lambda m: forge(put(m, 1, headed(m[1][1], b"<f4", b">f4"))), C1, "float32"),
            (36, lambda m: forge(put(m, 1, m[1][1][:-4] + struct.pack("<f", np.nan))), C1, "NaN"),
            (37, lambda m: forge(put(m, 0, text(b'{"format":3,"needs":"3.1"}'))), "lenet >= 3.1"),
        ])
    ],
)  # fmt: skip
def test_a_damaged_checkpoint_is_refused(refuses, tiny, run, tmp_path, monkeypatch, spoil, words):
    """Refused alike for evaluation and for going on, where no earlier one is there to take."""
    monkeypatch.chdir(tmp_path)
    last = run / "last.npz"
    last.write_bytes(spoil(members_of(last)))
    (run / "previous.npz").unlink()
    for command_ in (("eval", last), ("train", "--output", run, "--resume")):
        line = refuses(3, *command_, words=words)
        assert line.startswith(f"{last}: ")
    assert not (tmp_path / "canary").exists()


def test_a_checkpoint_that_is_missing(refuses, run, tmp_path):
    words = (f"{tmp_path / 'none.npz'}: ", "there is no such file")
    refuses(3, "eval", tmp_path / "none.npz", words=words)
    (run / "last.npz").unlink()
    (run / "previous.npz").unlink()
    words = (f"{run / 'last.npz'}: ", "there is no such file")
    refuses(3, "train", "--output", run, "--resume", words=words)


def test_a_checkpoint_from_before_a_key_existed(lenet, run):
    members = members_of(run / "best.npz")
    meta = json.loads(members[0][1][128:])
    del meta["config"]["schedule"], meta["config"]["train"]["block"]
    older = json.dumps(meta, separators=(",", ":"), ensure_ascii=False).encode()
    (run / "best.npz").write_bytes(forge(put(members, 0, text(older))))
    ended = lenet("eval", run / "best.npz")
    assert (ended.code, ended.err) == (0, "")


def test_a_checkpoint_without_training_state(lenet, refuses, run):
    bare = replace(read_checkpoint(run / "last.npz"), training=None)
    save_checkpoint(run / "last.npz", bare)
    (run / "previous.npz").unlink()
    assert lenet("eval", run / "last.npz").code == 0
    refuses(3, "train", "--output", run, "--resume", words=(run / "last.npz", "not resumed"))


def test_resume_with_another_configuration(refuses, tiny, halfway):
    options = ("--set", "optimizer.lr=0.2", "--seed", "9")
    refuses(
        *(3, "train", "--config", tiny, "--output", halfway, "--resume", *options),
        words=(halfway / "last.npz", "seed, optimizer.lr: "),
    )


def test_resume_on_another_machine_is_a_warning(lenet, halfway):
    held = read_checkpoint(halfway / "last.npz", resume=True)
    other = {**held.facts, "blas": "ATLAS 3.10", "processor": "Zilog Z80", "workers": 3}
    save_checkpoint(halfway / "last.npz", replace(held, facts=other))
    ended = lenet("train", "--output", halfway, "--resume", "--quiet")
    assert ended.code == 0
    assert re.fullmatch(
        r"lenet: warning: .*different blas, processor, workers: .*may differ.*\n", ended.err
    )


@POSIX
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "device"])
def test_a_pipe_or_a_device_for_a_file(refuses, tiny, finished, tmp_path, kind):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    if kind == "link to a pipe":
        path = tmp_path / "link"
        path.symlink_to("pipe")
    elif kind == "device":
        path = Path("/dev/zero")
    train = ("train", "--output", tmp_path / "run", "--config")
    checkpoint = finished / "best.npz"
    with within(20):
        refuses(2, *train, path, words=(f"{path}: ",))
        refuses(3, *train, tiny, "--set", f"data.train_images={path}", words=(f"{path}: ",))
        refuses(3, "eval", path, words=(f"{path}: ", "pipe, socket or device"))
        refuses(3, "predict", checkpoint, path, words=(f"{path}: ", "pipe, socket or device"))
        for arguments in (
            ("report", finished, "--out", path),
            ("export", checkpoint, "--c", path / "c"),
            ("train", "--config", tiny, "--output", path),
        ):
            refuses(4, *arguments, words=(f"{path}",))


@POSIX
@pytest.mark.parametrize("name", ["null", "stdout", "stderr"])
def test_what_is_in_dev_is_not_replaced(refuses, finished, name):
    """As the superuser a rename would put a file there."""
    path = Path("/dev") / name
    before = path.lstat()
    refuses(4, "report", finished, "--out", path, words=(f"{path}: is a pipe, socket or device",))
    assert os.path.samestat(path.lstat(), before)

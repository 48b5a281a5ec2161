"""Checkpoints: there and back to the bit, and every fault of faults.md 26-39, 42, 51, 54, 64.

Broken files are real files, made by forged.py.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import re
import stat
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checkpoints import fails, make, names, network, same, saved
from forged import (
    Canary,
    forge,
    format_1,
    members_of,
    meta_of,
    npy,
    text_of,
    with_checksum,
    zipped,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from lenet import Model
from lenet.checkpoint import archive
from lenet.checkpoint import metadata as module
from lenet.checkpoint.checkpoint import Checkpoint, facts, load_checkpoint, save_checkpoint
from lenet.errors import CheckpointError, DataError, GateFailed, SystemFailure
from lenet.models import lenet5
from lenet.nn import Linear
from lenet.system.files import clean_leftovers

MIB = 2**20
# Without measuring coverage: its file would be what does not fit on the disk.
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}


def make_old() -> Checkpoint:
    """What a file of format 1 contains: LeNet-5, as small as its configuration allows."""
    options = {"channels": (1, 2), "units": (2, 1), "classes": 2, "initializer": "lecun"}
    model = replace(lenet5.specification(**options), shift=-0.2)
    settings = {f"model__{name}": value for name, value in options.items()}
    return make(model, background=0, **settings)


def old_format(**changes: object) -> bytes:
    checkpoint = make_old()
    return forge(members_of(checkpoint, text_of(format_1(meta_of(checkpoint)) | changes)))


def link(path: Path, target: str) -> None:
    try:
        path.symlink_to(target)
    except OSError as error:
        pytest.skip(f"no symbolic links here: {error}")


# --- refusals -------------------------------------------------------------------------------------


def refuse(path: Path, *words: str, error: type = CheckpointError, resume: bool = False) -> str:
    """Loading ``path`` raises ``error`` in one line with the file; the folder stays as it is."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(error) as caught:
        load_checkpoint(path, resume=resume)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "; " in message
    assert len(message) < 500 + len(str(path))
    for word in words:
        assert word in message
    assert sorted(path.parent.rglob("*")) == before
    return message


def refuse_bytes(tmp_path: Path, content: bytes, *words: str) -> str:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    return refuse(path, *words)


# --- what is right -------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_there_and_back_to_the_bit(tmp_path, training, precision):
    checkpoint = make(training=training, train__precision=precision, model__activation="tanh")
    saved(tmp_path / "a.npz", checkpoint)
    loaded = load_checkpoint(tmp_path / "a.npz", resume=training)
    assert same(loaded, checkpoint)
    assert all(a.flags.writeable and a.dtype.isnative for a in loaded.parameters.values())
    assert names(tmp_path) == ["a.npz"]


def test_bytes_are_those_of_the_documented_format(tmp_path):
    for training in (True, False):
        checkpoint = make(training=training)
        assert saved(tmp_path / "a.npz", checkpoint) == forge(members_of(checkpoint))


def test_headers_of_the_archive_field_by_field(tmp_path):
    """Against the tables of APPNOTE.TXT, 4.3.7, 4.3.12 and 4.3.16, not against zipfile."""
    content = saved(tmp_path / "a.npz", make(training=False))
    first, last = content[: content.index(b"PK\3\4", 4)], content.index(b"PK\5\6")
    crc, size = zlib.crc32(first[38:]), len(first) - 38
    begun = (20, 0, 0, 0, 0x21, crc, size, size, 8, 0)
    assert first[:38] == struct.pack("<4s5H3I2H8s", b"PK\3\4", *begun, b"meta.npy")
    directory = content.index(b"PK\1\2")
    listed = (3 << 8 | 20, *begun, 0, 0, 0, 0o644 << 16, 0, b"meta.npy")
    assert content[directory:][:54] == struct.pack("<4s6H3I5H2I8s", b"PK\1\2", *listed)
    end = (0, 0, 10, 10, last - directory, directory, 0)
    assert content[last:] == struct.pack("<4s4H2IH", b"PK\5\6", *end)


def test_numpy_and_zipfile_read_it_without_pickle(tmp_path):
    checkpoint = make()
    saved(tmp_path / "a.npz", checkpoint)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.testzip() is None
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert json.loads(bytes(arrays["meta"]))["step"] == 41
        for name, array in checkpoint.parameters.items():
            np.testing.assert_array_equal(arrays[f"parameters/{name}"], array, strict=True)
        assert arrays["training/optimizer/second"].shape == arrays["training/parameters"].shape


def test_views_and_columns_are_saved_as_what_they_show(tmp_path):
    checkpoint = make()
    turned = {n: np.asfortranarray(a) for n, a in checkpoint.parameters.items()}
    strided = {n: np.repeat(a, 2, axis=0)[::2] for n, a in checkpoint.parameters.items()}
    expected = saved(tmp_path / "a.npz", checkpoint)
    assert saved(tmp_path / "b.npz", replace(checkpoint, parameters=turned)) == expected
    assert saved(tmp_path / "c.npz", replace(checkpoint, parameters=strided)) == expected


def test_more_classes_than_ascii_names(tmp_path):
    names = ("雪", "\x1b[2J\n")
    saved(tmp_path / "a.npz", replace(make(), class_names=names))
    assert load_checkpoint(tmp_path / "a.npz").class_names == names


def test_a_link_to_a_checkpoint_is_read(tmp_path):
    saved(tmp_path / "a.npz")
    link(tmp_path / "link", "a.npz")
    assert same(load_checkpoint(tmp_path / "link"), make())


def test_missing_keys_of_the_configuration_get_the_default(tmp_path):
    """38: a file from before a key existed."""
    checkpoint = make()
    meta = meta_of(checkpoint)
    del meta["config"]["schedule"], meta["config"]["train"]["block"]
    (tmp_path / "a.npz").write_bytes(forge(members_of(checkpoint, text_of(meta))))
    assert load_checkpoint(tmp_path / "a.npz").config == checkpoint.config


def test_saving_what_was_loaded_makes_the_same_bytes(tmp_path):
    first = saved(tmp_path / "a.npz")
    assert saved(tmp_path / "b.npz", load_checkpoint(tmp_path / "a.npz")) == first


def test_format_1(tmp_path):
    """38: its network follows from the configuration; saved again, it is of this format."""
    (tmp_path / "old.npz").write_bytes(old_format())
    checkpoint = load_checkpoint(tmp_path / "old.npz", resume=True)
    assert same(checkpoint, make_old())
    assert saved(tmp_path / "new.npz", checkpoint) == forge(members_of(make_old()))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("class_names", ["one"]),
        ("class_names", ["one", 2]),
        ("preprocessing", {"scale": 1.0, "shift": 0.0, "input_size": 31}),
        ("preprocessing", {"scale": 1.0, "shift": 0.0, "input_size": 32.5}),
        ("preprocessing", {"scale": None, "shift": 0.0, "input_size": 32}),
        ("preprocessing", {"scale": 1.0, "shift": 0.0}),
        ("preprocessing", {"scale": 1.0, "shift": 0.0, "background": 0}),
        ("model", {}),
        ("step", -1),
    ],
)
def test_format_1_with_fields_that_make_no_sense(tmp_path, name, value):
    words = f"meta.{name}: {'is unknown' if name == 'model' else 'must '}"
    refuse_bytes(tmp_path, old_format(**{name: value}), words)


def test_facts_are_short_and_cheap():
    found = facts(workers=3)
    assert found["workers"] == 3
    assert found["numpy"] == np.__version__
    assert all(found[name] for name in ("blas", "simd", "processor", "platform", "python"))


# --- 26, 42: no checkpoint at all ----------------------------------------------------------------


def test_missing(tmp_path):
    refuse(tmp_path / "none.npz", "there is no such file")
    (tmp_path / "file").touch()
    refuse(tmp_path / "file" / "none.npz", "there is no such file")


def test_directory(tmp_path):
    (tmp_path / "a.npz").mkdir()
    refuse(tmp_path / "a.npz", "is a directory")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "is empty"),
        (b"<html>404</html>", "is not an npz archive"),
        (b"PK", "meta"),
        (b"PK\5\6" + bytes(18), "meta"),
        (b"PK\3\4" + b"\xff" * 5000, "meta"),
    ],
)
def test_no_checkpoint(tmp_path, content, word):
    refuse_bytes(tmp_path, content, word)


def test_npz_of_something_else(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    refuse(tmp_path / "a.npz", "is an npz archive of another program")


def zip_of(name):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, bytes(200))
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("net.onnx", b"\x08\x08\x12\x04test", ["an ONNX file", "import net.onnx --out net.npz"]),
        ("model", b"\x08\x08\x12\x07pytorch", ["an ONNX file", "lenet import model --out"]),
        ("w.safetensors", bytes([9]) + bytes(7) + b'{"a": 1 }' * 9, ["import w.safet", "--model"]),
        ("w.pth", zip_of("w/data.pkl"), ["a file of PyTorch", "torch.onnx.export("]),
        ("old.pt", b"\x80\x02\x8a" + bytes(200), ["a file of PyTorch", "torch.onnx.export("]),
        ("m.keras", zip_of("model.weights.h5"), ["a Keras file", "keras.saving.load_model(FILE)"]),
        ("m.h5", b"\x89HDF\r\n" + bytes(200), ["a Keras or HDF5 file", 'format="onnx"']),
        ("w.npz", zip_of("conv1.npy"), ["archive of another program", "load_state_dict(dict("]),
        ("l.npz", b"version https://git-lfs.github.com/spec/v1", ["Git LFS", "git lfs pull"]),
    ],
)  # fmt: skip
def test_files_of_other_programs(tmp_path, name, content, words):
    """What each is, and the command or the lines of Python that bring it in."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(caught.value).count("\n") == 0
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_an_npz_of_another_program_comes_in(tmp_path):
    """By the lines that the message gives."""
    weight = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    np.savez(tmp_path / "w.npz", **{"F1.weight": weight, "F1.bias": np.zeros(3, np.float32)})
    model = Model.from_layers([Linear("F1", units=3)], (1, 4, 4))
    model.network.load_state_dict(dict(np.load(tmp_path / "w.npz")))
    model.save(tmp_path / "new.npz")
    np.testing.assert_array_equal(
        load_checkpoint(tmp_path / "new.npz").parameters["F1.weight"], weight
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipe_does_not_block(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    messages: list[str] = []

    def read() -> None:
        messages.append(refuse(tmp_path / "pipe", "is a pipe, socket or device"))
        # a pipe that replaces the file after its kind was checked
        regular = Path(__file__).stat()
        monkeypatch.setattr(os, "stat", lambda *_, **__: regular)
        with pytest.raises(CheckpointError, match="is a pipe, socket or device"):
            load_checkpoint(tmp_path / "pipe")
        messages.append("done")

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(5)
    assert messages[1:] == ["done"]


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no /dev/zero")
def test_device():
    with pytest.raises(CheckpointError, match="is a pipe, socket or device"):
        load_checkpoint("/dev/zero")


def test_no_permission_to_read(bound_by_permissions):
    path = bound_by_permissions / "a.npz"
    saved(path)
    path.chmod(0)
    refuse(path, "cannot be read", error=SystemFailure)


def test_a_disk_that_fails(tmp_path, monkeypatch):
    saved(tmp_path / "a.npz")

    def broken(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "open", broken)
    refuse(tmp_path / "a.npz", "Input/output error", error=SystemFailure)


# --- 27, 28: damage ------------------------------------------------------------------------------


def test_truncated_at_every_byte(tmp_path):
    content = saved(tmp_path / "good.npz")
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    for length in reversed(range(len(content))):
        os.truncate(path, length)
        with pytest.raises(CheckpointError):
            load_checkpoint(path)


def test_every_byte_flipped(tmp_path):
    content = saved(tmp_path / "good.npz")
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with path.open("r+b", buffering=0) as file:
        for place, byte in enumerate(content):
            file.seek(place)
            file.write(bytes([byte ^ 1 << place % 8]))
            with pytest.raises(CheckpointError):
                load_checkpoint(path)
            file.seek(place)
            file.write(bytes([byte]))
    load_checkpoint(path)


def test_anything_added(tmp_path):
    content = saved(tmp_path / "good.npz")
    refuse_bytes(tmp_path, content + b"\0", "more in it")
    refuse_bytes(tmp_path, b"\0" + content)
    commented = content[:-2] + struct.pack("<H", 3) + b"abc"
    refuse_bytes(tmp_path, commented, "more in it")


def test_damage_names_the_array(tmp_path):
    members = members_of(make())
    content = forge(members)
    for name, array in members:
        last = content.index(array) + len(array) - 1
        damaged = content[:last] + bytes([content[last] ^ 1]) + content[last + 1 :]
        refuse_bytes(tmp_path, damaged, f"bad.npz: {name.removesuffix('.npy')}: is damaged")


def test_wrong_checksum_with_right_crc(tmp_path):
    members = with_checksum(members_of(make(seed=1)))
    refuse_bytes(tmp_path, zipped([*members_of(make(seed=2)), members[-1]]), "sha256")


# --- 29-35: what must not be let in --------------------------------------------------------------


def test_documented_check_of_the_checksum(tmp_path, monkeypatch):
    """The example of docs/checkpoint.md does what it says."""
    monkeypatch.chdir(tmp_path)
    Path("runs/mnist").mkdir(parents=True)
    saved(Path("runs/mnist/best.npz"))
    page = Path(__file__).resolve().parents[2] / "docs" / "checkpoint.md"
    text = page.read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    found: dict[str, object] = {}
    exec(example, found)
    assert found["meta"]["step"] == 41
    np.testing.assert_array_equal(found["weight"], make().parameters["C1.weight"])


@pytest.mark.parametrize("place", range(7))
def test_pickle_is_never_executed(tmp_path, place):
    canary = tmp_path / "canary"
    stream = io.BytesIO()
    np.save(stream, np.array([Canary(str(canary))], dtype=object), allow_pickle=True)
    payload = pickle.dumps(Canary(str(canary)))
    members = members_of(make())
    for content in (stream.getvalue(), payload):
        forged = [*members]
        forged[place] = (members[place][0], content)
        refuse_bytes(tmp_path, forge(forged), members[place][0].removesuffix(".npy"))
    assert not canary.exists()
    pickle.loads(payload)  # the canary does sing
    assert canary.exists()


def peak_of_refusing(path: Path) -> int:
    """Bytes of memory that refusing a file takes at most."""
    refuse(path)
    tracemalloc.start()
    started = time.process_time()  # a busy machine takes none of it
    refuse(path)
    assert time.process_time() - started < 2
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_bomb(tmp_path):
    """30: a member that inflates a thousandfold, under the name of a small one."""
    members = members_of(make())
    bomb = npy(np.zeros(8))[:128] + bytes(64 * MIB)
    for place in (0, 1):
        forged = [(name, bomb if i == place else c) for i, (name, c) in enumerate(members)]
        path = tmp_path / "bad.npz"
        path.write_bytes(zipped(forged, zipfile.ZIP_DEFLATED))
        assert path.stat().st_size < MIB
        assert peak_of_refusing(path) < MIB


@pytest.mark.parametrize(
    "shape",
    [
        "(9999999999,)",
        "(-4,)",
        "(2, 1, 2, 3)",
        "(2, 1, 2)",
        "(2,)",
        "()",
        f"({2**62}, 8)",
        "(1e3,)",
    ],
)
def test_other_shapes(tmp_path, shape):
    """31, 35: huge, negative, overflowing, or not that of the network."""
    members = members_of(make())
    name, good = members[1]
    bad = good[:128].replace(b"(2, 1, 2, 2)", shape.encode())
    bad = bad.rstrip().ljust(127) + b"\n" + good[128:]
    assert len(bad) == len(good)
    members[1] = (name, bad)
    refuse_bytes(tmp_path, forge(members), "parameters/C1.weight", "2×1×2×2")


@pytest.mark.parametrize("descr", ["<f8", "<f2", ">f4", "|O", "|V4", "<M8", "<U1", "{}"])
def test_other_types(tmp_path, descr):
    """35: wrong type or byte order."""
    members = members_of(make())
    bad = members[2][1].replace(b"'<f4'", f"'{descr}'".encode())
    bad = bad[:128].rstrip().ljust(127) + b"\n" + members[2][1][128:]
    members[2] = (members[2][0], bad)
    refuse_bytes(tmp_path, forge(members), "parameters/C1.bias")


def test_column_order(tmp_path):
    members = members_of(make())
    bad = members[1][1].replace(b"'fortran_order': False", b"'fortran_order': True ")
    members[1] = (members[1][0], bad)
    refuse_bytes(tmp_path, forge(members), "parameters/C1.weight")


def test_header_of_gigabytes(tmp_path):
    """32: a .npy header of version 2 that claims 4 GiB, and one that is long."""
    members = members_of(make())
    for header in (
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr'",
        b"\x93NUMPY\x02\x00\0\0\0\4" + b" " * (64 * MIB),
    ):
        members[1] = (members[1][0], header)
        path = tmp_path / "bad.npz"
        path.write_bytes(forge(members))
        assert "parameters/C1.weight" in refuse(path)
        assert peak_of_refusing(path) < MIB


@pytest.mark.parametrize(
    "name",
    ["../C1.npy", "/etc/C1.npy", "C:\\C1.npy", "parameters/C1.weight", "parameters/C9.npy", "a\0b"],
)
def test_other_names(tmp_path, name):
    """33: in the place of a member, and beside all of them."""
    members = members_of(make())
    renamed = [(name if i == 1 else n, content) for i, (n, content) in enumerate(members)]
    refuse_bytes(tmp_path, forge(renamed), "parameters/C1.weight")
    refuse_bytes(tmp_path, forge([*members, (name, b"x")]), "sha256")
    refuse_bytes(tmp_path, zipped([*with_checksum(members), (name, b"x")]), "more in it")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_missing_and_swapped_members(tmp_path):
    """33, 35."""
    members = members_of(make())
    for place in range(len(members)):
        name = members[place][0].removesuffix(".npy")
        following = [n.removesuffix(".npy") for n, _ in members[place + 1 :]] + ["sha256"]
        twice = [*members[: place + 1], members[place], *members[place + 1 :]]
        refuse_bytes(tmp_path, forge(twice), following[0])
        refuse_bytes(tmp_path, forge(members[:place] + members[place + 1 :]), name)
    refuse_bytes(tmp_path, forge([*members[:1], members[2], members[1], *members[3:]]), "C1.weight")
    refuse_bytes(tmp_path, zipped(members), "sha256")


def test_encrypted_and_compressed(tmp_path):
    """34: also where only the headers say so."""
    content = forge(members_of(make()))
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        refuse_bytes(tmp_path, forge(members_of(make()), compression=method), "meta")
    second = content.index(b"PK\3\4", 4)
    for offset, value in ((6, 1), (6, 8), (8, 8), (8, 99), (4, 63)):
        for start, name in ((0, "meta"), (second, "parameters/C1.weight")):
            bad = bytearray(content)
            bad[start + offset] = value
            refuse_bytes(tmp_path, bytes(bad), name)
    directory = content.index(b"PK\1\2")
    for offset in range(4, 46):
        bad = bytearray(content)
        bad[directory + offset] ^= 1
        refuse_bytes(tmp_path, bytes(bad), "archive")


def test_cut_short_between_checking_and_reading(tmp_path, monkeypatch):
    saved(tmp_path / "a.npz")
    verified = archive._verified

    def cut(*arguments: object) -> object:
        start = verified(*arguments)
        os.truncate(tmp_path / "a.npz", 1700)
        return start

    monkeypatch.setattr(archive, "_verified", cut)
    refuse(tmp_path / "a.npz", "cut short while it was read")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("resume", [False, True])
def test_not_finite(tmp_path, bad, resume):
    """36: in weights and in the training state, for evaluation and for resuming."""
    for name, kind in (
        ("parameters/C1.weight", "<f"),
        ("state/N1.variance", "<d"),
        ("training/optimizer/first", "<f"),
    ):
        end = struct.pack(kind, bad)
        members = [
            (n, content[: -len(end)] + end if n == f"{name}.npy" else content)
            for n, content in members_of(make())
        ]
        path = tmp_path / "bad.npz"
        path.write_bytes(forge(members))
        refuse(path, name, "NaN or infinite", resume=resume)


# --- 31, 35, 37, 39: the text --------------------------------------------------------------------


def refuse_meta(tmp_path: Path, text: bytes | dict, *words: str) -> str:
    text = text if isinstance(text, bytes) else text_of(text)
    return refuse_bytes(tmp_path, forge(members_of(make(), text)), *words)


def test_format_of_the_future(tmp_path):
    """37: known by two keys alone; all others may be different by then."""
    refuse_meta(tmp_path, {"format": 3, "needs": "3.1"}, "format: is 3", "needs lenet >= 3.1")
    refuse_meta(tmp_path, b' {"needs" : 3, "format" : 7}\n', "needs lenet >= a later version")
    refuse_meta(
        tmp_path, {**meta_of(make()), "format": 3, "needs": "9\n\x1b"}, "lenet >= 9\\n\\x1b"
    )


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "1", None, 2**70, [1]])
def test_format_that_is_none(tmp_path, value):
    refuse_meta(tmp_path, {**meta_of(make()), "format": value}, "meta.format: must be 1 or 2")


@pytest.mark.parametrize(
    "text",
    [
        b"\xff",
        b"{",
        b"[" * 60_000,
        b'{"a":' * 12_000,
        b"1" * 60_000,
        b'{"format":1,"step":NaN}',
        b'{"format":1,"step":1e999}',
        b'{"dataset":"\\ud800"}',
        b"[]",
        b"null",
        b'"format"',
        text_of(meta_of(make())) + b" ",
        text_of(meta_of(make())).replace(b'"step":41', b'"step":40,"step":41'),
        text_of(meta_of(make())).replace(b'"step":41', b'"step":0041'),
        text_of(meta_of(make())).replace(b'"step":41', b'"step":-0'),
    ],
    ids=range(15),
)
def test_text_that_is_not_canonical_json(tmp_path, text):
    refuse_meta(tmp_path, text, "meta: ")


def test_long_text(tmp_path):
    refuse_meta(tmp_path, {**meta_of(make()), "dataset": "x" * 2**20}, "meta: ")


@pytest.mark.parametrize("name", meta_of(make()))
def test_every_field_is_needed_and_typed(tmp_path, name):
    meta = meta_of(make())
    refuse_meta(tmp_path, {n: v for n, v in meta.items() if n != name}, f"meta.{name}: is missing")
    for value in (True, -1, 2**63, 1.5, "", "x" * 201, [1], {"a": []}, {"a": 10**400}, [[]]):
        refuse_meta(tmp_path, {**meta, name: value}, name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("class_names", ["one"]),
        ("class_names", ["one", 2]),
        ("preprocessing", {"scale": 1.0, "shift": 0.0, "background": -1}),
        ("preprocessing", {"scale": 1.0, "shift": 0.0, "background": 0.5}),
        ("preprocessing", {"scale": None, "shift": 0.0, "background": 0}),
        ("preprocessing", {"scale": 1.0, "shift": 0.0, "input_size": 4}),
        ("preprocessing", {"scale": 1.0, "shift": 0.0}),
        ("model", []),
        ("model", {}),
        ("model", {"input": [1, 4, 4], "layers": []}),
        ("model", {"input": [1, 4], "layers": [], "initializer": "he"}),
        ("model", {"input": [1, 4, 0], "layers": [], "initializer": "he"}),
        ("model", {"input": [1, 4, 4], "layers": {}, "initializer": "he"}),
        ("model", {"input": [1, 4, 4], "layers": [], "initializer": None}),
        ("metrics", {"val_loss": "0.1"}),
        ("metrics", {"val_loss": True}),
        ("facts", {"workers": 1.5}),
        ("training", {}),
        ("training", {"optimizer": ["a"] * 2, "average": [], "progress": {}}),
        ("training", {"optimizer": ["../a"], "average": [], "progress": {}}),
        ("training", {"optimizer": [], "average": ["é"], "progress": {}}),
        ("training", {"optimizer": list("abcdefghi"), "average": [], "progress": {}}),
        ("training", {"optimizer": [], "average": [], "progress": {"step": "1"}}),
    ],
)
def test_fields_that_make_no_sense(tmp_path, name, value):
    refuse_meta(tmp_path, {**meta_of(make()), name: value}, f"meta.{name}: must ")


def test_unknown_field(tmp_path):
    refuse_meta(tmp_path, {**meta_of(make()), "x\n" * 99: 1}, "is unknown")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.epochs", 0),
        ("train.precision", "float16"),
        ("model.channels", [2, -3]),
        ("optimizer.lr", "0.1"),
        ("model.filters", 6),
    ],
)
def test_configuration_that_is_not_accepted(tmp_path, key, value):
    meta = meta_of(make())
    section, name = key.split(".")
    meta["config"] = {**meta["config"], section: {**meta["config"][section], name: value}}
    refuse_meta(tmp_path, meta, f"config.{key}: ")


def test_other_network_than_specified(tmp_path):
    """35: the arrays are good, but of 2 channels where the specification has 4."""
    text = text_of(meta_of(make(network(filters=4))))
    refuse_meta(tmp_path, text, "parameters/C1.weight", "4×1×2×2")


def test_the_network_is_that_of_the_specification_not_of_the_configuration(tmp_path):
    checkpoint = make(model__channels=[8, 9], model__classes=7)
    saved(tmp_path / "a.npz", checkpoint)
    assert same(load_checkpoint(tmp_path / "a.npz"), checkpoint)


HUGE = {"type": "convolution", "name": "C9", "filters": 2**40, "kernel": 1}


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (("layers", 0, "filters", 3), "parameters/C1.weight: is missing"),
        (("layers", 2, "name", "F8"), "parameters/F8.weight: is missing"),
        (("layers", 2, "name", "N1"), "meta.model.layers[3]: the name N1 is given twice"),
        (("layers", 2, "units", 3), "meta.class_names: must be 3 names"),
        (("layers", 2, "units", 0), "meta.layer F7"),
        (("layers", 2, "unit", 2), "meta.model.layers[3]: unit: unknown option"),
        (("layers", 2, "type", "liner"), "meta.model.layers[3]: type"),
        (("layers", 0, "kernel", 5), "meta.layer C1"),
        (("layers", 0, "kernel", "2"), "meta.layer C1"),
        (("layers", 0, "activation", "relu"), "meta.model.layers: are not written out"),
        (("layers", []), "meta.model.layers: must be a list of layers"),
        (("layers", [3]), "meta.model.layers[1]: must be a layer"),
        (("layers", [HUGE]), "meta.layer C9"),
        (("layers", [{**HUGE, "filters": 10**30}]), "meta.model: must be input, layers"),
        (("layers", [{"type": "batch_normalization", "name": str(i)} for i in range(1200)]), "1,2"),
        (("input", [1, 2**31, 2**31]), "meta."),
        (("input", [1, 4, True]), "meta.model: must be input, layers"),
        (("layers", 0, "padding", [7] * 9000), "meta.layer C1: padding: "),
        (("more", []), "meta.model: must be input, layers"),
        (("layers", 0, "table", [[[[]]]]), "meta.model: must be input, layers"),
        (("layers", 0, "table", {"a": [[[1]]]}), "meta.model: must be input, layers"),
        *(
            (("layers", 0, "name", name), "meta.model.layers[1]: name: must be 1 to 60 letters")
            for name in ("../C1", "/C1", "a/b", "a\\b", "a\0b", "é", "a b", ".C1")
        ),
    ],
    ids=range(29),
)
def test_specifications_that_do_not_fit(tmp_path, place, words):
    meta = json.loads(text_of(meta_of(make())))
    *outer, key, value = place
    inner = meta["model"]
    for step in outer:
        inner = inner[step]
    inner[key] = value
    refuse_meta(tmp_path, meta, words)
    assert peak_of_refusing(tmp_path / "bad.npz") < MIB


@pytest.mark.parametrize(
    ("C", "layer", "words"),
    [
        (2**22, {"type": "batch_normalization", "name": "N1"}, "parameters/N1.weight: is missing"),
        (
            2**26,
            {"type": "convolution", "name": "C1", "filters": 1, "kernel": 1, "table": [[0]]},
            "parameters/C1.weight: ",
        ),
    ],
    ids=["normalisation", "table"],
)
def test_a_network_is_measured_without_memory(tmp_path, C, layer, words):
    meta = json.loads(text_of(meta_of(make())))
    meta["model"]["input"] = [C, 1, 1]
    meta["model"]["layers"] = [layer, {"type": "linear", "name": "F7", "units": 2}]
    refuse_meta(tmp_path, meta, words)
    assert peak_of_refusing(tmp_path / "bad.npz") < MIB


def test_state_without_a_layer_and_a_layer_without_state(tmp_path):
    plain, stateful = make(network(state=False)), make()
    text = text_of(meta_of(plain))
    refuse_bytes(tmp_path, forge(members_of(stateful, text)), "parameters/F7.weight: is missing")
    text = text_of(meta_of(stateful))
    members = [(n, content) for n, content in members_of(stateful, text) if "state" not in n]
    refuse_bytes(tmp_path, forge(members), "state/N1.mean: is missing")


def test_huge_network_is_refused_by_arithmetic(tmp_path, monkeypatch):
    text = text_of(meta_of(make(network(size=45, units=1000))))
    monkeypatch.setattr(module, "MAX_BYTES", 10 * MIB)
    path = tmp_path / "bad.npz"
    path.write_bytes(forge(members_of(make(), text)))
    refuse(path, "meta.model", "10,485,760 bytes")
    assert peak_of_refusing(path) < MIB


def test_memory_of_a_large_file_is_taken_after_its_checksum(tmp_path):
    """80 MB, right in every header, wrong in the checksum."""
    members = members_of(make(network(size=45, units=1000)))
    path = tmp_path / "bad.npz"
    path.write_bytes(zipped([*members, ("sha256.npy", npy(np.zeros(32, np.uint8)))]))
    assert path.stat().st_size > 64 * MIB
    refuse(path, "sha256")
    assert peak_of_refusing(path) < 4 * MIB


def test_no_training_state(tmp_path):
    """39: enough to evaluate, not to resume."""
    saved(tmp_path / "a.npz", make(training=False))
    assert load_checkpoint(tmp_path / "a.npz").training is None
    refuse(tmp_path / "a.npz", "training", "not resumed", resume=True)


# --- mutations -----------------------------------------------------------------------------------

GOOD = forge(members_of(make()))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=5,
)


def loads_or_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        load_checkpoint(path, resume=True)
    except CheckpointError as error:
        message = str(error)
    else:
        return
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("mutations") / "a.npz"


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mutated_bytes(scratch, data):
    content = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        stop = start + data.draw(st.integers(0, 40))
        content[start:stop] = data.draw(st.binary(max_size=40) | st.just(GOOD[stop : stop + 60]))
    loads_or_is_refused(scratch, bytes(content))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_mutated_values_with_a_right_checksum(scratch, data):
    meta = meta_of(make())
    place, key = meta, data.draw(st.sampled_from(sorted(meta)))
    while isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
        place[key] = dict(place[key])
        place, key = place[key], data.draw(st.sampled_from(sorted(place[key])))
    place[key] = data.draw(VALUES)
    text = json.dumps(meta, separators=(",", ":"), ensure_ascii=False)
    loads_or_is_refused(scratch, forge(members_of(make(), text.encode(errors="surrogatepass"))))


# --- saving --------------------------------------------------------------------------------------


def test_saved_over_the_one_before(tmp_path):
    saved(tmp_path / "a.npz", make(seed=1))
    saved(tmp_path / "a.npz", make(seed=2))
    assert same(load_checkpoint(tmp_path / "a.npz"), make(seed=2))
    assert names(tmp_path) == ["a.npz"]


def test_written_synced_renamed_synced(tmp_path, monkeypatch):
    """The order that makes a save safe, and what is on the disk at each point of it."""
    path = tmp_path / "a.npz"
    old = saved(path, make(seed=1))
    new = forge(members_of(make(seed=2)))
    seen: list[str] = []
    fsync, rename = os.fsync, os.replace

    def watch_fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            seen.append("sync directory")
            assert path.read_bytes() == new
        else:
            seen.append("sync file")
            (part,) = tmp_path.glob(".a.npz.*.part")
            assert part.read_bytes() == new
            assert path.read_bytes() == old
        fsync(descriptor)

    def watch_rename(source: Path, target: Path) -> None:
        seen.append("rename")
        assert Path(source).parent == tmp_path
        rename(source, target)

    monkeypatch.setattr(os, "fsync", watch_fsync)
    monkeypatch.setattr(os, "replace", watch_rename)
    save_checkpoint(path, make(seed=2))
    expected = ["sync file", "rename", "sync directory"]
    assert seen == expected[: 2 if os.name == "nt" else 3]


def test_link_is_replaced_not_followed(tmp_path):
    """64."""
    (tmp_path / "elsewhere").write_text("precious")
    link(tmp_path / "a.npz", "elsewhere")
    saved(tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").is_symlink()
    assert (tmp_path / "elsewhere").read_text() == "precious"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_diverged_numbers_are_not_saved(tmp_path, bad):
    path = tmp_path / "a.npz"
    good = make()
    saved(path, good)
    assert good.training is not None
    weight = good.parameters["C1.weight"].copy()
    weight[0, 0, 1, 1] = bad
    velocity = np.full_like(good.training.parameters, bad)
    for name, broken in {
        "parameters/C1.weight": replace(good, parameters=good.parameters | {"C1.weight": weight}),
        "training/optimizer/v": replace(
            good, training=replace(good.training, optimizer={"v": velocity})
        ),
        "val_loss": replace(good, metrics={"val_loss": bad}),
        "loss": replace(good, training=replace(good.training, progress={"loss": bad})),
    }.items():
        assert f"{path}: {name}: " in fails(path, broken, GateFailed)


def test_what_would_be_refused_is_not_saved(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    saved(path)
    fails(path, replace(make(), dataset=""), CheckpointError)
    fails(path, replace(make(), facts={str(i): "x" * 200 for i in range(6000)}), CheckpointError)
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    assert "meta.model" in fails(path, make(), CheckpointError)


def test_arrays_of_another_type_or_size_are_an_internal_error(tmp_path):
    good = make()
    assert good.training is not None
    doubles = {name: a.astype(np.float64) for name, a in good.parameters.items()}
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path / "a.npz", replace(good, parameters=doubles))
    short = replace(good.training, parameters=good.training.parameters[:-1])
    with pytest.raises(ValueError, match="reshape"):
        save_checkpoint(tmp_path / "a.npz", replace(good, training=short))
    assert names(tmp_path) == []


def test_file_and_directory_in_the_way(tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be written" in fails(tmp_path / "file" / "a.npz", make(), SystemFailure)
    (tmp_path / "a.npz").mkdir()
    (tmp_path / "a.npz" / "b").touch()
    assert "cannot be written" in fails(tmp_path / "a.npz", make(), SystemFailure)


def test_read_only_directory(bound_by_permissions):
    saved(bound_by_permissions / "a.npz")
    bound_by_permissions.chmod(0o500)
    message = fails(bound_by_permissions / "a.npz", make(seed=2), SystemFailure)
    assert "cannot be written: Permission denied; free space, or choose" in message


SCRIPT = f"""
import sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[1] / "helpers")!r})
from pathlib import Path
from checkpoints import fails, make, names, network, same, saved
from lenet.errors import SystemFailure
from lenet.checkpoint.checkpoint import load_checkpoint, save_checkpoint
"""


def run(body: str, *before: str, **arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``body`` after ``SCRIPT`` in a fresh process."""
    return subprocess.run(
        [*before, sys.executable, "-c", SCRIPT + body, *map(str, arguments.values())],
        capture_output=True,
        text=True,
        timeout=60,
        env=ENVIRONMENT,
        cwd=Path(__file__).resolve().parents[2],
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of files")
@pytest.mark.parametrize("limit", [0, 1, 500, 2500])
def test_file_size_limit(tmp_path, limit):
    """51: the limit is the system's own; the checkpoint has some 3.4 KB."""
    path = tmp_path / "a.npz"
    saved(path)
    body = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
print(fails(Path(sys.argv[1]), make(seed=2), SystemFailure))
"""
    done = run(body, path=path, limit=limit)
    assert done.returncode == 0, done.stderr
    assert "File too large; free space" in done.stdout
    assert same(load_checkpoint(path), make())
    assert names(tmp_path) == ["a.npz"]


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="mounts a file system as Linux does"
)
def test_full_file_system(tmp_path):
    """51: a file system of three pages, in a mount namespace of its own."""
    mount = ["unshare", "--user", "--map-root-user", "--mount"]
    try:
        probe = subprocess.run(
            [*mount, "mount", "-t", "tmpfs", "none", tmp_path], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if probe.returncode:
        pytest.skip(f"no mount namespaces here: {probe.stderr.decode().strip()}")
    body = """
import subprocess
folder = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12k", "none", folder], check=True)
saved(folder / "a.npz")
(folder / "full").write_bytes(bytes(4096))
print(fails(folder / "a.npz", make(seed=2), SystemFailure))
assert same(load_checkpoint(folder / "a.npz"), make())
assert names(folder) == ["a.npz", "full"]
"""
    done = run(body, *mount, path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "No space left on device; free space" in done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_killed_before_every_line_of_a_save(tmp_path):
    """54: kill -9 leaves the old checkpoint or the new one, whole; the next start cleans up."""
    body = """
import os, signal, zipfile
import lenet.system.files
from lenet.system.files import clean_leftovers
from lenet.checkpoint import archive, checkpoint
folder, path = Path(sys.argv[1]), Path(sys.argv[1]) / "a.npz"
old, new = (make(network(state=False), seed=seed) for seed in (1, 2))
files = {checkpoint.__file__, archive.__file__, zipfile.__file__, lenet.system.files.__file__}
steps = {"save_checkpoint", "write_archive", "put", "replacing", "_beside", "_sync_directory"}
steps |= {"_write_end_record", "_rename"}
leftovers = states = kills = 0
killed = True
while killed:
    saved(path, old)
    child = os.fork()
    if not child:
        lines = 0
        def trace(frame, event, _):
            global lines
            if frame.f_code.co_filename not in files or frame.f_code.co_name not in steps:
                return None
            lines += event == "line"
            if lines > kills:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace
        sys.settrace(trace)
        save_checkpoint(path, new)
        os._exit(0)
    killed = os.waitpid(child, 0)[1] != 0
    kills += killed
    loaded = load_checkpoint(path, resume=True)
    assert same(loaded, old) or same(loaded, new)
    states |= 1 if same(loaded, old) else 2
    leftovers += len(names(folder)) - 1
    clean_leftovers(folder)
    assert names(folder) == ["a.npz"]
print(kills, leftovers, states)
"""
    done = run(body, path=tmp_path)
    assert done.returncode == 0, done.stderr
    kills, leftovers, states = map(int, done.stdout.split())
    assert kills > 80
    assert leftovers > 50
    assert states == 3  # both the old and the new one were met


def test_leftovers_are_ours_alone(tmp_path):
    kept = ["last.npz", ".last.npz.part", ".a.0123456789abcdef.part~", "0123456789abcdef.part"]
    for name in (*kept, ".last.npz.0123456789abcdef.part"):
        (tmp_path / name).touch()
    (tmp_path / ".dir.npz.0123456789abcdef.part").mkdir()
    link(tmp_path / ".link.npz.0123456789abcdef.part", "last.npz")
    clean_leftovers(tmp_path)
    expected = [*kept, ".dir.npz.0123456789abcdef.part", ".link.npz.0123456789abcdef.part"]
    assert names(tmp_path) == sorted(expected)
    clean_leftovers(tmp_path / "none")


@pytest.mark.parametrize("name", ["", "b" * 201])
def test_a_class_name_that_cannot_be_stored_is_named(tmp_path, name):
    names = (name, *make().class_names[1:])
    message = fails(tmp_path / "a.npz", replace(make(), class_names=names), DataError)
    assert "class_names: the name of class 0 has" in message

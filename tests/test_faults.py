"""The faults of docs/faults.md: exit codes, one-line messages, and files left unchanged.

What each module does with a fault, in every variant, is in its own tests; here a user meets it.
"""

from __future__ import annotations

import encodings.utf_8_sig  # noqa: F401 - a user without permissions may not load it
import gzip
import hashlib
import io
import json
import os
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
import urllib.request
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from command import ERROR, Ended
from forged import Canary, forge, npy, zipped
from runs import children
from tiny import write_bars

from lenet.checkpoint.checkpoint import save_checkpoint
from lenet.checkpoint.restore import read_checkpoint
from lenet.cli import main
from lenet.config.reader import load_config
from lenet.config.schema import Config
from lenet.config.writer import to_yaml
from lenet.data import download
from lenet.data.catalogue import CATALOGUE, ROLES
from lenet.data.formats.idx import write_idx
from lenet.parallel.communicator import Communicator
from lenet.parallel.process_group import ProcessGroup
from lenet.train.callbacks import Display
from lenet.train.events import Callback
from lenet.train.run import run_training

ROOT = Path(__file__).resolve().parent.parent
POSIX = pytest.mark.skipif(os.name != "posix", reason="a fault that only POSIX systems know")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="a fault caused by means of Linux")


def contents(*folders: Path) -> dict[Path, str]:
    """What is in every file below: its kind and its SHA-256. The lock of a run is no content."""
    found = {}
    for path in (path for folder in folders for path in folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and path.name != ".lock":
            found[path] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif not stat.S_ISDIR(mode) and path.name != ".lock":
            found[path] = str(path.readlink()) if stat.S_ISLNK(mode) else f"{stat.S_IFMT(mode):o}"
    return found


@pytest.fixture
def refuses(lenet, tmp_path, tiny):
    """Call the command line, which must refuse: one line with ``words``, no file touched."""

    def call(code: int, *arguments: object, words: tuple[object, ...]) -> str:
        before = contents(tmp_path, tiny.parent)
        ended = lenet(*arguments)
        assert (ended.code, ended.out) == (code, ""), ended
        line = ERROR.fullmatch(ended.err)
        assert line, ended.err
        assert line[0][:-1].isprintable()
        for word in words:
            assert str(word) in ended.err
        assert contents(tmp_path, tiny.parent) == before
        return line[1]

    return call


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A configuration file of a small network and a tiny data set, its files beside it."""
    place = tmp_path_factory.mktemp("tiny")
    small = {"model.units": [30, 20]}
    (place / "tiny.yaml").write_text(to_yaml(Config().with_values({**write_bars(place), **small})))
    return place / "tiny.yaml"


@pytest.fixture(scope="module")
def finished(tiny) -> Path:
    """The directory of a finished run of two epochs."""
    with pytest.raises(SystemExit) as end:
        main(["train", "--config", str(tiny), "--output", str(tiny.parent / "run"), "--quiet"])
    assert end.value.code == 0
    return tiny.parent / "run"


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of that directory, to spoil."""
    (tmp_path / "run").mkdir()
    for path in finished.iterdir():
        (tmp_path / "run" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "run"


@pytest.fixture
def halfway(tiny, tmp_path) -> Path:
    """The directory of a run that SIGTERM has stopped in its second epoch."""

    class Stop(Callback):
        def on_step(self, event, snapshot) -> None:
            if event.step == 11:
                signal.raise_signal(signal.SIGTERM)

    config = load_config(tiny).with_values({"output.dir": str(tmp_path / "half")})
    run_training(config, callbacks=[Stop()])
    return tmp_path / "half"


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail, rather than wait for ever, where something blocks."""

    def late(*_: object) -> None:
        raise TimeoutError(f"blocks for more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def command(*arguments: object, before: str = "") -> list[str]:
    """The command line as a program of its own; ``before`` is Python that runs first."""
    if before:
        start = f"import os, sys\n{before}\nfrom lenet.cli import main\nmain()"
        return [sys.executable, "-c", start, *map(str, arguments)]
    return [sys.executable, "-m", "lenet", *map(str, arguments)]


def environment(**changes: str) -> dict[str, str]:
    usual = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    return {**os.environ, **usual, **changes}


def process(*arguments: object, before: str = "", env: dict[str, str] | None = None) -> Ended:
    done = subprocess.run(
        command(*arguments, before=before),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        cwd=ROOT,
        env=env or environment(),
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@contextmanager
def running(tiny: Path, output: Path, workers: int = 1, *options: str):
    """A run in the middle of its work, with no end of its own."""
    with subprocess.Popen(
        command(
            *("train", "--config", tiny, "--output", output, "--workers", workers, "--quiet"),
            *("--set", "train.epochs=100000", *options),
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    ) as started:
        try:
            while not (output / "last.npz").exists():
                assert started.poll() is None, started.communicate()
                time.sleep(0.02)
            yield started
        finally:
            started.kill()


def log_rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def same_weights(a: Path, b: Path) -> bool:
    ours, theirs = (read_checkpoint(path / "last.npz").parameters for path in (a, b))
    return all(np.array_equal(ours[name], theirs[name]) for name in theirs)


# --- Configuration: 1 to 15 ----------------------------------------------------------------------

BILLION = "a: &a [ha]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in ("ab", "bc", "cd"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(content, words, id=f"{row} {words[0]}")
        for row, content, *words in [
            (1, b"", "is empty"),
            (1, b"- seed\n", "top level"),
            (2, b"train:\n  epochs: [1\nseed: 1\n", "line 3, column 5"),
            (4, b"optimizer:\n  lr: '0.1'\n", "optimizer.lr", "without quotes"),
            (5, b"seed: 1\ntrain: {epochs: 1}\nseed: 2\n", "seed: ", "lines 1 and 3"),
            (6, b"optimizer: {momentun: 1}", "did you mean optimizer.momentum?"),
            (6, b"model: {lr: 1}", "did you mean optimizer.lr, in section optimizer?"),
            (7, b"train: {epochs: [8]}", "train.epochs"),
            (7, b"train: {epochs: true}", "train.epochs: ", "true"),
            *((8, f"optimizer: {{lr: {lr}}}".encode(), "optimizer.lr") for lr in (0, -1, ".nan")),
            (8, b"optimizer: {lr: .inf}", "optimizer.lr"),
            (9, b"train: {batch_size: 0}", "train.batch_size"),
            (9, b"train: {batch_size: -64}", "train.batch_size"),
            (11, b"train: {epochs: 0}", "train.epochs"),
            (11, b"train: {epochs: " + b"9" * 50 + b"}", "train.epochs"),
            (11, b"seed: -1", "seed"),
            (12, BILLION.encode(), "anchors", "line 1, column 4"),
            (12, b"seed: 1\ntrain: *t\n", "aliases", "line 2, column 8"),
            (12, b"train:\n  <<: {epochs: 1}\n", "merge keys", "line 2, column 3"),
            (13, b"a: " + b"[" * 30 + b"]" * 30, "nested more than 20 levels"),
            (13, b"#" * 70_000, "longer than 64 KiB"),
            (14, b"seed: !!python/object/apply:os.mkdir [canary]", "tags"),
            (15, b"seed: 1\n# \xff\n", "not UTF-8", "line 2, column 3"),
            (15, b"seed: 1\n# \0\n", "U+0000", "line 2, column 3"),
            (15, b"seed: 1\n---\nseed: 2\n", "second document", "line 2, column 1"),
        ]
    ],
)
def test_configuration(refuses, tmp_path, monkeypatch, content, words):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    line = refuses(2, "train", "--config", file, words=words)
    assert line.startswith(f"{file}: ")
    assert list(tmp_path.iterdir()) == [file]  # and no directory, of a run or of the tag's


def test_1_configuration_missing_or_a_directory(refuses, tmp_path):
    refuses(2, "train", "--config", tmp_path / "none", words=(tmp_path / "none", "does not exist"))
    refuses(2, "train", "--config", tmp_path, words=(tmp_path, "is a directory"))


def test_3_a_number_as_people_write_it(lenet, tmp_path):
    (tmp_path / "run.yaml").write_text("optimizer:\n  lr: 1e-3\n")
    ended = lenet("config", "--config", tmp_path / "run.yaml")
    assert (ended.code, ended.err) == (0, "")
    assert "  lr: 0.001\n" in ended.out


def test_10_a_batch_larger_than_the_data(refuses, tiny, tmp_path):
    train = ("train", "--config", tiny, "--output", tmp_path / "run")
    words = ("train.batch_size", "is 241, but there are 240 images", "at most 240")
    refuses(2, *train, "--set", "train.batch_size=241", words=words)


# --- Data files: 16 to 25 ------------------------------------------------------------------------


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place:][1:]


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
def test_data(refuses, tiny, tmp_path, role, spoil, words):
    file = tmp_path / "spoilt.gz"
    file.write_bytes(spoil((tiny.parent / f"train-{role}").read_bytes()))
    line = refuses(
        *(3, "train", "--config", tiny, "--output", tmp_path / "run"),
        *("--set", f"data.train_{role}={file}"),
        words=words,
    )
    assert line.startswith(f"{file}: ")


def test_18_images_and_labels_swapped(refuses, tiny, tmp_path):
    images, labels = (tiny.parent / f"train-{role}" for role in ("images", "labels"))
    swapped = (f"data.train_images={labels}", f"data.train_labels={images}")
    refuses(
        *(3, "train", "--config", tiny, "--output", tmp_path / "run"),
        *(part for value in swapped for part in ("--set", value)),
        words=(f"{labels}: ", "exchange images and labels"),
    )


def test_21_images_larger_than_the_network_takes(refuses, tiny, tmp_path):
    write_idx(tmp_path / "large", np.zeros((300, 40, 40), np.uint8))
    refuses(
        *(3, "train", "--config", tiny, "--output", tmp_path / "run"),
        *("--set", f"data.train_images={tmp_path / 'large'}"),
        words=(f"{tmp_path / 'large'}: ", "40×40", "32"),
    )


def test_25_a_corrupt_cached_file_without_network(refuses, tmp_path, monkeypatch, dead_proxy):
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


@pytest.fixture
def dead_proxy(monkeypatch) -> None:
    """Every request goes to a port of this machine where nobody listens."""
    monkeypatch.setattr(urllib.request, "_opener", None)  # it remembers proxies
    monkeypatch.delenv("LENET_DATA_DIR", raising=False)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


# --- Checkpoints: 26 to 42 -----------------------------------------------------------------------

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
def test_checkpoint(refuses, tiny, run, tmp_path, monkeypatch, spoil, words):
    """Refused alike for evaluation and for going on, where no earlier one is there to take."""
    monkeypatch.chdir(tmp_path)
    last = run / "last.npz"
    last.write_bytes(spoil(members_of(last)))
    (run / "previous.npz").unlink()
    for command_ in (("eval", last), ("train", "--output", run, "--resume")):
        line = refuses(3, *command_, words=words)
        assert line.startswith(f"{last}: ")
    assert not (tmp_path / "canary").exists()


def test_26_a_checkpoint_that_is_missing(refuses, run, tmp_path):
    words = (f"{tmp_path / 'none.npz'}: ", "there is no such file")
    refuses(3, "eval", tmp_path / "none.npz", words=words)
    (run / "last.npz").unlink()
    (run / "previous.npz").unlink()
    words = (f"{run / 'last.npz'}: ", "there is no such file")
    refuses(3, "train", "--output", run, "--resume", words=words)


def test_38_a_checkpoint_from_before_a_key_existed(lenet, run):
    members = members_of(run / "best.npz")
    meta = json.loads(members[0][1][128:])
    del meta["config"]["schedule"], meta["config"]["train"]["block"]
    older = json.dumps(meta, separators=(",", ":"), ensure_ascii=False).encode()
    (run / "best.npz").write_bytes(forge(put(members, 0, text(older))))
    ended = lenet("eval", run / "best.npz")
    assert (ended.code, ended.err) == (0, "")


def test_39_a_checkpoint_without_training_state(lenet, refuses, run):
    bare = replace(read_checkpoint(run / "last.npz"), training=None)
    save_checkpoint(run / "last.npz", bare)
    (run / "previous.npz").unlink()
    assert lenet("eval", run / "last.npz").code == 0
    refuses(3, "train", "--output", run, "--resume", words=(run / "last.npz", "not resumed"))


def test_40_resume_with_another_configuration(refuses, tiny, halfway):
    options = ("--set", "optimizer.lr=0.2", "--seed", "9")
    refuses(
        *(3, "train", "--config", tiny, "--output", halfway, "--resume", *options),
        words=(halfway / "last.npz", "seed, optimizer.lr: "),
    )


def test_41_resume_on_another_machine_is_a_warning(lenet, halfway):
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
def test_42_a_pipe_or_a_device_for_a_file(refuses, tiny, finished, tmp_path, kind):
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
def test_42_what_is_in_dev_is_not_replaced(refuses, finished, name):
    """As the superuser a rename would put a file there."""
    path = Path("/dev") / name
    before = path.lstat()
    refuses(4, "report", finished, "--out", path, words=(f"{path}: is a pipe, socket or device",))
    assert os.path.samestat(path.lstat(), before)


# --- Images: 43 to 47 ----------------------------------------------------------------------------


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
def test_image(refuses, tmp_path, content, words):
    pytest.importorskip("PIL", reason="Pillow is not installed")
    path = tmp_path / "digit.png"
    path.write_bytes(content)
    assert refuses(3, "predict", "pretrained", path, words=words).startswith(f"{path}: ")


def test_45_colour_16_bits_palette_and_transparency_are_one_digit(lenet, tmp_path, tiny):
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


def test_46_and_47_one_bad_file_among_many_and_names_that_are_not_text(lenet, tmp_path):
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


# --- Command line: 48 to 50 ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tarin"], ["tarin", "--help"]),
        (["train", "--bogus"], ["--bogus", "lenet train --help"]),
        (["train", "--resume", "--overwrite"], ["exclude each other"]),
        (["train", "--workers", "0"], ["train.workers"]),
        (["summary", "x.npz", "--set", "seed=1"], ["CHECKPOINT"]),
        (["eval", "a.npz", "b.npz", "--mistakes", "x.png"], ["--mistakes"]),
    ],
    ids=" ".join,
)
def test_48_options_unknown_or_in_conflict(refuses, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    refuses(2, *arguments, words=words)


def test_49_a_directory_with_a_run_in_it(refuses, tiny, run):
    words = (f"{run}: ", "--resume", "--overwrite")
    refuses(2, "train", "--config", tiny, "--output", run, words=words)


def test_49_the_old_run_stays_until_the_new_one_begins(refuses, tiny, run):
    """What can be refused is refused before --overwrite removes anything."""
    overwrite = ("train", "--config", tiny, "--output", run, "--overwrite")
    refuses(3, *overwrite, "--set", "data.train_images=none", words=("none: ",))
    refuses(2, *overwrite, "--set", "train.batch_size=999", words=("train.batch_size",))


def test_50_nothing_to_resume_from(refuses, tiny, tmp_path):
    resume = ("train", "--config", tiny, "--resume", "--output")
    refuses(2, *resume, tmp_path / "none", words=(f"{tmp_path / 'none'}: ", "leave out --resume"))
    assert not (tmp_path / "none").exists()


# --- Environment: 51 to 65 -----------------------------------------------------------------------


@POSIX
def test_51_a_file_size_limit_while_training(tiny, tmp_path):
    """The limit is the system's own; checkpoints of LeNet-5 have 740 KB, of this network 8."""
    output = tmp_path / "run"
    with running(tiny, output) as started:
        started.send_signal(signal.SIGINT)
        started.communicate(timeout=20)
    before = contents(output)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, -1))"
    # A measurement of coverage would not fit either.
    env = {k: v for k, v in environment().items() if not k.startswith("COVERAGE")}
    ended = process("train", "--output", output, "--resume", "--quiet", before=limit, env=env)
    assert (ended.code, ended.out) == (4, "")
    line = ERROR.fullmatch(ended.err)
    assert line, ended.err
    assert "File too large" in line[1]
    after = contents(output)
    assert after[output / "last.npz"] == before[output / "last.npz"]
    assert after.keys() == before.keys()  # nothing temporary
    assert read_checkpoint(output / "last.npz", resume=True).step > 0


def test_52_a_read_only_directory(lenet, bound_by_permissions):
    folder = bound_by_permissions
    for name in ("training.run", "cli.train", "config.strict_yaml", "data.strokes"):
        import_module(f"lenet.{name}")  # which this user may not be allowed to read
    (folder / "run.yaml").write_text(to_yaml(Config().with_values(write_bars(folder))))
    (folder / "closed").mkdir(mode=0o500)
    before = contents(folder)
    for output in (folder / "closed", folder / "closed" / "run"):
        ended = lenet("train", "--config", folder / "run.yaml", "--output", output)
        assert (ended.code, ended.out) == (4, ""), ended.err
        assert ERROR.fullmatch(ended.err)
        assert f"{output}: cannot be written to: Permission denied" in ended.err
    assert contents(folder) == before


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("whom", ["main", "worker"])
def test_53_a_signal_saves_and_ends_within_a_few_steps(tiny, tmp_path, number, whom):
    if whom == "worker" and not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc to see processes")
    output = tmp_path / "run"
    with running(tiny, output, 2) as started:
        pids = [started.pid]
        if whom == "worker":
            pids = [
                pid
                for pid in children(started.pid)
                if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
            ]
        before = read_checkpoint(output / "last.npz").step
        os.kill(pids[0], number)
        _, err = started.communicate(timeout=60)
    assert before < read_checkpoint(output / "last.npz").step < before + 500
    assert started.returncode == 128 + number, err
    assert err.count("\n") == 1
    assert "--resume" in err
    assert len(log_rows(output)) == read_checkpoint(output / "last.npz", resume=True).epoch
    assert not list(output.glob(".*.part"))


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_53_a_second_signal_ends_at_once(lenet, tiny, tmp_path, monkeypatch, number):
    """Without another step, and without saving; what was saved before stays."""

    def receive_two(display, event, snapshot) -> None:
        if event.step == 11:
            signal.raise_signal(number)
            signal.raise_signal(number)
            raise AssertionError("the run goes on")

    monkeypatch.setattr(Display, "on_step", receive_two)
    ended = lenet("train", "--config", tiny, "--output", tmp_path / "run")
    assert (ended.code, ended.out) == (128 + number, "")
    assert ended.err.endswith("\nlenet: error: interrupted; the last checkpoint is complete\n")
    assert read_checkpoint(tmp_path / "run" / "last.npz", resume=True).step == 8
    assert not list(tmp_path.rglob(".*.part"))


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [0, 0.1, 0.3])
def test_53_a_signal_to_all_processes_while_they_start(tiny, tmp_path, number, seconds):
    """Ctrl-C before there is anything to save: one line, wherever it strikes."""
    output = tmp_path / "run"
    with subprocess.Popen(
        command("train", "--config", tiny, "--output", output, "--workers", 2, "--quiet"),
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    ) as started:
        while not (output / ".lock").exists():
            assert started.poll() is None
            time.sleep(0.005)
        time.sleep(seconds)
        if started.poll() is None:
            os.killpg(started.pid, number)
        _, err = started.communicate(timeout=60)
    assert "Traceback" not in err
    assert err.count("\n") <= 1
    assert not list(tmp_path.rglob(".*.part"))


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_53_a_signal_after_all_is_done_changes_nothing(number):
    """Even when the interpreter ends already: the result is out, and the exit code is its own."""
    late = f"import atexit, signal; atexit.register(signal.raise_signal, {int(number)})"
    ended = process("config", before=late)
    assert (ended.code, ended.err) == (0, "")
    assert process("config", "--set", "train.epochs=0", before=late).code == 2


@POSIX
def test_54_kill_9_and_resume(tiny, lenet, tmp_path):
    """Old or new, the checkpoint is whole; what the killed process left is cleaned up."""
    output = tmp_path / "run"
    with running(tiny, output, 1, "--set", "train.checkpoint_every=1") as started:
        started.kill()
    (output / ".last.npz.0123456789abcdef.part").write_bytes(b"half a chec")
    (output / ".lock").touch()
    held = read_checkpoint(output / "last.npz", resume=True)
    config = load_config(output / "config.yaml").with_values({"train.epochs": held.epoch + 1})
    save_checkpoint(output / "last.npz", replace(held, config=config))
    (output / "config.yaml").write_text(to_yaml(config))
    assert lenet("train", "--output", output, "--resume", "--quiet").code == 0
    assert read_checkpoint(output / "last.npz").epoch == held.epoch + 1
    assert [row["epoch"] for row in log_rows(output)] == list(range(1, held.epoch + 2))
    assert not list(output.glob(".*.part"))


def test_55_the_newest_checkpoint_is_corrupt(lenet, refuses, finished, halfway):
    newest = halfway / "last.npz"
    newest.write_bytes(flipped(newest.read_bytes(), 5000))
    spoilt = newest.read_bytes()
    ended = lenet("train", "--output", halfway, "--resume", "--quiet")
    assert ended.code == 0
    assert re.fullmatch(
        rf"lenet: warning: {re.escape(str(newest))}: .*: "
        rf"resuming from {re.escape(str(halfway / 'previous.npz'))}, step 8\n",
        ended.err,
    )
    assert same_weights(halfway, finished)
    (halfway / "previous.npz").write_bytes(spoilt)
    newest.write_bytes(spoilt)
    refuses(3, "train", "--output", halfway, "--resume", words=(halfway / "previous.npz",))


@LINUX
@pytest.mark.parametrize("workers", [1, 2])
def test_56_out_of_memory(tiny, tmp_path, workers):
    """A limit on the address space, 24 MiB above what the program itself takes."""
    limit = """if __name__ == "__main__":
    import resource, lenet.train.run, lenet.cli.train
    taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (24 << 20),) * 2)
"""
    ended = process(
        *("train", "--config", tiny, "--output", tmp_path / "run", "--workers", workers),
        *("--set", "model.channels=[256,512]", "--set", "train.batch_size=240", "--quiet"),
        before=limit,
    )
    assert (ended.code, ended.out) == (4, ""), ended.err
    assert ended.err.startswith("lenet: error: out of memory; use a smaller train.batch_size")
    assert ended.err.count("\n") == 1
    assert contents(tmp_path) == {}


def takes_too_much(workers: Communicator, arrays: object, job: object) -> None:
    if workers.rank:
        np.empty(1 << 50)
    workers.barrier()


def test_56_out_of_memory_in_a_worker():
    with pytest.raises(MemoryError), ProcessGroup(2) as group:
        takes_too_much(group.start(takes_too_much, {}, None), {}, None)


def test_57_divergence_leaves_the_last_finite_checkpoint(refuses, halfway):
    """A run of good epochs that diverges: one step of an optimizer gone mad is enough."""
    held = read_checkpoint(halfway / "last.npz", resume=True)
    assert held.training is not None
    rng = np.random.default_rng(0)
    mad = {
        name: (1e30 * rng.normal(size=v.shape)).astype(v.dtype)
        for name, v in held.training.optimizer.items()
    }
    training = replace(held.training, optimizer=mad)
    save_checkpoint(halfway / "last.npz", replace(held, training=training))
    words = ("optimizer.lr: ", "at step 14 with learning rate", "diverged")
    refuses(5, "train", "--output", halfway, "--resume", "--quiet", words=words)
    for name in ("last.npz", "best.npz", "previous.npz"):
        read_checkpoint(halfway / name)  # which refuses what is not finite


@POSIX
def test_58_two_runs_in_one_directory(lenet, tiny, tmp_path):
    output = tmp_path / "run"
    train = ("train", "--config", tiny, "--output", output)
    with running(tiny, output) as first:
        for option in ("--resume", "--overwrite"):
            second = lenet(*train, option)
            assert (second.code, second.out) == (4, "")
            assert ERROR.fullmatch(second.err)
            assert f"{output}: another run is in this directory right now" in second.err
        assert first.poll() is None  # nobody waited for its end
        first.kill()
        first.wait()
    third = lenet(*train, "--overwrite", "--quiet")
    assert (third.code, third.err) == (0, "")


def test_59_the_clock_goes_backwards(lenet, finished, halfway, monkeypatch):
    """An hour with every look; files are dated the wrong way round. Order is by step."""
    os.utime(halfway / "last.npz", (0, 0))
    os.utime(halfway / "previous.npz", (2**31, 2**31))
    now = iter(range(2**31, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    ended = lenet("train", "--output", halfway, "--resume")
    assert ended.code == 0
    assert same_weights(halfway, finished)
    rows = log_rows(halfway)
    assert [row["step"] for row in rows] == [8, 16]
    assert all(row["seconds"] > 0 and row["images_per_second"] > 0 for row in rows)


@POSIX
@pytest.mark.parametrize(("term", "draws"), [("dumb", False), ("xterm", True)])
def test_60_a_terminal_without_escape_codes(tiny, tmp_path, term, draws):
    """On a terminal of our own, where the bar is drawn unless it is dumb."""
    pty = pytest.importorskip("pty")
    termios = import_module("termios")
    mine, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with subprocess.Popen(
        command("train", "--config", tiny, "--output", tmp_path / "run"),
        stdout=theirs,
        stderr=theirs,
        env=environment(TERM=term),
    ) as started:
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(mine, 4096):
                seen += part
        except OSError:  # Linux says so when the other side is closed
            pass
    os.close(mine)
    assert started.returncode == 0
    assert b"epoch 2/2  lr" in seen
    drawn = seen.replace(b"\r\n", b"\n")
    assert (b"\r" in drawn) == draws
    if not draws:
        assert not re.search(rb"[\x00-\x09\x0b-\x1f]", drawn)


def test_60_no_terminal(lenet, tiny, tmp_path):
    ended = lenet("train", "--config", tiny, "--output", tmp_path / "run")
    assert ended.code == 0
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", ended.out + ended.err)


@POSIX
@pytest.mark.parametrize("streams", ["stderr", "both"])
def test_61_a_broken_pipe_while_training_saves_first(tiny, tmp_path, streams):
    output = tmp_path / "run"
    with subprocess.Popen(
        command("train", "--config", tiny, "--output", output, "--set", "train.epochs=100000"),
        stdout=subprocess.PIPE if streams == "both" else subprocess.DEVNULL,
        stderr=subprocess.STDOUT if streams == "both" else subprocess.PIPE,
        env=environment(),
    ) as started:
        reader = started.stdout or started.stderr
        assert reader is not None
        assert b"training on idx" in reader.readline()
        reader.close()
        assert started.wait(20) == 141
    held = read_checkpoint(output / "last.npz", resume=True)
    assert held.step > 0
    assert len(log_rows(output)) == held.epoch


@POSIX
def test_61_a_broken_pipe_for_results():
    with subprocess.Popen(
        command("config"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as started:
        assert started.stdout is not None
        started.stdout.close()
        _, err = started.communicate(timeout=20)
    assert (started.returncode, err) == (141, b"")


def test_62_a_dead_proxy(refuses, tmp_path, monkeypatch, dead_proxy):
    """Every mirror is tried, in at most 60 s; then the line says what to do by hand."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sums = [CATALOGUE["mnist"].archives[role].content_sha256 for role in ROLES]
    refuses(
        *(4, "data", "fetch", "mnist"),
        words=(
            *("storage.googleapis.com: ", "ossci-datasets.s3.amazonaws.com: ", "refused"),
            *(f"put them into {tmp_path / 'lenet' / 'mnist'} (SHA-256", *(s[:12] for s in sums)),
        ),
    )
    assert download.SECONDS_PER_WAIT * len(CATALOGUE["mnist"].mirrors) <= 60


@POSIX
def test_63_a_home_that_cannot_be_written(tmp_path, tiny, lenet, monkeypatch):
    monkeypatch.setenv("HOME", "/dev/null/nobody")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    ended = lenet("train", "--config", tiny, "--output", tmp_path / "run", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    assert lenet("data", "list").code == 0


@POSIX
def test_63_a_working_directory_that_is_gone(tiny, tmp_path):
    gone = f"""if __name__ == "__main__":
    os.mkdir({str(tmp_path / "gone")!r})
    os.chdir({str(tmp_path / "gone")!r})
    os.rmdir(os.getcwd())
"""
    safe = environment(PYTHONSAFEPATH="1")  # as a command has it: it looks for no modules here
    train = ("train", "--config", tiny, "--quiet", "--output")
    ended = process(*train, "run", before=gone, env=safe)
    assert (ended.code, ended.out) == (4, "")
    assert ERROR.fullmatch(ended.err)
    assert "run: cannot be written to" in ended.err
    ended = process(*train, tmp_path / "run", "--workers", 2, before=gone, env=safe)
    assert (ended.code, ended.out) == (4, "")  # Python starts no other process from there
    assert ERROR.fullmatch(ended.err)
    assert "train.workers: worker 1 cannot be started" in ended.err
    ended = process(*train, tmp_path / "run", before=gone, env=safe)
    assert (ended.code, ended.err) == (0, "")


@POSIX
@pytest.mark.parametrize("closed", ["1", "2", "1, 2"])
def test_63_closed_streams(tiny, tmp_path, closed):
    """The program starts without them, so that Python has none either."""
    close = (
        f"import os, sys; [os.close(n) for n in ({closed},)]; os.execv(sys.argv[1], sys.argv[1:])"
    )
    train = command("train", "--config", tiny, "--output", tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-c", close, *train], capture_output=True, env=environment(), cwd=ROOT
    )
    assert done.returncode == 0
    assert read_checkpoint(tmp_path / "run" / "last.npz").epoch == 2


@POSIX
def test_63_the_c_locale(tiny, tmp_path):
    """As Python treats it, with names beyond ASCII; and kept from turning it into UTF-8."""
    coerced = environment(LC_ALL="C")
    train = ("train", "--config", tiny, "--quiet", "--output")
    ended = process(*train, tmp_path / "é 数字", env=coerced)
    assert (ended.code, ended.err) == (0, "")
    assert (tmp_path / "é 数字" / "last.npz").exists()
    plain = {**coerced, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    ended = process("summary", tmp_path / "é 数字" / "last.npz", env=plain)
    assert (ended.code, ended.err) == (0, "")
    assert "1×32×32" in ended.out
    ended = process("eval", tmp_path / "nöne.npz", env=plain)
    assert (ended.code, ended.out) == (3, "")
    assert ERROR.fullmatch(ended.err)


@POSIX
def test_64_symbolic_links_for_output(lenet, tiny, tmp_path):
    """A link to a directory is a directory; a link in the place of a file is replaced."""
    (tmp_path / "real").mkdir()
    (tmp_path / "run").symlink_to("real")
    (tmp_path / "precious").write_text("mine")
    names = ("config.yaml", "log.jsonl", "log.csv", "last.npz", "previous.npz", "best.npz")
    for name in names:
        (tmp_path / "real" / name).symlink_to("../precious")
    train = ("train", "--config", tiny, "--output", tmp_path / "run", "--quiet", "--overwrite")
    assert lenet(*train).code == 0
    (tmp_path / "page.html").symlink_to("precious")
    assert lenet("report", tmp_path / "run", "--out", tmp_path / "page.html").code == 0
    for path in (tmp_path / "page.html", *(tmp_path / "real" / name for name in names)):
        assert path.is_file()
        assert not path.is_symlink()
    assert (tmp_path / "precious").read_text() == "mine"
    assert (tmp_path / "run").is_symlink()


# --- The rest ------------------------------------------------------------------------------------


def test_debug_adds_the_traceback(lenet, tmp_path):
    ended = lenet("--debug", "eval", tmp_path / "none.npz")
    assert ended.code == 3
    assert "Traceback" in ended.err
    assert ERROR.fullmatch(ended.err.splitlines(keepends=True)[-1])


@pytest.mark.parametrize("spoil", [lambda log: b"", lambda log: log[:-9], lambda log: b"[]\n" * 2])
def test_a_damaged_log_is_not_gone_on_with(refuses, run, spoil):
    (run / "log.jsonl").write_bytes(spoil((run / "log.jsonl").read_bytes()))
    words = (f"{run / 'log.jsonl'}: ", "2 epochs", "--overwrite")
    refuses(3, "train", "--output", run, "--resume", words=words)


def test_every_fault_is_in_the_table_with_tests_that_exist():
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| .+ \| .+ \| (.+) \|$", page, re.M)
    assert [int(number) for number, _ in rows] == list(range(1, 66))
    for number, tests in rows:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", tests)
        assert named, f"fault {number} has no test"
        for file, name in named:
            source = (ROOT / "tests" / file).read_text(encoding="utf-8")
            assert f"\ndef {name}(" in source, f"fault {number}: {file} has no {name}"

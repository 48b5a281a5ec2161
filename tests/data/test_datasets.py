"""Data sets by name and by path: found, fetched from a server of our own, checked.

A tiny data set of four files stands in for MNIST; its checksums are computed here.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import urllib.request
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from mirrors import endless, mirror, send, serve, stall, stall_within, trickle
from sets import load

from lenet.cli import cli
from lenet.data import cache as cache_module
from lenet.data import download
from lenet.data.catalogue import CATALOGUE, Archive, Bundle, Source
from lenet.data.formats.published import fetch, locate
from lenet.errors import ConfigError, DataError, LenetError, SystemFailure

NAMES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)


def idx(array) -> bytes:
    array = np.asarray(array, dtype=np.uint8)
    return struct.pack(f">2xBB{array.ndim}I", 8, array.ndim, *array.shape) + array.tobytes()


def gz(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


CONTENT = {
    "train_images": idx(PIXELS),
    "train_labels": idx([0, 1, 2, 1, 0]),
    "test_images": idx(PIXELS[:2]),
    "test_labels": idx([2, 0]),
}
GZ = {f"{NAMES[role]}.gz": gz(content) for role, content in CONTENT.items()}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache, no proxy (urllib remembers those it saw first), a data set of four files."""
    for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(urllib.request, "_opener", None)
    monkeypatch.delenv("LENET_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    archives = {
        role: Archive(NAMES[role], content_sha256=hashlib.sha256(content).hexdigest())
        for role, content in CONTENT.items()
    }
    monkeypatch.setitem(CATALOGUE, "tiny", Source("tiny", ("a", "b", "c"), archives))
    return tmp_path / "cache" / "lenet"


def fill(folder: Path, **contents: bytes) -> Path:
    """Write the four files of the tiny data set, or other ``contents`` in place of some."""
    folder.mkdir(parents=True, exist_ok=True)
    for role, content in (CONTENT | contents).items():
        (folder / f"{NAMES[role]}.gz").write_bytes(gz(content))
    return folder


def own(folder: Path, **contents: bytes) -> dict[str, Path]:
    """The same as files of the user's, by role, uncompressed."""
    folder.mkdir(exist_ok=True)
    paths = {role: folder / role for role in CONTENT}
    for role, content in (CONTENT | contents).items():
        paths[role].write_bytes(content)
    return paths


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- found on disk -------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "tiny"])
@pytest.mark.parametrize("packed", [True, False])
def test_the_named_directory_is_searched(tmp_path, below, packed):
    folder = fill(tmp_path / "here" / below)
    if not packed:
        for path in list(folder.iterdir()):
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
            path.unlink()
    split = load("tiny", "train", directory=tmp_path / "here")
    np.testing.assert_array_equal(split.images, PIXELS)
    np.testing.assert_array_equal(split.labels, [0, 1, 2, 1, 0])
    assert split.class_names == ("a", "b", "c")


def test_the_named_directory_comes_before_the_cache(tmp_path, cache):
    fill(cache / "tiny")
    assert locate("tiny", tmp_path)["test_images"] == cache / "tiny" / "t10k-images-idx3-ubyte.gz"
    fill(tmp_path / "here")
    assert locate("tiny", tmp_path / "here")["test_images"].parent == tmp_path / "here"
    np.testing.assert_array_equal(load("tiny", "test").labels, [2, 0])


def test_only_the_requested_split_is_read(tmp_path):
    fill(tmp_path / "here", train_images=b"rubbish", train_labels=b"rubbish")
    assert len(load("tiny", "test", directory=tmp_path / "here").images) == 2


def test_any_recompression_passes_and_a_changed_pixel_does_not(tmp_path):
    changed = bytearray(CONTENT["train_images"])
    changed[20] ^= 1
    folder = fill(tmp_path / "here", train_images=bytes(changed))
    before = tree(folder)
    with pytest.raises(DataError) as caught:
        load("tiny", "train", directory=folder)
    wrong = folder / "train-images-idx3-ubyte.gz"
    digest = hashlib.sha256(changed).hexdigest()[:12]
    assert str(caught.value).startswith(f"{wrong}: is not the published file: SHA-256 of its ")
    assert digest in str(caught.value)
    assert tree(folder) == before


def test_md5_is_of_the_archive_and_an_unpacked_file_passes(tmp_path, monkeypatch):
    name = "train-labels-idx1-ubyte"
    archives = {
        role: Archive(NAMES[role], gzip_md5=hashlib.md5(GZ[f"{NAMES[role]}.gz"]).hexdigest())
        for role in CONTENT
    }
    monkeypatch.setitem(CATALOGUE, "tiny", replace(CATALOGUE["tiny"], archives=archives))
    (tmp_path / "here").mkdir()
    for file_name, content in GZ.items():
        (tmp_path / "here" / file_name).write_bytes(content)
    assert len(load("tiny", "train", directory=tmp_path / "here").labels) == 5
    (tmp_path / "here" / f"{name}.gz").write_bytes(gzip.compress(CONTENT["train_labels"], 1))
    with pytest.raises(DataError, match="is not the published file: MD5 is"):
        load("tiny", "train", directory=tmp_path / "here")
    (tmp_path / "here" / f"{name}.gz").unlink()
    (tmp_path / "here" / name).write_bytes(CONTENT["train_labels"])
    assert len(load("tiny", "train", directory=tmp_path / "here").labels) == 5


def test_an_unpacked_file_of_another_data_set_is_recognised_by_its_content(tmp_path, monkeypatch):
    archives = {role: Archive(NAMES[role], gzip_md5="0" * 32) for role in CONTENT}
    monkeypatch.setitem(CATALOGUE, "other", replace(CATALOGUE["tiny"], archives=archives))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(CONTENT["train_images"])
    with pytest.raises(DataError, match="is not the published file: it is that of tiny"):
        load("other", "train", directory=tmp_path)


def test_published_checksums_are_complete():
    for source in CATALOGUE.values():
        assert {role.partition("_")[0] for role in source.archives} in (set(), {"train", "test"})
        for archive in source.archives.values():
            md5 = archive.bundle.md5 if archive.bundle else archive.gzip_md5 or archive.md5
            assert re.fullmatch("[0-9a-f]{64}", archive.content_sha256 or md5 * 2)
        assert bool(source.mirrors) == bool(source.archives) or source.description == "tiny"
        assert all(mirror.endswith("/") for mirror in source.mirrors)


def test_mnist(mnist_dir):
    split = load("mnist", "test", directory=mnist_dir, download=False)
    assert split.images.shape == (10_000, 28, 28)
    assert split.class_names == tuple("0123456789")
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    np.testing.assert_array_equal(np.bincount(split.labels), counts)


def test_unknown_name():
    with pytest.raises(ConfigError, match=r"^data.name: .* fashion; did you mean fashion-mnist\?"):
        load("fashion", "train")


def test_cache_directory_without_a_home(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert cache_module.cache_directory().name == "lenet"
    monkeypatch.setattr(Path, "home", lambda: Path("/h"))
    for platform, below in {"linux": ".cache", "darwin": "Library/Caches"}.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert cache_module.cache_directory() == Path("/h", below, "lenet")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert cache_module.cache_directory() == Path("/local", "lenet")


def test_finding_data_imports_nothing_heavy(tmp_path):
    fill(tmp_path / "tiny")
    files = {role: str(path) for role, path in own(tmp_path / "own").items()}
    code = (
        "import sys; import lenet.cli.data; early = set(sys.modules)\n"
        "from lenet.data.dataset import load_dataset\n"
        f"load_dataset('idx', 'test', **{files})\n"
        "print(sorted(early & {'numpy', 'lenet.data.formats.idx'}),"
        " sorted(set(sys.modules) & {'scipy', 'tqdm', 'urllib.request', 'http.client'}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[] []\n"


# --- the user's own files, and what can be wrong with them ---------------------------------------


def test_own_files(tmp_path):
    paths = own(tmp_path / "own")
    split = load("idx", "train", files=paths)
    np.testing.assert_array_equal(split.images, PIXELS)
    assert split.class_names == ("0", "1", "2")
    assert load("idx", "test", files=paths, classes=4).class_names == ("0", "1", "2", "3")


def test_own_file_not_named(tmp_path):
    paths = {**own(tmp_path / "own"), "train_labels": None}
    with pytest.raises(ConfigError, match=r"^data.train_labels: is not given"):
        load("idx", "train", files=paths)
    assert len(load("idx", "test", files=paths).labels) == 2


@pytest.mark.parametrize(
    ("wrong", "blamed", "words"),
    [
        ({"train_labels": idx([0, 1])}, "train_labels", "contains 2 labels for 5 images"),
        (
            {"train_labels": idx([0, 1, 7, 2, 9])},
            "train_labels",
            "label 2 is 7, the 3 classes are 0 to 2; correct it, or set model.classes to 10",
        ),
        (
            {
                "train_images": CONTENT["train_labels"],
                "train_labels": CONTENT["train_images"],
            },
            "train_images",
            "contains uint8 of shape 5, images are (N,H,W), (N,H,W,C) or (N,C,H,W); exchange "
            "images",
        ),
        (
            {"train_labels": CONTENT["train_images"]},
            "train_labels",
            "contains uint8 of shape (5, 4, 3), labels are integers (N,), or one-hot (N,classes); "
            "exchange images",
        ),
        ({"train_images": idx(PIXELS[:0])}, "train_images", "contains no items"),
        ({"train_images": b"<html>"}, "train_images", "is an HTML page"),
    ],
)
def test_files_that_do_not_fit(tmp_path, wrong, blamed, words):
    paths = own(tmp_path / "own", **wrong)
    with pytest.raises(DataError) as caught:
        load("idx", "train", files=paths, classes=3)
    assert str(caught.value).startswith(f"{paths[blamed]}: {words}")


def test_own_file_that_is_missing(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        load("idx", "train", files={role: tmp_path / role for role in CONTENT})


# --- fetched -------------------------------------------------------------------------------------


good = serve(GZ)

BAD = {
    "forbidden": ("HTTP 403 Forbidden", lambda handler: handler.send_error(403)),
    "busy": ("HTTP 503 Service Unavailable", lambda handler: handler.send_error(503)),
    "hangs up": ("Remote end closed connection", lambda handler: None),
    "log-in page": ("is an HTML page", lambda handler: send(handler, b"<html>log in</html>")),
    "empty": ("is empty", lambda handler: send(handler, b"")),
    "cut short": ("gzip data is damaged", lambda handler: send(handler, GZ[handler.path[1:]][:-9])),
    "another file": ("is not the published file", lambda handler: send(handler, gz(idx([1, 2])))),
    "endless": ("sends more than any archive", endless),
    "silent": ("timed out", stall),
    "stalls": ("timed out", stall_within),
    "trickles": ("timed out", trickle),
}


@pytest.fixture
def limits(monkeypatch):
    monkeypatch.setattr(download, "SECONDS_PER_WAIT", 0.3)
    monkeypatch.setattr(download, "SECONDS_PER_MIRROR", 0.3)
    monkeypatch.setattr(download, "MAX_DOWNLOAD", 1 << 17)


def use(monkeypatch, *mirrors: str) -> None:
    monkeypatch.setitem(CATALOGUE, "tiny", replace(CATALOGUE["tiny"], mirrors=mirrors))


def test_missing_files_are_fetched_once_and_only_those_requested(monkeypatch, cache):
    with mirror(good) as (address, asked):
        use(monkeypatch, address)
        for _ in range(2):
            np.testing.assert_array_equal(load("tiny", "test").images, PIXELS[:2])
        assert asked == ["/t10k-images-idx3-ubyte.gz", "/t10k-labels-idx1-ubyte.gz"]
    assert tree(cache) == {f"tiny/{path[1:]}": GZ[path[1:]] for path in asked}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_mirror(monkeypatch, cache, limits, fault):
    """Alone it is named in one line with exit code 4; with a good one beside it, it is passed."""
    words, answer = BAD[fault]
    sums = [hashlib.sha256(CONTENT[f"train_{w}"]).hexdigest()[:12] for w in ("images", "labels")]
    with mirror(answer) as (bad, _), mirror(good) as (fine, _):
        use(monkeypatch, bad)
        with pytest.raises(SystemFailure) as caught:
            load("tiny", "train")
        assert caught.value.exit_code == 4
        message = str(caught.value)
        for part in (
            "tiny: train-images-idx3-ubyte.gz (missing), train-labels-idx1-ubyte.gz (missing): ",
            f"not found in {cache}; not fetched (127.0.0.1: ",
            words,
            f"put them into {cache / 'tiny'} (SHA-256 of the content {sums[0]}…, {sums[1]}…)",
            "`lenet train` without a configuration needs no files",
        ):
            assert part in message
        assert "\n" not in message
        # What has come of a file is kept, unless it is known to be wrong.
        parts = {"stalls", "trickles"} & {fault}
        assert set(tree(cache)) == {"tiny/train-images-idx3-ubyte.gz.part" for _ in parts}
        use(monkeypatch, bad, fine)
        assert len(load("tiny", "train").images) == 5
        assert set(tree(cache)) == {f"tiny/{NAMES[f'train_{w}']}.gz" for w in ("images", "labels")}


def test_a_file_that_one_mirror_has_is_not_requested_again(monkeypatch, cache):
    def half(handler):
        good(handler) if "images" in handler.path else handler.send_error(404)

    with mirror(half) as (first, _), mirror(good) as (second, asked):
        use(monkeypatch, first, second)
        load("tiny", "train")
    assert asked == ["/train-labels-idx1-ubyte.gz"]
    assert len(tree(cache)) == 2


def test_no_network_at_all(monkeypatch, cache):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    use(monkeypatch, f"http://127.0.0.1:{port}/")
    with pytest.raises(SystemFailure, match=r"127\.0\.0\.1: .*refused"):
        load("tiny", "train")
    with pytest.raises(DataError, match=r"^tiny: train-images-idx3-ubyte.gz \(missing\)"):
        load("tiny", "train", download=False)
    assert not cache.exists()


def test_a_look_up_that_hangs_is_not_waited_for(monkeypatch, limits):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: over.wait() and [])
    use(monkeypatch, "http://nowhere.invalid/", "http://nobody.invalid/")
    with pytest.raises(SystemFailure, match=r"nobody.invalid: timed out"):
        load("tiny", "train")
    over.set()


def test_a_proxy_is_used_and_a_dead_one_named(monkeypatch):
    use(monkeypatch, "http://mirror.invalid/")
    with mirror(good) as (address, asked):
        monkeypatch.setenv("http_proxy", address)
        load("tiny", "test")
        assert asked[0] == "http://mirror.invalid/t10k-images-idx3-ubyte.gz"
    with pytest.raises(SystemFailure, match=r"mirror.invalid: .*refused"):
        load("tiny", "train")


def test_a_corrupt_cached_file_is_fetched_again(monkeypatch, cache):
    fill(cache / "tiny", train_labels=idx([1]))
    corrupt = tree(cache)
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte.gz \(damaged: is not the publis"):
        load("tiny", "train", download=False)
    assert tree(cache) == corrupt
    with mirror(good) as (address, asked):
        use(monkeypatch, address)
        np.testing.assert_array_equal(load("tiny", "train").labels, [0, 1, 2, 1, 0])
        assert asked == ["/train-labels-idx1-ubyte.gz"]
    assert len(tree(cache)) == 4


def test_a_wrong_file_of_the_users_is_never_replaced(tmp_path, monkeypatch):
    folder = fill(tmp_path / "here" / "tiny", train_labels=b"<html>")
    before = tree(folder)
    with mirror(good) as (address, asked):
        use(monkeypatch, address)
        for call in (
            lambda: load("tiny", "train", directory=tmp_path / "here"),
            lambda: fetch("tiny", tmp_path / "here"),
        ):
            with pytest.raises(DataError, match=r"train-labels-idx1-ubyte.gz: is an HTML page"):
                call()
        assert not asked
    assert tree(folder) == before


def test_a_cache_that_cannot_be_written(monkeypatch, cache):
    cache.parent.mkdir()
    cache.write_text("a file where the directory should be")
    with mirror(good) as (address, _):
        use(monkeypatch, address)
        with pytest.raises(SystemFailure, match=r"train-images-idx3-ubyte.gz: cannot be written"):
            load("tiny", "train")


def test_progress_only_on_a_terminal(monkeypatch, capsys, cache):
    with mirror(good) as (address, _):
        use(monkeypatch, address)
        load("tiny", "test")
        assert capsys.readouterr() == ("", "")
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        monkeypatch.setenv("TERM", "dumb")
        load("tiny", "train")
        assert capsys.readouterr() == ("", "")
        monkeypatch.setenv("TERM", "xterm")
        fetch("tiny", cache / "elsewhere")
        shown = capsys.readouterr()
        assert shown.out == ""
        assert "t10k-labels-idx1-ubyte.gz" in shown.err


# --- the command ---------------------------------------------------------------------------------


def run(*arguments: str, **env: str):
    return CliRunner().invoke(cli, ["data", *arguments], env=env)


def test_list(tmp_path):
    fill(tmp_path / "here")
    (tmp_path / "here" / "train-images-idx3-ubyte.gz").write_bytes(b"<html>")
    for result in (
        run("list", "--data-dir", str(tmp_path / "here")),
        run("list", LENET_DATA_DIR=str(tmp_path / "here")),
    ):
        assert result.exit_code == 0
        lines = result.output.splitlines()
        tiny = next(line for line in lines if line.startswith("tiny "))
        assert "3 of 4" in tiny
        assert str(tmp_path / "here") in tiny
        assert tiny.index("3 of 4") == lines[0].index("FILES")
        assert "not present" in next(line for line in lines if line.startswith("kmnist "))


def test_list_as_json(cache):
    fill(cache / "tiny")
    listed = json.loads(run("list", "--json").stdout)
    assert listed["schema_version"] == 1
    by_name = {entry["name"]: entry for entry in listed["datasets"]}
    assert set(by_name) == set(CATALOGUE)
    assert by_name["mnist"]["files"] == dict.fromkeys(CONTENT)
    assert by_name["tiny"]["files"]["test_labels"] == str(cache / "tiny/t10k-labels-idx1-ubyte.gz")
    assert by_name["tiny"]["bytes"] == sum(map(len, tree(cache).values()))


def test_fetch_prints_where_the_files_are(tmp_path, monkeypatch, cache):
    with mirror(good) as (address, _):
        use(monkeypatch, address)
        for arguments, place in (
            ((), cache),
            (("--data-dir", str(tmp_path / "d")), tmp_path / "d"),
        ):
            for state in ("fetched", "already present"):
                result = run("fetch", "tiny", *arguments)
                assert result.exit_code == 0
                assert result.stdout.splitlines() == [
                    f"{place / 'tiny' / name}.gz  {state}" for name in NAMES.values()
                ]
            assert tree(place / "tiny") == GZ


def test_show_draws_a_row_a_class(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed")
    monkeypatch.setitem(CATALOGUE, "kmnist", CATALOGUE["tiny"])
    fill(tmp_path / "here")
    picture = tmp_path / "tiny.svg"
    result = run("show", "kmnist", "--data-dir", str(tmp_path / "here"), "--out", str(picture))
    assert (result.exit_code, result.stdout) == (0, f"{picture}\n")
    drawn = picture.read_text(encoding="utf-8")
    assert "kmnist, train: a random sample of each class of 5" in drawn
    assert drawn.count("<image ") == 5


@pytest.mark.parametrize(("name", "words"), [("idx", "is not downloaded"), ("mnst", "mnist?")])
def test_fetch_of_what_cannot_be_fetched(name, words):
    result = run("fetch", name)
    assert isinstance(result.exception, LenetError)
    assert result.exception.exit_code == 2
    assert words in str(result.exception)


# --- names and layouts that people have ----------------------------------------------------------

RAW = {name: CONTENT[role] for role, name in NAMES.items()}


def layout(place: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    return place


LAYOUTS = {
    "dots for dashes": {n.replace("-idx", ".idx"): c for n, c in RAW.items()},
    "dots, packed": {n.replace("-idx", ".idx") + ".gz": gz(c) for n, c in RAW.items()},
    "capitals": {f"Tiny/{n.upper()}.GZ": gz(c) for n, c in RAW.items()},
    "underscores": {n.replace("-", "_"): c for n, c in RAW.items()},
    "downloaded twice": {f"{n} (1).gz": gz(c) for n, c in RAW.items()},
    "a folder of the file's name": {f"{n}/{n}": c for n, c in RAW.items()},
    "a folder, dots": {f"{n}/{n.replace('-idx', '.idx')}": c for n, c in RAW.items()},
    "torchvision's root": {f"Tiny/raw/{n}": c for n, c in RAW.items()},
    "torchvision's raw": {f"raw/{n}": c for n, c in RAW.items()},
    "an unpacked archive": {f"archive/{n.replace('-idx', '.idx')}": c for n, c in RAW.items()},
    "plain and packed": {f"tiny/{n}": c for n, c in RAW.items()}
    | {f"x/{n}": c for n, c in RAW.items()},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_near_misses_of_names_and_layouts_are_found(tmp_path, name):
    place = layout(tmp_path / "here", LAYOUTS[name])
    for split, count in (("train", 5), ("test", 2)):
        assert len(load("tiny", split, directory=place, download=False).images) == count
    assert None not in locate("tiny", place).values()


def test_the_exact_name_comes_before_a_near_one(tmp_path):
    near = {f"{n.upper()}.gz": b"rubbish" for n in RAW}
    place = layout(tmp_path / "here", near | {f"{n}.gz": gz(c) for n, c in RAW.items()})
    assert len(load("tiny", "train", directory=place).images) == 5


def test_other_data_sets_beside_it_are_not_taken_for_it(tmp_path):
    place = layout(tmp_path / "here", {f"FashionMNIST/raw/{n}": b"rubbish" for n in RAW})
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz \(missing\)"):
        load("tiny", "train", directory=place, download=False)


def test_files_that_are_named_otherwise_are_pointed_out(tmp_path):
    place = layout(tmp_path / "here", {"train-images.bin": b"", "notes.txt": b""})
    with pytest.raises(DataError) as caught:
        load("tiny", "train", directory=place, download=False)
    assert f"(similar: {place / 'train-images.bin'})" in str(caught.value)


@pytest.mark.parametrize("exists", [True, False])
def test_a_directory_without_the_files_is_named_even_if_the_cache_has_them(tmp_path, cache, exists):
    fill(cache / "tiny")
    here = tmp_path / "here"
    if exists:
        here.mkdir()
    lines = []
    load("tiny", "train", directory=here, warn=lines.append)
    why = "contains no file of" if exists else "does not exist: no file of"
    assert lines == [f"{here} {why} tiny; read from {cache / 'tiny'}"]
    with pytest.warns(UserWarning, match="no file of tiny"):
        load("tiny", "train", directory=here)
    lines.clear()
    load("tiny", "train", warn=lines.append)
    load("tiny", "train", directory=fill(tmp_path / "there"), warn=lines.append)
    assert lines == []


def test_the_environment_variable_is_used_in_python(tmp_path, monkeypatch):
    monkeypatch.setenv("LENET_DATA_DIR", str(fill(tmp_path / "here")))
    assert len(load("tiny", "train", download=False).images) == 5
    monkeypatch.setenv("LENET_DATA_DIR", "")
    with pytest.raises(DataError, match=r"\(missing\)"):
        load("tiny", "train", download=False)
    monkeypatch.setenv("LENET_DATA_DIR", str(tmp_path / "nowhere"))
    assert len(load("tiny", "train", directory=tmp_path / "here").images) == 5


# --- other published formats, in made files ------------------------------------------------------


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, content in files.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as bundle:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            bundle.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def publish(monkeypatch, name: str, file: str, content: bytes, address: str) -> None:
    """Let the checksum and the mirror of a bundle be those of a made one."""
    bundle = Bundle(file, hashlib.md5(content).hexdigest())
    archives = {r: replace(a, bundle=bundle) for r, a in CATALOGUE[name].archives.items()}
    source = replace(CATALOGUE[name], archives=archives, mirrors=(address,))
    monkeypatch.setitem(CATALOGUE, name, source)


def emnist_bundle(part: str, labels: list[int]) -> bytes:
    lying = PIXELS[: len(labels)].transpose(0, 2, 1)
    return zipped(
        {
            f"gzip/emnist-{part}-{split}-{what}-ubyte.gz": gz(idx(array))
            for split in ("train", "test")
            for what, array in (("images-idx3", lying), ("labels-idx1", labels))
        }
        | {"gzip/emnist-other-train-images-idx3-ubyte.gz": b"rubbish"}
    )


@pytest.mark.parametrize(
    ("part", "stored", "labels", "names"),
    [
        ("balanced", [46, 0, 10], [46, 0, 10], "t0A"),
        ("letters", [1, 26, 2], [0, 25, 1], "AZB"),
        ("digits", [9, 3, 0], [9, 3, 0], "930"),
        ("byclass", [61, 36, 10], [61, 36, 10], "zaA"),
    ],
)
def test_emnist_is_upright_and_named(monkeypatch, cache, part, stored, labels, names):
    content = emnist_bundle(part, stored)
    name = f"emnist-{part}"
    with mirror(serve({"gzip.zip": content})) as (address, asked):
        publish(monkeypatch, name, "gzip.zip", content, address)
        for split in ("train", "test", "train"):
            found = load(name, split)
            np.testing.assert_array_equal(found.images, PIXELS[:3])
            assert found.images.flags.c_contiguous
            np.testing.assert_array_equal(found.labels, labels)
            assert "".join(found.class_names[k] for k in found.labels) == names
        assert asked == ["/gzip.zip"]
        assert isinstance(found.images, np.memmap)
    # Packed files do as well.
    for path in list((cache / "emnist").glob("emnist-*")):
        path.with_suffix(".gz").write_bytes(gz(path.read_bytes()))
        path.unlink()
    (cache / "emnist" / "gzip.zip").unlink()
    assert len(load(name, "train", download=False).labels) == 3


def test_a_bundle_of_the_users_is_unpacked_into_the_cache(monkeypatch, tmp_path, cache):
    content = emnist_bundle("digits", [9, 3, 0])
    publish(monkeypatch, "emnist-digits", "gzip.zip", content, "http://nowhere.invalid/")
    place = layout(tmp_path / "here", {"EMNIST/raw/gzip.zip": content})
    lines = []
    found = load("emnist-digits", "test", directory=place, warn=lines.append)
    np.testing.assert_array_equal(found.labels, [9, 3, 0])
    assert set(tree(cache / "emnist")) == {
        f"emnist-digits-test-{what}-ubyte" for what in ("images-idx3", "labels-idx1")
    }
    (place / "EMNIST/raw/gzip.zip").write_bytes(b"PK rubbish")
    with pytest.raises(DataError, match=r"gzip.zip: is not the published file: MD5"):
        load("emnist-digits", "train", directory=place)


def test_where_a_bundle_cannot_be_fetched_its_address_is_given(monkeypatch):
    monkeypatch.setattr(
        "lenet.data.download._answer", lambda *_: (_ for _ in ()).throw(OSError("no network"))
    )
    with pytest.raises(SystemFailure) as caught:
        load("emnist-letters", "train")
    for words in (
        "emnist-letters: gzip.zip (missing): not found in",
        "biometrics.nist.gov: no network; www.itl.nist.gov: no network",
        "(MD5 58c8d27c78d2…) from https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
    ):
        assert words in str(caught.value)


def test_cifar_is_in_colour(monkeypatch, cache):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 3, 32, 32), np.uint8)
    labels = np.arange(12, dtype=np.uint8) % 10
    records = np.hstack([labels[:, None], images.reshape(12, -1)])
    names = [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]
    content = tarred(
        {
            f"cifar-10-batches-bin/{n}": records[2 * k : 2 * k + 2].tobytes()
            for k, n in enumerate(names)
        }
    )
    with mirror(serve({"cifar.tar.gz": content})) as (address, asked):
        publish(monkeypatch, "cifar-10", "cifar.tar.gz", content, address)
        for split, part in (("train", slice(10)), ("test", slice(10, 12))):
            found = load("cifar-10", split)
            np.testing.assert_array_equal(found.images, images[part])
            np.testing.assert_array_equal(found.labels, labels[part])
        assert asked == ["/cifar.tar.gz"]
    (cache / "cifar-10" / "test_batch.bin").write_bytes(bytes(3074))
    with pytest.raises(DataError, match=r"test_batch.bin: is of 3,074 bytes, not records of 3,073"):
        load("cifar-10", "test")


def test_qmnist_has_a_table_of_labels(monkeypatch):
    table = np.arange(5 * 8).reshape(5, 8)
    table[:, 0] = [3, 1, 4, 1, 5]
    labels = struct.pack(">2xBB2I", 0x0C, 2, 5, 8) + table.astype(">i4").tobytes()
    files = {
        f"{a.name}.gz": gz(idx(PIXELS) if "images" in a.name else labels)
        for a in CATALOGUE["qmnist"].archives.values()
    }
    archives = {
        role: replace(a, gzip_md5=hashlib.md5(files[f"{a.name}.gz"]).hexdigest())
        for role, a in CATALOGUE["qmnist"].archives.items()
    }
    with mirror(serve(files)) as (address, _):
        source = replace(CATALOGUE["qmnist"], archives=archives, mirrors=(address,))
        monkeypatch.setitem(CATALOGUE, "qmnist", source)
        for split in ("train", "test"):
            found = load("qmnist", split)
            np.testing.assert_array_equal(found.images, PIXELS)
            np.testing.assert_array_equal(found.labels, [3, 1, 4, 1, 5])


def test_usps_is_lines_of_pairs(monkeypatch, cache):
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (4, 256))
    lines = (
        f"{label} " + " ".join(f"{k + 1}:{v / 127.5 - 1:.6f}" for k, v in enumerate(row))
        for label, row in zip((1, 10, 3, 3), levels, strict=True)
    )
    content = bz2.compress("\n".join(lines).encode())
    archives = {
        role: replace(a, md5=hashlib.md5(content).hexdigest())
        for role, a in CATALOGUE["usps"].archives.items()
    }
    with mirror(serve({"usps.bz2": content, "usps.t.bz2": content})) as (address, asked):
        source = replace(CATALOGUE["usps"], archives=archives, mirrors=(address,))
        monkeypatch.setitem(CATALOGUE, "usps", source)
        for split in ("train", "test"):
            found = load("usps", split)
            np.testing.assert_array_equal(found.images, levels.reshape(4, 16, 16))
            np.testing.assert_array_equal(found.labels, [0, 9, 2, 2])
        assert asked == ["/usps.bz2", "/usps.t.bz2"]
    assert fetch("usps") == {cache / "usps" / n: False for n in ("usps.bz2", "usps.t.bz2")}

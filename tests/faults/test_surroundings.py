"""Terminals, pipes, networks, directories and locales that lack something."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from importlib import import_module

import pytest
from command import ERROR
from faulty import (
    POSIX,
    ROOT,
    command,
    environment,
    log_rows,
    process,
    same_weights,
)

from lenet.checkpoint.restore import read_checkpoint
from lenet.data import download
from lenet.data.catalogue import CATALOGUE, ROLES


def test_the_clock_goes_backwards(lenet, finished, halfway, monkeypatch):
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
def test_a_terminal_without_escape_codes(tiny, tmp_path, term, draws):
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


def test_no_terminal(lenet, tiny, tmp_path):
    ended = lenet("train", "--config", tiny, "--output", tmp_path / "run")
    assert ended.code == 0
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", ended.out + ended.err)


@POSIX
@pytest.mark.parametrize("streams", ["stderr", "both"])
def test_a_broken_pipe_while_training_saves_first(tiny, tmp_path, streams):
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
def test_a_broken_pipe_for_results():
    with subprocess.Popen(
        command("config"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as started:
        assert started.stdout is not None
        started.stdout.close()
        _, err = started.communicate(timeout=20)
    assert (started.returncode, err) == (141, b"")


def test_a_dead_proxy(refuses, tmp_path, monkeypatch, dead_proxy):
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
def test_a_home_that_cannot_be_written(tmp_path, tiny, lenet, monkeypatch):
    monkeypatch.setenv("HOME", "/dev/null/nobody")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    ended = lenet("train", "--config", tiny, "--output", tmp_path / "run", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    assert lenet("data", "list").code == 0


@POSIX
def test_a_working_directory_that_is_gone(tiny, tmp_path):
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
def test_closed_streams(tiny, tmp_path, closed):
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
def test_the_c_locale(tiny, tmp_path):
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
def test_symbolic_links_for_output(lenet, tiny, tmp_path):
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

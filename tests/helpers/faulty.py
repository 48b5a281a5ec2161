"""Commands in processes of their own, and what they leave: for the tests of faults."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from command import Ended

from lenet.checkpoint.restore import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]


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


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place:][1:]

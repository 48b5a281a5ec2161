"""Short forms of the trials in scripts/; the long ones are run by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from scripted import SCRIPTS, load_script

ROOT = SCRIPTS.parent
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the trials need Linux's /proc")


def trial(tmp_path: Path, name: str, *options: str) -> str:
    """Run a trial; return its last line, the summary."""
    done = subprocess.run(
        [sys.executable, SCRIPTS / f"trial-{name}", *options],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if "COVERAGE" not in name},  # slow
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()[-1]


@LINUX
@pytest.mark.parametrize(("workers", "every"), [("1", "300"), ("2", "1300")])
def test_kills_and_signals(tmp_path, workers, every):
    options = ("--kills", "1", "--signals", "1", "--every", every, "--epochs", "8", "--within", "4")
    last = trial(tmp_path, "kill", "--workers", workers, *options)
    assert "nothing behind" in last


@LINUX
@pytest.mark.skipif(find_spec("PIL") is None, reason="Pillow is not here to make images")
@pytest.mark.skipif(find_spec("onnx") is None, reason="onnx is not here to make graphs")
def test_damaged_files(tmp_path):
    last = trial(tmp_path, "fuzz", "--count", "2000", "--small", "300")
    assert last.endswith(" files, 0 failures")
    assert list(tmp_path.iterdir()) == []


@LINUX
def test_runs_repeated(tmp_path):
    assert "3 of 3 runs" in trial(tmp_path, "repeat", "--runs", "3", "--epochs", "2")


@LINUX
def test_a_longer_run(tmp_path):
    assert "2 of 2 processes" in trial(tmp_path, "long", "--epochs", "40")


def test_every_mutant_fits_the_code():
    for mutant in load_script("mutants").MUTANTS:
        source = (ROOT / "lenet" / mutant.file).read_text(encoding="utf-8")
        assert source.count(mutant.sound) == 1, mutant.what
        assert (ROOT / mutant.tests.split()[0]).exists(), mutant.what

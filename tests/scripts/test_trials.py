"""Short forms of the trials in scripts/; the long ones are run by hand."""

from __future__ import annotations

import os
import subprocess
import sys
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
def test_damaged_files(tmp_path):
    kinds = ("checkpoint", "npz", "csv", "configuration", "baseline", "history")
    only = [option for kind in kinds for option in ("--only", kind)]
    last = trial(tmp_path, "fuzz", "--files", "25", *only)
    assert last == "trial-fuzz: 150 files of 6 kinds, 0 failures"
    assert list(tmp_path.iterdir()) == []


def test_every_mutant_fits_the_code():
    script = load_script("mutants")
    for mutant in (*script.MUTANTS, *script.GATE_MUTANTS):
        source = (ROOT / "lenet" / mutant.file).read_text(encoding="utf-8")
        assert source.count(mutant.sound) == 1, mutant.what
    for mutant in script.MUTANTS:
        assert (ROOT / mutant.tests.split()[0]).exists(), mutant.what

"""How many workers there are, and how many threads BLAS has."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lenet.cli import main
from lenet.parallel import launch
from lenet.system import machine as cores
from lenet.system.errors import ConfigError


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system sets no affinity")
def test_affinity_counts():
    one = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}}); "
    code = one + "from lenet.system.machine import usable_cores; print(usable_cores())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "1\n"


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 8), ("150000 100000", 1), ("400000 100000", 4)]
)
def test_container_limits_count(monkeypatch, quota, expected):
    def read_text(path, *_):
        if str(path).endswith("cpu.max"):
            return quota
        raise FileNotFoundError

    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cores.Path, "read_text", read_text)
    assert cores.usable_cores() == expected


@pytest.mark.parametrize(("batch", "expected"), [(8, 1), (31, 1), (32, 2), (64, 4), (4096, 8)])
def test_auto_leaves_every_worker_sixteen_images(monkeypatch, batch, expected):
    monkeypatch.setattr(launch, "usable_cores", lambda: 8)
    assert launch.choose_workers("auto", batch) == expected


def test_more_workers_than_images():
    assert launch.choose_workers(4, 4) == 4
    with pytest.raises(ConfigError, match="5 workers cannot share a batch of 4"):
        launch.choose_workers(5, 4)


def test_threads_that_the_user_set_stay(monkeypatch):
    for name in cores.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    cores.limit_blas_threads(1)
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"
    assert os.environ["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_worker_that_trains_is_a_core(monkeypatch, tmp_path, workers):
    """More threads would wait for each other, and one worker's bits be those of a sweep's run."""
    for name in cores.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit):  # there is nothing to resume
        main(["train", "--workers", workers, "--resume", "--output", str(tmp_path)])
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"

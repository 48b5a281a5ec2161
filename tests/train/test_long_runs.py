"""Runs repeated in other environments have the same bits; processes of a longer run do not grow."""

from __future__ import annotations

import random
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from trials import differences, finish, start, state, write_config

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
EPOCHS = 40


def test_the_bits_do_not_depend_on_the_environment(tmp_path):
    """Another size of the environment, which moves the stack, hashes, time zone, locale, place."""
    config, rng, states = write_config(tmp_path, epochs=2), random.Random(0), []
    zones, locales = ("UTC", "Asia/Tokyo", "America/Lima"), ("C", "C.UTF-8", "C")
    for number, (zone, locale) in enumerate(zip(zones, locales, strict=True)):
        there = tmp_path / ("d" * rng.randrange(1, 100)) / str(number)
        there.mkdir(parents=True)
        environment = {"FILLING": "x" * rng.randrange(20_000), "PYTHONHASHSEED": str(number)}
        environment |= {"TZ": zone, "LC_ALL": locale, "OPENBLAS_NUM_THREADS": "1"}
        finish(start(config, there / "run", 2, cwd=there, environment=environment))
        states.append(state(there / "run"))
    assert differences(states[0], states[1]) == []
    assert differences(states[0], states[2]) == []


def sampled(process: Path) -> tuple[int, int, int]:
    """Resident KiB, open files and memory mappings of a process."""
    resident = (process / "status").read_text().partition("VmRSS:")[2].split()[0]
    mappings = (process / "maps").read_text().count("\n")
    return int(resident), len(list((process / "fd").iterdir())), mappings


def processes(leader: int) -> dict[str, Path]:
    """The processes of a run: the first one, and the worker."""
    found = {"first process": Path(f"/proc/{leader}")}
    for child in Path(f"/proc/{leader}/task/{leader}/children").read_text().split():
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
            found["worker"] = Path(f"/proc/{child}")
    return found


@LINUX
def test_no_process_of_a_longer_run_grows(tmp_path):
    """The minimum over each epoch counts, because a sample may fall into a save."""
    run = tmp_path / "run"
    samples: dict[str, dict[int, list[tuple[int, int, int]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    process, log = start(write_config(tmp_path, EPOCHS), run, 2), run / "log.jsonl"
    while process.poll() is None:
        epoch = log.read_bytes().count(b"\n") if log.exists() else 0
        with suppress(OSError, ValueError, IndexError):  # a process ended during the sample
            for name, place in processes(process.pid).items():
                samples[name][epoch].append(sampled(place))
        time.sleep(0.002)
    finish(process)
    assert set(samples) == {"first process", "worker"}
    for name, by_epoch in samples.items():
        settled = [epoch for epoch in by_epoch if EPOCHS / 4 < epoch < EPOCHS]
        lowest = np.array([np.min(by_epoch[epoch], axis=0) for epoch in settled])
        assert len(settled) >= 4, name
        slope = np.polyfit(settled, lowest[:, 0], 1)[0]
        assert slope * (settled[-1] - settled[0]) < 2048, f"{name}: KiB"
        first, last = np.array_split(lowest, 2)
        assert last[:, 1].min() <= first[:, 1].min(), f"{name}: open files"
        assert last[:, 2].min() <= first[:, 2].min() + 1, f"{name}: mappings"  # a new arena

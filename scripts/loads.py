"""Loads beside which a program is measured: other programs on its cores, or fewer cores.

Each is a context manager that gives the words to put before the command of the program.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

# Copies more than any cache contains, in bursts of up to a second, as another user's program may.
NEIGHBOUR = """
import random, time
import numpy as np
a, b = np.zeros((2, 8_000_000))
while True:
    end = time.monotonic() + random.uniform(0.1, 1.0)
    while time.monotonic() < end:
        np.copyto(a, b)
    time.sleep(random.uniform(0.1, 1.0))
"""


@contextmanager
def nothing() -> Iterator[list[str]]:
    yield []


@contextmanager
def busy_loop() -> Iterator[list[str]]:
    """A busy loop on one core, which the program may share or leave."""
    core = min(os.sched_getaffinity(0))
    with _programs(["taskset", "-c", str(core), sys.executable, "-c", "while True: pass"]):
        yield []


@contextmanager
def shared_core() -> Iterator[list[str]]:
    """A busy loop on one core, to which the program is bound too."""
    core = min(os.sched_getaffinity(0))
    with _programs(["taskset", "-c", str(core), sys.executable, "-c", "while True: pass"]):
        yield ["taskset", "-c", str(core)]


@contextmanager
def neighbours() -> Iterator[list[str]]:
    """For each core a program that evicts the caches in bursts."""
    command = [sys.executable, "-c", NEIGHBOUR]
    with _programs(*[command] * len(os.sched_getaffinity(0))):
        yield []


@contextmanager
def half_a_core() -> Iterator[list[str]]:
    """A quota of half a core.

    Raises
    ------
    OSError
        This user may not make control groups.
    """
    root = Path("/sys/fs/cgroup")
    old = (root / "cpu" / "cpu.cfs_quota_us").exists()  # version 1
    group = (root / "cpu" if old else root) / f"lenet-half-a-core-{os.getpid()}"
    group.mkdir()
    try:
        file, quota = ("cpu.cfs_quota_us", "50000") if old else ("cpu.max", "50000 100000")
        (group / file).write_text(quota)
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    finally:
        group.rmdir()


LOADS: dict[str, Callable[[], AbstractContextManager[list[str]]]] = {
    "none": nothing,
    "a busy loop pinned to a core": busy_loop,
    "a busy loop on the same core": shared_core,
    "a quota of half a core": half_a_core,
    "neighbours that evict the caches": neighbours,
}


@contextmanager
def _programs(*commands: list[str]) -> Iterator[None]:
    started = [subprocess.Popen(command) for command in commands]
    try:
        yield
    finally:
        for program in started:
            program.kill()
            program.wait()

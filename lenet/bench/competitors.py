"""The frameworks that ``lenet bench`` compares with, and the ways of each to use the cores.

A run of lenet is compared with the fastest of those that have as many cores: one core with one
core, all with all.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Competitor:
    """A framework, and how it is measured.

    Attributes
    ----------
    program
        The program of :mod:`lenet.bench.programs` that trains in it.
    extra
        The optional extra of this package that installs it.
    layouts
        The ways to run the same network. The program takes them by these names.
    processes
        Whether several processes of one thread each can train one network.
    """

    program: str
    extra: str
    layouts: tuple[str, ...]
    processes: bool

    def runs(self, cores: int) -> list[tuple[str, int, int]]:
        """Return (layout, processes, threads) of all runs: with one core, and with all."""
        splits = {(1, 1), (1, cores)} | ({(cores, 1)} if self.processes else set())
        return [
            (layout, processes, threads)
            for layout in self.layouts
            if layout != "compiled" or has_compiler()
            for processes, threads in sorted(splits)
        ]


COMPETITORS = {
    "torch": Competitor("train_torch", "bench", ("eager", "channels_last", "compiled"), True),
    "jax": Competitor("train_jax", "jax", ("channels_first", "channels_last"), False),
}


def has_compiler(names: Sequence[str] = ("g++", "clang++")) -> bool:
    """Return whether ``torch.compile`` has what it needs: a C++ compiler and Python's headers."""
    compiler = any(map(shutil.which, filter(None, (os.environ.get("CXX"), *names))))
    return compiler and Path(sysconfig.get_path("include"), "Python.h").is_file()

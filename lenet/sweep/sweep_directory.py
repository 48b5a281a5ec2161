"""A sweep's directory: ``sweep.json``, the plan, and a directory for every run."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from typing import IO, Self

from lenet.config.rules import as_yaml
from lenet.config.schema import Config
from lenet.errors import CheckpointError, ConfigError, LenetError
from lenet.sweep.grid import Plan, changes, make_plan
from lenet.sweep.one_run import read_json, write_json
from lenet.system.lock import LOCK_FILE, lock_directory

PLAN, STOP = "sweep.json", ".stop"


class SweepDirectory:
    """A sweep's directory, locked while the ``with`` block runs.

    A task of an array shares it with the other tasks: it is not locked, and each run has its own
    lock.
    """

    def __init__(
        self,
        path: Path,
        plan: Plan,
        *,
        resume: bool,
        overwrite: bool,
        task: int | None = None,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        self.path, self.plan, self._warn, self._task = path, plan, warn, task
        names = {entry.name for entry in path.iterdir()} - {LOCK_FILE} if path.is_dir() else set()
        if task is not None:
            names = {name for name in names if not name.startswith(".")}  # of the other tasks
        before = read_plan(path / PLAN) if PLAN in names else None
        problem, remedy = "", "choose another --output"
        if names and before is None:
            some = ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
            problem = f"contains something other than a sweep ({some})"
        elif resume and before is None:
            problem, remedy = "contains no sweep to resume", "leave out --resume"
        elif (resume or task) and before and (other := changes(before, plan)):
            problem = f"contains another sweep: {', '.join(other)} differ"
            remedy = f"repeat its command, or give --resume and --output alone, or {remedy}"
        elif before and not (resume or overwrite or task):
            problem = "contains a sweep already"
            remedy = f"resume it (--resume), replace it (--overwrite) or {remedy}"
        if problem:
            raise ConfigError(problem, remedy=remedy, file=path)
        self._replaced = before if overwrite else None

    @property
    def stop_file(self) -> Path:
        """Once this file exists, the runs save their state and stop."""
        return self.path / (STOP if self._task is None else f"{STOP}-{self._task}")

    def __enter__(self) -> Self:
        self._lock: IO[bytes] | None = None
        if self._task is None:
            self._lock = lock_directory(self.path, user="another sweep", warn=self._warn)
        self.stop_file.unlink(missing_ok=True)
        if self._replaced is not None:
            (self.path / PLAN).unlink()
            for run in self._replaced.runs(self.path):
                rmtree(self.path / run.name, ignore_errors=True)
            for name in ("results.json", "results.csv", "best.yaml"):
                (self.path / name).unlink(missing_ok=True)
        if self._task is None or not (self.path / PLAN).exists():
            write_json(self.path / PLAN, self.plan.to_dict())
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_file.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()


def read_plan(file: Path) -> Plan:
    """Return the plan of the sweep in a directory."""
    try:
        values = read_json(file)
        config = Config.from_dict(values["config"])
        grid = [
            f"{key}={axis if isinstance(axis, str) else ','.join(map(as_yaml, axis))}"
            for key, axis in values["grid"].items()
        ]
        plan, problems = make_plan(config, grid, values["random"], values["seeds"])
        if problems:
            raise problems[0]
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        LenetError,
    ) as error:
        raise CheckpointError(
            f"contains no plan of a sweep ({type(error).__name__}: {error})",
            remedy="choose another --output",
            file=file,
        ) from error
    return plan


def members(directory: Path) -> list[Path]:
    """Return the checkpoints of a sweep's chosen configuration, one for each seed."""
    file = directory / "results.json"
    try:
        best = read_json(file)["best"]
        runs = [directory / name for name in best["runs"]]
        if not all(run.parent == directory and run.is_dir() for run in runs):
            raise ValueError("not a run directory of the sweep")
        return [run / "best.npz" for run in runs]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, LenetError) as error:
        raise CheckpointError(
            "is a directory without a sweep that has chosen a configuration",
            remedy="give checkpoints, or complete the sweep with lenet sweep --resume",
            file=directory,
        ) from error

"""A sweep's directory: ``sweep.json``, the plan, and a directory for every run."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from typing import Self

from lenet.config.rules import as_yaml
from lenet.config.schema import Config
from lenet.errors import CheckpointError, ConfigError, LenetError
from lenet.sweep.grid import make_plan
from lenet.sweep.plan import Plan, changes
from lenet.sweep.task import write_json
from lenet.system.lock import LOCK_FILE, lock_directory

PLAN, STOP = "sweep.json", ".stop"


class SweepDirectory:
    """A sweep's directory, locked while the ``with`` block runs.

    Parameters
    ----------
    path
        Created if it is missing.
    plan
        The runs.
    resume, overwrite
        Resume or replace the sweep in the directory.
    warn
        Is called with a line where the file system has no locks.

    Raises
    ------
    ConfigError
        The directory contains something else, or a sweep that is to be neither resumed nor
        overwritten, or another one than ``plan``, or none to resume.
    CheckpointError
        Its plan is damaged.
    SystemFailure
        It cannot be created or written to, or a sweep is running in it.
    """

    def __init__(
        self,
        path: Path,
        plan: Plan,
        *,
        resume: bool,
        overwrite: bool,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        self.path, self.plan, self._warn = path, plan, warn
        names = {entry.name for entry in path.iterdir()} - {LOCK_FILE} if path.is_dir() else set()
        before = read_plan(path / PLAN) if PLAN in names else None
        problem, remedy = "", "choose another --output"
        if names and before is None:
            some = ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
            problem = f"contains something other than a sweep ({some})"
        elif resume and before is None:
            problem, remedy = "contains no sweep to resume", "leave out --resume"
        elif resume and before and (other := changes(before, plan)):
            problem = f"contains another sweep: {', '.join(other)} differ"
            remedy = f"repeat its command, or give --resume and --output alone, or {remedy}"
        elif before and not resume and not overwrite:
            problem = "contains a sweep already"
            remedy = f"resume it (--resume), replace it (--overwrite) or {remedy}"
        if problem:
            raise ConfigError(problem, remedy=remedy, file=path)
        self._replaced = before if overwrite else None

    @property
    def stop_file(self) -> Path:
        """Once this file exists, the runs save their state and stop."""
        return self.path / STOP

    def __enter__(self) -> Self:
        self._lock = lock_directory(self.path, user="another sweep", warn=self._warn)
        self.stop_file.unlink(missing_ok=True)
        if self._replaced is not None:
            (self.path / PLAN).unlink()
            for run in self._replaced.runs(self.path):
                rmtree(self.path / run.name, ignore_errors=True)
            for name in ("results.json", "results.csv", "best.yaml"):
                (self.path / name).unlink(missing_ok=True)
        write_json(self.path / PLAN, self.plan.to_dict())
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_file.unlink(missing_ok=True)
        self._lock.close()


def read_plan(file: Path) -> Plan:
    """Return the plan of the sweep in a directory.

    Raises
    ------
    CheckpointError
        The file is missing or damaged.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        config = Config.from_dict(values["config"])
        grid = [
            f"{key}={axis if isinstance(axis, str) else ','.join(map(as_yaml, axis))}"
            for key, axis in values["grid"].items()
        ]
        plan, problems = make_plan(config, grid, values["random"], values["seeds"])
        if problems:
            raise problems[0]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, LenetError) as error:
        raise CheckpointError(
            f"contains no plan of a sweep ({type(error).__name__}: {error})",
            remedy="choose another --output",
            file=file,
        ) from error
    return plan


def members(directory: Path) -> list[Path]:
    """Return the checkpoints of a sweep's chosen configuration, one for each seed.

    Raises
    ------
    CheckpointError
        The directory contains no sweep that has chosen a configuration.
    """
    file = directory / "results.json"
    try:
        best = json.loads(file.read_text(encoding="utf-8"))["best"]
        return [directory / name / "best.npz" for name in best["runs"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            "is a directory without a sweep that has chosen a configuration",
            remedy="give checkpoints, or complete the sweep with lenet sweep --resume",
            file=directory,
        ) from error

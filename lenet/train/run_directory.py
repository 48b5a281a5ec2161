"""The run directory: its files, its lock, and the checkpoint to resume from.

A run directory contains ``config.yaml``, ``log.jsonl``, ``log.csv``, ``last.npz``, ``previous.npz``
and ``best.npz``. A lock keeps a second process out; the system releases it when its process ends.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from lenet.checkpoint.checkpoint import Checkpoint
from lenet.checkpoint.restore import read_checkpoint
from lenet.config.schema import SETTINGS, Config, differences, to_yaml
from lenet.data.catalogue import ROLES
from lenet.errors import CheckpointError, ConfigError
from lenet.system.files import replacing
from lenet.system.lock import lock_directory

# In the order of removal: if that is interrupted, the remaining files are a complete run or none
# that can be resumed.
FILES = ("previous.npz", "last.npz", "best.npz", "log.csv", "log.jsonl", "config.yaml")

# The keys that may change when a run is resumed: paths, workers, intervals, limits of a gate.
FREE_TO_CHANGE = {
    *("data.dir", "output.dir", "train.workers", "train.checkpoint_every"),
    *(key for key in SETTINGS if key.startswith("regress.")),
}


# The keys that say which images and teachers to use, by the name of the digest that a checkpoint
# has of these: free if the images or the teachers themselves are the same.
IDENTIFIED = {
    "data": {
        *(f"data.{key}" for key in ("name", "path", "size", "transpose", "invert")),
        *(f"data.{key}" for key in ("test_fraction", "class_names", *ROLES)),
    },
    "teacher": {"train.teacher"},
}


class RunDirectory:
    """A run directory, locked within the ``with`` block."""

    def __init__(
        self,
        path: Path,
        *,
        resume: bool = False,
        overwrite: bool = False,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        self.path, self.resume, self.overwrite, self.warn = path, resume, overwrite, warn

    def __enter__(self) -> Self:
        found = [name for name in FILES if (self.path / name).exists()]
        if self.resume and not found:
            raise ConfigError(
                "contains no run to resume", remedy="leave out --resume", file=self.path
            )
        if found and not self.resume and not self.overwrite:
            raise ConfigError(
                "already contains a run",
                remedy="resume it (--resume), replace it (--overwrite) or choose another --output",
                file=self.path,
            )
        self._lock = lock_directory(self.path, user="another run", warn=self.warn)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.close()

    def begin(self, config: Config) -> None:
        """Start a new run: remove the old one and write the complete configuration.

        Called after all checks, so that until then the old run is complete.
        """
        for name in FILES:
            (self.path / name).unlink(missing_ok=True)
        with replacing(self.path / "config.yaml") as file:
            file.write(to_yaml(config).encode())

    def last(self, config: Config, warn: Callable[[str], None]) -> Checkpoint:
        """Return the checkpoint to resume from: the last one or, if damaged, the previous one."""
        path = self.path / "last.npz"
        try:
            checkpoint = read_checkpoint(path, resume=True)
        except CheckpointError as error:
            before = self.path / "previous.npz"
            if not before.exists():
                raise
            checkpoint = read_checkpoint(before, resume=True)
            warn(f"{error}: resuming from {before}, step {checkpoint.step}")
        free = FREE_TO_CHANGE | {
            key for fact, keys in IDENTIFIED.items() if fact in checkpoint.facts for key in keys
        }
        config = config.completed_by(checkpoint.config)
        for key in ("classes", "input"):
            if getattr(config.model, key) is None:  # that of the data, which are compared later
                value = getattr(checkpoint.config.model, key)
                config = config.with_values({f"model.{key}": value})
        changed = [k for k in differences(checkpoint.config, config) if k not in free]
        if changed:
            raise CheckpointError(
                "the run started with different values of these keys",
                remedy="use its values (config.yaml in its directory)",
                file=path,
                key=", ".join(changed),
            )
        if checkpoint.model.layers != config.model.specification().layers:
            raise CheckpointError(
                "its network is not the one that this version makes of its configuration",
                remedy="start a new run",
                file=path,
                key="model",
            )
        return checkpoint

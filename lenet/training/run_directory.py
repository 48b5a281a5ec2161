"""The directory of a run: one run, one process at a time, and what is found there at the start.

A directory holds ``config.yaml``, ``log.jsonl``, ``log.csv``, ``last.npz``, ``previous.npz`` and
``best.npz``. A lock keeps a second process out; the system drops it when its process dies.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from lenet.config.schema import Config, differences
from lenet.config.writer import to_yaml
from lenet.system.errors import CheckpointError, ConfigError
from lenet.system.files import replacing
from lenet.system.lock import lock_directory
from lenet.training.checkpoint import Checkpoint
from lenet.training.restore import read_checkpoint

# In the order in which a run is removed: whenever that is stopped, what is left is a whole run
# or none to go on with.
FILES = ("previous.npz", "last.npz", "best.npz", "log.csv", "log.jsonl", "config.yaml")

# What may change when a run goes on: where things are, and who does the work.
FREE_TO_CHANGE = {"data.dir", "output.dir", "train.workers", "train.checkpoint_every"}


class RunDirectory:
    """A run's directory, locked while the ``with`` block runs.

    Parameters
    ----------
    path
        Created if need be.
    resume
        Go on with the run in it.
    overwrite
        Replace the run in it.
    warn
        Takes a line where the file system has no locks.

    Raises
    ------
    ConfigError
        There is a run and it is to be neither resumed nor overwritten, or there is none to resume.
    SystemFailure
        The directory cannot be made or written to, or another run is in it right now.
    """

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
        held = [name for name in FILES if (self.path / name).exists()]
        if self.resume and not held:
            raise ConfigError(
                "holds no run to go on with", remedy="leave out --resume", file=self.path
            )
        if held and not self.resume and not self.overwrite:
            raise ConfigError(
                "holds a run already",
                remedy="go on with it (--resume), replace it (--overwrite) or choose another "
                "--output",
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
        """Begin a new run: remove the one that is replaced, write the resolved configuration.

        Called when nothing is left that could be refused: until then the old run is whole.
        """
        for name in FILES:
            (self.path / name).unlink(missing_ok=True)
        with replacing(self.path / "config.yaml") as file:
            file.write(to_yaml(config).encode())

    def last(self, config: Config, warn: Callable[[str], None]) -> Checkpoint:
        """Return the checkpoint to go on from: the last, or the one before if that is damaged.

        Raises
        ------
        CheckpointError
            Both are missing or damaged, or the configuration is another than the run began with.
        """
        path = self.path / "last.npz"
        try:
            checkpoint = read_checkpoint(path, resume=True)
        except CheckpointError as error:
            before = self.path / "previous.npz"
            if not before.exists():
                raise
            checkpoint = read_checkpoint(before, resume=True)
            warn(f"{error}: going on from {before}, step {checkpoint.step}")
        changed = [k for k in differences(checkpoint.config, config) if k not in FREE_TO_CHANGE]
        if changed:
            raise CheckpointError(
                "the run began with other values of these keys",
                remedy="give the values it began with (config.yaml in its directory)",
                file=path,
                key=", ".join(changed),
            )
        return checkpoint

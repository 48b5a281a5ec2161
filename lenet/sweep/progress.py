"""The progress of a sweep: a bar over all epochs on a terminal, and a line for every run."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from lenet.sweep.plan import SweepRun
from lenet.sweep.task import Result
from lenet.system.text import supports_progress_bar

BAR: Final = "{l_bar}{bar}| {n_fmt}/{total_fmt} epochs [{elapsed}<{remaining}{postfix}]"


class SweepProgress:
    """Writes to stderr.

    Parameters
    ----------
    runs
        All of the sweep.
    finished
        The results that exist already, by name.
    quiet
        Write only the runs that fail.
    """

    def __init__(
        self, runs: Sequence[SweepRun], finished: Mapping[str, Result], quiet: bool
    ) -> None:
        self.file = sys.stderr
        self.quiet, self.count = quiet, len(runs)
        self.finished = self.failed = 0
        self.epochs = 0  # of the finished runs
        total = sum(run.config.train.epochs for run in runs)
        self.bar: tqdm[Any] | None = None
        if not quiet and supports_progress_bar(self.file):
            done = sum(run.config.train.epochs for run in runs if run.name in finished)
            self.bar = tqdm(total=total, initial=done, file=self.file, bar_format=BAR, leave=False)
        for run in runs:
            if run.name in finished:
                self.add(run, finished[run.name], earlier=True)

    def add(self, run: SweepRun, result: Result, *, earlier: bool = False) -> None:
        """Count a run and write its result; of runs that finished ``earlier``, only failures."""
        self.finished += 1
        self.epochs += run.config.train.epochs
        if result.error:
            self.failed += 1
            self._write(f"lenet: error: {run.config.output.dir}: {result.error}")
        elif not self.quiet and not earlier:
            self._write(
                f"run {self.finished}/{self.count}  {run.name}  validation loss "
                f"{result.val_loss:.4f} accuracy {result.val_accuracy:.2%} "
                f"(epoch {result.best_epoch} of {result.epochs})"
            )

    def update(self, running: Sequence[SweepRun]) -> None:
        """Advance the bar to the current epochs of the running runs."""
        if self.bar is None:
            return
        epochs = self.epochs
        for run in running:
            with suppress(OSError):
                epochs += (Path(run.config.output.dir) / "log.jsonl").read_bytes().count(b"\n")
        self.bar.set_description_str(f"run {self.finished}/{self.count}", refresh=False)
        self.bar.set_postfix_str(f", {self.failed} failed" if self.failed else "", refresh=False)
        self.bar.n = epochs
        self.bar.refresh()

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()

    def _write(self, line: str) -> None:
        if self.bar is not None:
            self.bar.clear()
        if self.file is not None:
            print(line, file=self.file, flush=True)

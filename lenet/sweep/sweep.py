"""Many runs beside each other: trained, compared on validation, the best configuration chosen.

A sweep's directory holds ``sweep.json``, the plan, and a directory for every run: what ``lenet
train`` writes, ``train.log``, and ``result.json`` once there is nothing left to do. The runs need
nothing but this directory to talk to the process that started them, wherever they are: it reads
their progress from their logs, and they look for the file that asks them to stop.

In order: one run, where runs are run, the directory, all runs, what came of them.
"""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree
from statistics import fmean, stdev
from types import TracebackType
from typing import Any, Final, Self, TextIO, TypeAlias

from tqdm import tqdm

from lenet.config.schema import Config
from lenet.config.writer import to_yaml
from lenet.parallel.mpi import load_mpi
from lenet.parallel.spawn import Context
from lenet.sweep.plan import Plan, Point, SweepRun, as_word, changes, read_plan, short_names
from lenet.system.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    GateFailed,
    LenetError,
    SystemFailure,
)
from lenet.system.extras import require
from lenet.system.files import replacing
from lenet.system.lock import LOCK_FILE, lock_directory
from lenet.system.terminal import supports_progress_bar
from lenet.training.build import build_trainer, load_split
from lenet.training.callbacks import ChanceWarning, Checkpoints, Display
from lenet.training.events import Callback, Snapshot, StepEvent
from lenet.training.run import run_training, signals_to

LOOK_SECONDS: Final = 0.25  # between two looks at the other side's files
PLAN, RESULT, STOP = "sweep.json", "result.json", ".stop"
BAR: Final = "{l_bar}{bar}| {n_fmt}/{total_fmt} epochs [{elapsed}<{remaining}{postfix}]"

# --- One run --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """How a run ended: the figures of its best epoch on validation, or why it has none."""

    best_epoch: int | None = None
    epochs: int = 0
    val_accuracy: float | None = None
    val_loss: float | None = None
    seconds: float = 0.0
    error: str | None = None
    exit_code: int = 0


@dataclass(frozen=True)
class SweepTask:
    """What a run is given: its configuration, where the data are, the file that stops it."""

    config: Config
    data_dir: str | None
    stop: Path


STOPPED: Final = SystemFailure("was stopped", remedy="go on with it: --resume")


class _Stopped(Exception):
    """The run was asked to stop, and has saved its state."""


class _StopWhenAsked(Callback):
    """Saves the state between two steps, and ends the run, once there is a certain file."""

    def __init__(self, file: Path, directory: Path) -> None:
        self.file, self.directory, self.looked = file, directory, 0.0

    def on_step(self, event: StepEvent, snapshot: Snapshot) -> None:
        now = time.monotonic()
        if now - self.looked >= LOOK_SECONDS:
            self.looked = now
            if self.file.exists():
                Checkpoints(self.directory).on_stop(snapshot)
                raise _Stopped


def train_one(job: SweepTask) -> Result:
    """Train as a job says, from the start or from where it stands; every failure is a result.

    Of the failures only divergence would come again: the others are no end, and the run has no
    ``result.json``.
    """
    directory = Path(job.config.output.dir)
    if job.stop.exists():
        return _failed(STOPPED)
    try:
        directory.mkdir(exist_ok=True)
        with (directory / "train.log").open("a", encoding="utf-8") as log:
            result = _trained(job, directory, log)
        if result.exit_code in (0, GateFailed.exit_code):
            write_json(directory / RESULT, asdict(result))
    except (OSError, LenetError) as error:
        result = _failed(_explained(error))
    return result


def _trained(job: SweepTask, directory: Path, log: TextIO) -> Result:
    resume = (directory / "last.npz").exists()
    epochs = job.config.train.epochs

    def say(line: str) -> None:
        print(f"warning: {line}", file=log, flush=True)

    try:
        opening = f"{directory.name}: {'goes on' if resume else 'begins'}"
        outcome = run_training(
            job.config,
            directory=job.data_dir,
            resume=resume,
            overwrite=not resume,  # a run that came to no checkpoint
            callbacks=[
                _StopWhenAsked(job.stop, directory),
                Display(epochs, lambda _: opening, log),
                ChanceWarning(job.config.model.classes, say),
            ],
            warn=say,
        )
        if outcome.signal is not None:
            raise _Stopped
        result = _figures(directory)
    except _Stopped:
        result = _failed(STOPPED)
    except Exception as error:
        if not isinstance(error, LenetError):
            traceback.print_exc(file=log)
        result = _failed(_explained(error))
    if result.error:
        print(result.error, file=log)
    return result


def _explained(error: Exception) -> LenetError:
    match error:
        case LenetError():
            return error
        case MemoryError():
            return SystemFailure("out of memory", remedy="use fewer --jobs")
        case OSError():
            return SystemFailure(
                error.strerror or str(error),
                remedy="check disk, path and permissions, and go on with --resume",
                file=error.filename,
            )
    return LenetError(
        f"a bug of ours: {type(error).__name__}: {error}",
        remedy="please report it, with the run's train.log",
    )


def _failed(error: LenetError) -> Result:
    return Result(error=str(error), exit_code=error.exit_code)


def _figures(directory: Path) -> Result:
    """Return the figures of a whole run; its log knows the epochs before an interruption too."""
    text = (directory / "log.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    best = min(rows, key=lambda row: (-row["val_accuracy"], row["val_loss"]))
    return Result(
        best_epoch=best["epoch"],
        epochs=len(rows),
        val_accuracy=best["val_accuracy"],
        val_loss=best["val_loss"],
        seconds=sum(row["seconds"] for row in rows),
    )


def ended_runs(runs: Sequence[SweepRun]) -> dict[str, Result]:
    """Return the results of the runs that need no more work, by name."""
    ended = {}
    for run in runs:
        file = Path(run.config.output.dir) / RESULT
        with suppress(OSError, ValueError, TypeError):
            ended[run.name] = Result(**json.loads(file.read_text(encoding="utf-8")))
    return ended


# --- Where runs are run ---------------------------------------------------------------------------

Start: TypeAlias = Callable[[SweepTask], "Future[Result]"]
"""Hands a job to whoever is free next."""


@contextmanager
def local_jobs(jobs: int) -> Iterator[Start]:
    """Run so many jobs at once on this machine, each in a process of its own.

    A process that is killed takes its run with it and no other.
    """
    with ThreadPoolExecutor(jobs, initializer=_leave_interrupts_to_others) as threads:
        yield lambda job: threads.submit(_in_own_process, job)


def _leave_interrupts_to_others() -> None:
    """Keep Ctrl-C from the processes that this thread starts: they inherit what it blocks."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _in_own_process(job: SweepTask) -> Result:
    try:
        with ProcessPoolExecutor(1, Context(), initializer=_end_with_parent) as process:
            return process.submit(train_one, job).result()
    except BrokenProcessPool:
        return _failed(
            SystemFailure(
                "its process was killed",
                remedy="go on with --resume; if it was for memory, with fewer --jobs",
            )
        )


def _end_with_parent() -> None:
    """End this process when the one that started it does, however it ends."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def mpi_ranks() -> Iterator[Start | None]:
    """Run a job on every rank of ``mpiexec`` but the first, which hands them out.

    Gives None on the other ranks, once all work is done.

    Raises
    ------
    ConfigError
        There is only one rank.
    SystemFailure
        The extra ``mpi`` is not installed, or finds no MPI.
    """
    world = load_mpi().COMM_WORLD
    futures = require("mpi4py.futures", extra="mpi")
    if world.size < 2:
        raise ConfigError(
            "needs two ranks or more: one hands out the runs, the others train",
            remedy="start it as mpiexec -n 4 lenet sweep",
            key="--executor mpi",
        )
    if world.rank:  # they stop when the first one says so
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    with futures.MPICommExecutor(world, root=0) as executor:
        yield None if executor is None else lambda job: executor.submit(train_one, job)


# --- The directory --------------------------------------------------------------------------------


class SweepDirectory:
    """A sweep's directory, locked while the ``with`` block runs.

    Parameters
    ----------
    path
        Created if need be.
    plan
        What is to be run in it.
    resume, overwrite
        Go on with the sweep in it, or replace it.
    warn
        Takes a line where the file system has no locks.

    Raises
    ------
    ConfigError
        It holds something else, or a sweep that is to be neither resumed nor overwritten, or
        another one than ``plan``, or none to resume.
    CheckpointError
        Its plan is damaged.
    SystemFailure
        It cannot be made or written to, or a sweep is running in it right now.
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
        held = {entry.name for entry in path.iterdir()} - {LOCK_FILE} if path.is_dir() else set()
        self._before = read_plan(path / PLAN) if PLAN in held else None
        problem, remedy = "", "choose another --output"
        if held and self._before is None:
            some = ", ".join(sorted(held)[:3]) + (", …" if len(held) > 3 else "")
            problem = f"holds something else than a sweep ({some})"
        elif resume and self._before is None:
            problem, remedy = "holds no sweep to go on with", "leave out --resume"
        elif resume and self._before and (other := changes(self._before, plan)):
            problem = f"holds another sweep: {', '.join(other)} differ"
            remedy = f"repeat what it began with, or give --resume and --output alone, or {remedy}"
        elif self._before and not resume and not overwrite:
            problem = "holds a sweep already"
            remedy = f"go on with it (--resume), replace it (--overwrite) or {remedy}"
        if problem:
            raise ConfigError(problem, remedy=remedy, file=path)
        self._replaced = self._before if overwrite else None

    def __enter__(self) -> Self:
        self._lock = lock_directory(self.path, user="another sweep", warn=self._warn)
        (self.path / STOP).unlink(missing_ok=True)
        if self._replaced is not None:
            (self.path / PLAN).unlink()
            for run in self._replaced.runs(self.path):
                rmtree(self.path / run.name, ignore_errors=True)
            for name in ("results.json", "results.csv", "best.yaml"):
                (self.path / name).unlink(missing_ok=True)
        write_json(self.path / PLAN, self.plan.to_dict())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        (self.path / STOP).unlink(missing_ok=True)
        self._lock.close()


def write_json(path: Path, content: object) -> None:
    """Write JSON, whole or not at all."""
    with replacing(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


# --- All runs -------------------------------------------------------------------------------------


class SweepProgress:
    """One bar over all epochs where a person looks on, and a line for every run anywhere.

    Parameters
    ----------
    runs
        All of the sweep.
    ended
        The results that there are already, by name.
    quiet
        Say only what fails.
    """

    def __init__(self, runs: Sequence[SweepRun], ended: Mapping[str, Result], quiet: bool) -> None:
        self.file = sys.stderr
        self.quiet, self.count = quiet, len(runs)
        self.ended = self.failed = 0
        self.epochs = 0  # of the runs that have ended
        total = sum(run.config.train.epochs for run in runs)
        self.bar: tqdm[Any] | None = None
        if not quiet and supports_progress_bar(self.file):
            done = sum(run.config.train.epochs for run in runs if run.name in ended)
            self.bar = tqdm(total=total, initial=done, file=self.file, bar_format=BAR, leave=False)
        for run in runs:
            if run.name in ended:
                self.run_ended(run, ended[run.name], before=True)

    def run_ended(self, run: SweepRun, result: Result, *, before: bool = False) -> None:
        """Count a run, and say how it has ended; of those of ``before``, only what failed."""
        self.ended += 1
        self.epochs += run.config.train.epochs
        if result.error:
            self.failed += 1
            self._say(f"lenet: error: {run.config.output.dir}: {result.error}")
        elif not self.quiet and not before:
            self._say(
                f"run {self.ended}/{self.count}  {run.name}  validation loss "
                f"{result.val_loss:.4f} accuracy {result.val_accuracy:.2%} "
                f"(epoch {result.best_epoch} of {result.epochs})"
            )

    def look(self, running: Sequence[SweepRun]) -> None:
        """Move the bar to where the running ones are."""
        if self.bar is None:
            return
        epochs = self.epochs
        for run in running:
            with suppress(OSError):
                epochs += (Path(run.config.output.dir) / "log.jsonl").read_bytes().count(b"\n")
        self.bar.set_description_str(f"run {self.ended}/{self.count}", refresh=False)
        self.bar.set_postfix_str(f", {self.failed} failed" if self.failed else "", refresh=False)
        self.bar.n = epochs
        self.bar.refresh()

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()

    def _say(self, line: str) -> None:
        if self.bar is not None:
            self.bar.clear()
        if self.file is not None:
            print(line, file=self.file, flush=True)


def check_with_data(plan: Plan, data_dir: str | None) -> list[ConfigError]:
    """Fetch and read the data once, and return what in the grid does not fit them.

    Raises
    ------
    LenetError
        The data cannot be read, or do not fit what all runs share.
    """
    split = load_split(plan.config, "train", data_dir)
    key = "train.batch_size"
    sizes = {point.get(key, plan.config.train.batch_size) for point in plan.points()}
    problems = []
    for size in sorted(sizes):
        config = plan.config.with_values({key: size, "train.workers": 1})
        try:
            build_trainer(config, split.images, split.labels)
        except ConfigError as error:
            problems.append(error)
    return problems


def run_all(
    runs: Sequence[SweepRun],
    ended: dict[str, Result],
    start: Start,
    stop: Path,
    *,
    data_dir: str | None = None,
    quiet: bool = False,
) -> int | None:
    """Train every run that has not ended, and put its result into ``ended``, by its name.

    A signal lets those that are running save their state, and starts no more; a second one ends
    them at once.

    Returns
    -------
    The signal that stopped the sweep, if one did.
    """
    missing = [run for run in runs if run.name not in ended]
    progress = SweepProgress(runs, ended, quiet)
    received: list[int] = []
    pending: dict[Future[Result], SweepRun] = {}
    try:
        with signals_to(received.append):
            pending.update((start(SweepTask(run.config, data_dir, stop)), run) for run in missing)
            while pending:
                done, _ = wait(pending, LOOK_SECONDS, FIRST_COMPLETED)
                for future in [future for future in pending if future in done]:
                    run, result = pending.pop(future), future.result()
                    if not (received and result.error):
                        ended[run.name] = result
                        progress.run_ended(run, result)
                if received and not stop.exists():
                    stop.touch()
                    pending = {f: run for f, run in pending.items() if not f.cancel()}
                progress.look([run for future, run in pending.items() if future.running()])
    except BaseException:
        stop.touch()
        running = [future for future in pending if not future.cancel()]
        for process in multiprocessing.active_children():
            process.kill()
        wait(running)
        raise
    finally:
        progress.close()
    return received[0] if received else None


# --- What came of them ----------------------------------------------------------------------------


@dataclass(frozen=True)
class PointResult:
    """A configuration of the sweep: its runs, one a seed, and their results."""

    point: Point
    runs: Sequence[SweepRun]
    results: Sequence[Result]

    @property
    def complete(self) -> bool:
        """Whether no run has failed: only then it can be chosen."""
        return not any(result.error for result in self.results)

    def values(self, figure: str) -> list[float]:
        """Return a figure of every run that has it."""
        values = (getattr(result, figure) for result in self.results)
        return [value for value in values if value is not None]

    def mean(self, figure: str) -> float | None:
        """Return the mean of a figure over the seeds."""
        values = self.values(figure)
        return fmean(values) if values else None

    def deviation(self, figure: str) -> float | None:
        """Return the standard deviation of a figure over the seeds (n - 1)."""
        values = self.values(figure)
        return stdev(values) if len(values) > 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON has it."""
        return {
            "point": self.point,
            "runs": [run.name for run in self.runs],
            "failed": sum(bool(result.error) for result in self.results),
            **{
                f"{figure}_{name}": getattr(self, name)(figure)
                for figure in ("val_accuracy", "val_loss")
                for name in ("mean", "deviation")
            },
        }


@dataclass(frozen=True)
class Results:
    """All results of a sweep: its configurations ranked by their means on validation.

    First the higher accuracy, of equals the lower loss; a configuration of which a run has failed
    comes after all that are complete, and is not chosen.
    """

    plan: Plan
    rows: Sequence[PointResult]

    @classmethod
    def of(cls, plan: Plan, runs: Sequence[SweepRun], ended: Mapping[str, Result]) -> Results:
        """Rank the configurations of a sweep whose runs have all ended."""
        rows = []
        for first in range(0, len(runs), plan.seeds):
            members = runs[first : first + plan.seeds]
            rows.append(
                PointResult(members[0].point, members, [ended[run.name] for run in members])
            )

        def rank(row: PointResult) -> tuple[bool, float, float]:
            accuracy, loss = row.mean("val_accuracy"), row.mean("val_loss")
            return not row.complete, -(accuracy or 0.0), loss or 0.0

        return cls(plan, sorted(rows, key=rank))

    @property
    def best(self) -> PointResult | None:
        """The chosen configuration; None if each had a run that failed."""
        return self.rows[0] if self.rows[0].complete else None

    def failure(self, directory: Path) -> LenetError | None:
        """Return what the sweep ends with if runs have failed.

        Its exit code is the lowest of theirs: a bug (1) counts before divergence (5).
        """
        failed = [result for row in self.rows for result in row.results if result.error]
        if not failed:
            return None
        kinds = (LenetError, ConfigError, DataError, SystemFailure, GateFailed)
        code = min(result.exit_code for result in failed)
        kind = next(kind for kind in kinds if kind.exit_code == code)
        count = sum(len(row.runs) for row in self.rows)
        return kind(
            f"{len(failed)} of {count} runs failed",
            remedy="--resume tries again all but those that diverged",
            file=directory,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        runs = [
            {"run": run.name, "point": run.point, "seed": run.seed, **asdict(result)}
            for row in self.rows
            for run, result in zip(row.runs, row.results, strict=True)
        ]
        return {
            "schema_version": 1,
            "chosen_on": "validation",
            "best": self.best and self.best.to_dict(),
            "configurations": [row.to_dict() for row in self.rows],
            "runs": sorted(runs, key=lambda run: run["run"]),
        }

    def to_csv(self) -> str:
        """Return a row for every run."""
        text = io.StringIO()
        keys = list(self.plan.grid)
        figures = list(asdict(Result()))
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["run", *keys, "seed", *figures])
        for run in self.to_dict()["runs"]:
            writer.writerow(
                [run["run"], *map(run["point"].get, keys), run["seed"], *map(run.get, figures)]
            )
        return text.getvalue()

    def to_table(self) -> str:
        """Return aligned text: a line for every configuration, the best first."""
        names = short_names(self.plan.grid)
        lines = [[*names.values(), "runs", "validation accuracy", "validation loss", ""]]
        for row in self.rows:
            cells = list(map(as_word, row.point.values()))
            whole = sum(not result.error for result in row.results)
            lines.append(
                [
                    *cells,
                    f"{whole}/{len(row.runs)}",
                    _spread(row, "val_accuracy", lambda x: f"{100 * x:.2f}", " %"),
                    _spread(row, "val_loss", lambda x: f"{x:.4f}", ""),
                    "chosen" if row is self.best else "",
                ]
            )
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "   ".join(
                f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)
            ).rstrip()
            for line in lines
        )

    def write(self, directory: Path) -> None:
        """Write ``results.json``, ``results.csv`` and, if there is a choice, ``best.yaml``."""
        write_json(directory / "results.json", self.to_dict())
        with replacing(directory / "results.csv") as file:
            file.write(self.to_csv().encode())
        if self.best is not None:
            config = self.plan.config.with_values(self.best.point)
            with replacing(directory / "best.yaml") as file:
                file.write(to_yaml(config).encode())


def _spread(row: PointResult, figure: str, show: Callable[[float], str], unit: str) -> str:
    mean, deviation = row.mean(figure), row.deviation(figure)
    if mean is None:
        return "-"
    return show(mean) + (f" ± {show(deviation)}" if deviation is not None else "") + unit


def members(directory: Path) -> list[Path]:
    """Return the checkpoints of a sweep's chosen configuration, one a seed.

    Raises
    ------
    CheckpointError
        The directory holds no sweep that has chosen one.
    """
    file = directory / "results.json"
    try:
        best = json.loads(file.read_text(encoding="utf-8"))["best"]
        return [directory / name / "best.npz" for name in best["runs"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            "is a directory without a sweep that has chosen a configuration",
            remedy="give checkpoints, or let the sweep end with lenet sweep --resume",
            file=directory,
        ) from error

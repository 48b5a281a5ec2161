"""All runs of a sweep: in processes of this machine, or on the ranks of MPI."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, TypeAlias

from tqdm import tqdm

from lenet.config.sections import NAMED
from lenet.data.measure import image_facts
from lenet.errors import ConfigError, SystemFailure
from lenet.evaluation.images import for_split, load_dataset, usable
from lenet.parallel.mpi import load_mpi
from lenet.parallel.process_group import signals_to
from lenet.parallel.spawn import Context
from lenet.sweep.grid import Plan, SweepRun
from lenet.sweep.one_run import POLL_SECONDS, Result, SweepTask, train_task
from lenet.system.extras import require
from lenet.system.text import supports_progress_bar
from lenet.train.build import build_trainer
from lenet.train.recipe import complete

Submit: TypeAlias = Callable[[SweepTask], "Future[Result]"]
"""Gives a task to the next free process."""


@contextmanager
def local_processes(jobs: int) -> Iterator[Submit]:
    """Train up to ``jobs`` runs at a time on this machine, each in its own process.

    If a process is killed, or neither a process nor a thread can be started, only its run fails.
    """
    started = 0
    with ThreadPoolExecutor(jobs, initializer=_block_interrupts) as threads:

        def submit(task: SweepTask) -> Future[Result]:
            nonlocal started
            future: Future[Result] = Future()
            try:
                threads.submit(_supervise, task, future)
                started += 1
            except RuntimeError as error:  # no more threads: those there are do the work
                if not started:
                    future.set_result(_not_started(error))
            return future

        yield submit


def _block_interrupts() -> None:
    """Shield the processes of this thread from Ctrl-C: they inherit its blocked signals."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _supervise(task: SweepTask, future: Future[Result]) -> None:
    """Train a run in another process, and put its result into ``future``."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        context = Context()
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_train, args=(task, theirs), daemon=True)
        process.start()
    except (RuntimeError, OSError, MemoryError) as error:
        future.set_result(_not_started(error))
        return
    theirs.close()
    try:
        result = ours.recv()
    except (EOFError, OSError):
        result = Result.of_error(
            SystemFailure(
                "its process was killed",
                remedy="resume with --resume; if memory was short, with fewer --jobs",
            )
        )
    process.join()
    ours.close()
    future.set_result(result)


def _train(task: SweepTask, answer: Connection) -> None:
    """Train a run in this process, which ends when its parent process ends, however that ends."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    answer.send(train_task(task))


def _not_started(error: Exception) -> Result:
    return Result.of_error(
        SystemFailure(
            f"its process cannot be started: {error or type(error).__name__}",
            remedy="allow more memory and processes, or resume with fewer --jobs",
        )
    )


@contextmanager
def mpi_ranks() -> Iterator[Submit | None]:
    """Train a run on every rank of ``mpiexec`` but the first, which distributes them.

    Gives None on the other ranks, once all work is done.
    """
    world = load_mpi().COMM_WORLD
    futures = require("mpi4py.futures", extra="mpi")
    if world.size < 2:
        raise ConfigError(
            "needs two ranks or more: one distributes the runs, the others train",
            remedy="start it as mpiexec -n 4 lenet sweep",
            key="--executor mpi",
        )
    if world.rank:  # rank 0 sends the stop message
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    with futures.MPICommExecutor(world, root=0) as executor:
        yield None if executor is None else lambda task: executor.submit(train_task, task)


# --- All runs -----------------------------------------------------------------------------------


def check_with_data(plan: Plan, data_dir: str | None) -> list[ConfigError]:
    """Download and read the data once, and return the problems of the grid with them."""
    found, config = load_dataset(plan.config, data_dir).training, plan.config
    if "model.name" in config.open():
        config = config.with_values({"model.name": "lenet5"})  # each run compares the networks
    config = complete(config, found, image_facts(found.images), lambda _: None)
    split = usable(config, found, "train")
    common = for_split(config, split)
    key = "train.batch_size"
    sizes = {point.get(key, config.train.batch_size) for point in plan.points()}
    problems = []
    for size in sorted(sizes):
        config = common.with_values({key: size, "train.workers": 1})
        try:
            build_trainer(config, split.images, split.labels, class_names=split.class_names)
        except ConfigError as error:
            problems.append(error)
    return problems


def run_all(
    runs: Sequence[SweepRun],
    finished: dict[str, Result],
    submit: Submit,
    stop: Path,
    *,
    data_dir: str | None = None,
    quiet: bool = False,
) -> int | None:
    """Train every run that is not finished, and put its result into ``finished``, by its name.

    At a signal the running runs save their state and no other starts; a second signal ends them
    at once.
    """
    missing = [run for run in runs if run.name not in finished]
    progress = SweepProgress(runs, finished, quiet)
    received: list[int] = []
    pending: dict[Future[Result], SweepRun] = {}
    try:
        with signals_to(received.append):
            pending.update((submit(SweepTask(run.config, data_dir, stop)), run) for run in missing)
            while pending:
                done, _ = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
                for future in [future for future in pending if future in done]:
                    run, result = pending.pop(future), future.result()
                    if not (received and result.error):
                        finished[run.name] = result
                        progress.add(run, result)
                if received and not stop.exists():
                    stop.touch()
                    pending = {f: run for f, run in pending.items() if not f.cancel()}
                progress.update([run for future, run in pending.items() if future.running()])
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


# --- The progress -------------------------------------------------------------------------------


def _epochs(run: SweepRun) -> int:
    """Return the epochs of a run, as far as they are known before the images are."""
    config = run.config
    return NAMED["train.epochs"] if "train.epochs" in config.open() else config.train.epochs


BAR: Final = "{l_bar}{bar}| {n_fmt}/{total_fmt} epochs [{elapsed}<{remaining}{postfix}]"


class SweepProgress:
    """Writes to stderr."""

    def __init__(
        self, runs: Sequence[SweepRun], finished: Mapping[str, Result], quiet: bool
    ) -> None:
        self.file = sys.stderr
        self.quiet, self.count = quiet, len(runs)
        self.finished = self.failed = 0
        self.epochs = 0  # of the finished runs
        total = sum(_epochs(run) for run in runs)
        self.bar: tqdm[Any] | None = None
        if not quiet and supports_progress_bar(self.file):
            done = sum(_epochs(run) for run in runs if run.name in finished)
            self.bar = tqdm(total=total, initial=done, file=self.file, bar_format=BAR, leave=False)
        for run in runs:
            if run.name in finished:
                self.add(run, finished[run.name], earlier=True)

    def add(self, run: SweepRun, result: Result, *, earlier: bool = False) -> None:
        """Count a run and write its result; of runs that finished ``earlier``, only failures."""
        self.finished += 1
        self.epochs += _epochs(run)
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

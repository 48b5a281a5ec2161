"""Train all runs of a sweep at the same time, and stop them when a signal arrives."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path

from lenet.errors import ConfigError
from lenet.evaluation.images import for_split, load_split
from lenet.sweep.executors import Submit
from lenet.sweep.plan import Plan, SweepRun
from lenet.sweep.progress import SweepProgress
from lenet.sweep.task import POLL_SECONDS, Result, SweepTask
from lenet.train.build import build_trainer
from lenet.train.run import signals_to


def check_with_data(plan: Plan, data_dir: str | None) -> list[ConfigError]:
    """Download and read the data once, and return the problems of the grid with them.

    Raises
    ------
    LenetError
        The data cannot be read, or do not fit the configuration that all runs share.
    """
    split = load_split(plan.config, "train", data_dir)
    common = for_split(plan.config, split)
    key = "train.batch_size"
    sizes = {point.get(key, plan.config.train.batch_size) for point in plan.points()}
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

    Returns
    -------
    The signal that stopped the sweep, if one did.
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

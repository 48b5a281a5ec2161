"""Train over a grid of settings and seeds; select the best.

Each run uses one core and writes its own run directory in DIR, as lenet train does. A failed run
does not stop the others; its exit code becomes the sweep's. After an interruption, repeat the
command with --resume, or give only --resume and --output, to do the missing runs. At the end the
sweep prints a table and writes results.csv, results.json and best.yaml, which is the selected
configuration. The sweep does not use the test images: lenet eval DIR evaluates the selected
networks on them as an ensemble.

On a cluster, --task K/N does the K-th of N parts of the runs, as one task of an array; after all
tasks, --collect DIR prints the table and writes the files.

\b
    lenet sweep --grid optimizer.lr=0.01,0.03 --grid train.batch_size=64,128 \\
        --seeds 3 --output runs/sweep
    lenet sweep --grid optimizer.lr=log:0.001:0.1 --random 20 --output runs/drawn
    lenet sweep --data pictures/ --seeds 5 --output runs/five
    lenet sweep --config mnist --seeds 8 --output runs/eight --task 3/8
    lenet sweep --collect runs/eight
    mpiexec -n 4 lenet sweep --resume --output runs/sweep --executor mpi
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet.cli.options import (
    CONFIG,
    DATA,
    DATA_DIR,
    JSON,
    SET,
    data_overrides,
    output_file,
    warn,
)
from lenet.config.reader import load_config
from lenet.system.machine import usable_cores

if TYPE_CHECKING:
    from lenet.errors import ConfigError
    from lenet.sweep.ranking import Results


def _task(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """Return K and N of ``K/N``."""
    if text is None:
        return None
    numbers = re.fullmatch(r"0*([1-9]\d{0,5})/0*([1-9]\d{0,5})", text, re.ASCII)
    if numbers is None or int(numbers[1]) > int(numbers[2]):
        raise click.BadParameter(f"{text!r} is not K/N with 1 <= K <= N, such as 3/8")
    return int(numbers[1]), int(numbers[2])


@click.command(help=__doc__)
@CONFIG
@SET
@click.option(
    "--grid",
    multiple=True,
    metavar="KEY=VALUES",
    help="Values to try for one key, e.g. optimizer.lr=0.01,0.03. Repeatable. With --random also a "
    "range, e.g. optimizer.lr=log:0.001:0.1 or linear:0.01:0.05.",
)
@click.option(
    "--random",
    "count",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Sample N points of the grid instead of running all of them.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    metavar="N",
    help="Runs per point, with consecutive seeds from the configuration's seed on.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Sweep directory.",
)
@click.option(
    "--task",
    metavar="K/N",
    callback=_task,
    help="Do only the K-th of N parts of the runs; repeated, what is missing of it.",
)
@click.option(
    "--collect",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Collect the results of all tasks in DIR; nothing is trained.",
)
@click.option("--resume", is_flag=True, help="Resume the sweep in the output directory.")
@click.option("--overwrite", is_flag=True, help="Replace the sweep in the output directory.")
@click.option(
    "--executor",
    type=click.Choice(["local", "mpi"]),
    default="local",
    show_default=True,
    help="Run on local processes, or on the ranks of mpiexec (needs the extra mpi).",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Concurrent runs, one core each.  [default: number of cores]",
)
@output_file(
    "--plot", "Plot the errors of the runs over each key, as PNG or SVG (needs the extra viz)."
)
@DATA
@DATA_DIR
@click.option("--quiet", is_flag=True, help="Show no progress, only failed runs.")
@JSON
def command(
    file: Path | None,
    overrides: tuple[str, ...],
    grid: tuple[str, ...],
    count: int | None,
    seeds: int,
    output: Path | None,
    task: tuple[int, int] | None,
    collect: Path | None,
    resume: bool,
    overwrite: bool,
    executor: str,
    jobs: int | None,
    plot: Path | None,
    data: str | None,
    data_dir: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    if executor == "mpi" and jobs is not None:
        raise click.UsageError("--jobs applies to --executor local; give mpiexec -n instead")
    if task and (resume or overwrite or plot or as_json or executor == "mpi"):
        raise click.UsageError(
            "--task does what is missing of its runs: leave out --resume, --overwrite, --plot, "
            "--json and --executor"
        )
    if (output is None) == (collect is None):
        raise click.UsageError("give --output DIR, or --collect DIR to collect results")
    if data is not None:
        overrides = (*data_overrides(data, data_dir), *overrides)

    from lenet.sweep import executors
    from lenet.sweep.executors import check_with_data, run_all
    from lenet.sweep.grid import make_plan
    from lenet.sweep.one_run import collected, finished_runs
    from lenet.sweep.ranking import Results, failure
    from lenet.sweep.sweep_directory import PLAN, SweepDirectory, read_plan

    if plot is not None:
        from lenet.inspect.canvas import figure_format

        figure_format(plot)
    if output is None:
        assert collect is not None  # noqa: S101 - as checked above
        if task or resume or overwrite or grid or overrides or file:
            raise click.UsageError("--collect takes the plan from DIR: leave out other options")
        plan = read_plan(collect / PLAN)
        runs = plan.runs(collect)
        _report(Results.of(plan, runs, collected(runs)), collect, plot, as_json)
        return
    with (
        executors.local_processes(jobs or usable_cores())
        if executor == "local"
        else executors.mpi_ranks()
    ) as submit:
        if submit is None:
            return  # another rank, all of whose work is done
        if (resume or task) and not (grid or overrides or file) and (output / PLAN).exists():
            plan = read_plan(output / PLAN)
        else:
            plan, problems = make_plan(load_config(file, overrides), grid, count, seeds)
            _raise_all(problems)
        number = task[0] if task else None
        directory = SweepDirectory(
            output, plan, resume=resume, overwrite=overwrite, task=number, warn=warn
        )
        runs = plan.runs(output)[task[0] - 1 :: task[1]] if task else plan.runs(output)
        finished = finished_runs(runs) if resume or task else {}
        where = str(data_dir) if data_dir else None
        if len(finished) < len(runs):
            _raise_all(check_with_data(plan, where))
        with directory:
            stop = directory.stop_file
            signal = run_all(runs, finished, submit, stop, data_dir=where, quiet=quiet)
            if signal is not None:
                again = f"lenet sweep --resume --output {output}" if task is None else "the task"
                click.echo(
                    f"lenet: stopped by signal {signal} with {len(finished)} of {len(runs)} runs "
                    f"done; resume with {again}",
                    err=True,
                )
                raise SystemExit(128 + signal)
            if task is None:
                _report(Results.of(plan, runs, finished), output, plot, as_json)
                return
        click.echo(
            f"task {task[0]} of {task[1]}: {len(runs)} runs done; after all tasks: "
            f"lenet sweep --collect {output}"
        )
        if error := failure([finished[run.name] for run in runs], output):
            raise error


def _report(results: Results, directory: Path, plot: Path | None, as_json: bool) -> None:
    """Write and print the results; raise the error of failed runs."""
    results.write(directory)
    if plot is not None:
        from lenet.inspect.canvas import write_figure
        from lenet.sweep import ranking

        write_figure(plot, lambda: ranking.plot(results.to_dict()))
    if as_json:
        click.echo(json.dumps({"directory": str(directory), **results.to_dict()}))
    else:
        click.echo(results.to_text(directory))
    if failure := results.failure(directory):
        raise failure


def _raise_all(problems: Sequence[ConfigError]) -> None:
    """Print all problems but the last, a line each, and raise the last."""
    for problem in problems[:-1]:
        click.echo(f"lenet: error: {problem}", err=True)
    if problems:
        raise problems[-1]

"""Train over a grid of settings and seeds; select the best.

Each run uses one core and writes its own run directory in DIR, as lenet train does. A failed run
does not stop the others; its exit code becomes the sweep's. After an interruption, repeat the
command with --resume, or give only --resume and --output, to do the missing runs. At the end the
sweep prints a table and writes results.csv, results.json and best.yaml, which is the selected
configuration. The sweep does not use the test images: lenet eval DIR evaluates the selected
networks on them as an ensemble.

\b
    lenet sweep --grid optimizer.lr=0.01,0.03 --grid train.batch_size=64,128 \\
        --seeds 3 --output runs/sweep
    lenet sweep --grid optimizer.lr=log:0.001:0.1 --random 20 --output runs/drawn
    lenet sweep --config mnist --seeds 5 --output runs/five
    mpiexec -n 4 lenet sweep --resume --output runs/sweep --executor mpi
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet.cli.options import CONFIG, DATA_DIR, JSON, SET, warn
from lenet.config.reader import load_config
from lenet.system.machine import usable_cores

if TYPE_CHECKING:
    from lenet.errors import ConfigError


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
    required=True,
    help="Sweep directory.",
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
@click.option(
    "--plot",
    "figure",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Plot the errors of the runs over each key, as PNG or SVG (needs the extra viz).",
)
@DATA_DIR
@click.option("--quiet", is_flag=True, help="Show no progress, only failed runs.")
@JSON
def command(
    file: Path | None,
    overrides: tuple[str, ...],
    grid: tuple[str, ...],
    count: int | None,
    seeds: int,
    output: Path,
    resume: bool,
    overwrite: bool,
    executor: str,
    jobs: int | None,
    figure: Path | None,
    data_dir: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    if executor == "mpi" and jobs is not None:
        raise click.UsageError("--jobs applies to --executor local; give mpiexec -n instead")

    from lenet.sweep import executors
    from lenet.sweep.directory import PLAN, SweepDirectory, read_plan
    from lenet.sweep.grid import make_plan
    from lenet.sweep.results import Results
    from lenet.sweep.run import check_with_data, run_all
    from lenet.sweep.task import finished_runs

    with (
        executors.local_processes(jobs or usable_cores())
        if executor == "local"
        else executors.mpi_ranks()
    ) as submit:
        if submit is None:
            return  # another rank, all of whose work is done
        if resume and not (grid or overrides or file) and (output / PLAN).exists():
            plan = read_plan(output / PLAN)
        else:
            plan, problems = make_plan(load_config(file, overrides), grid, count, seeds)
            _raise_all(problems)
        directory = SweepDirectory(output, plan, resume=resume, overwrite=overwrite, warn=warn)
        if figure is not None:
            from lenet.inspect import figures
            from lenet.sweep.plot import plot

            figures.figure_format(figure)
        runs = plan.runs(output)
        finished = finished_runs(runs) if resume else {}
        data = str(data_dir) if data_dir else None
        if len(finished) < len(runs):
            _raise_all(check_with_data(plan, data))
        with directory:
            number = run_all(
                runs, finished, submit, directory.stop_file, data_dir=data, quiet=quiet
            )
            if number is not None:
                click.echo(
                    f"lenet: stopped by signal {number} with {len(finished)} of {len(runs)} runs "
                    f"done; resume with lenet sweep --resume --output {output}",
                    err=True,
                )
                raise SystemExit(128 + number)
            results = Results.of(plan, runs, finished)
            results.write(output)
        if figure is not None:
            figures.write_figure(figure, lambda: plot(results.to_dict()))
        if as_json:
            click.echo(json.dumps({"directory": str(output), **results.to_dict()}))
        else:
            click.echo(results.to_text(output))
        if failure := results.failure(output):
            raise failure


def _raise_all(problems: Sequence[ConfigError]) -> None:
    """Print all problems but the last, a line each, and raise the last."""
    for problem in problems[:-1]:
        click.echo(f"lenet: error: {problem}", err=True)
    if problems:
        raise problems[-1]

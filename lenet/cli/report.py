"""Write an HTML page about one RUN, or several side by side.

RUN is an output directory of lenet train. The page contains everything that it shows: results,
learning curves with the best epoch, the confusion matrix with the images behind its cells,
per-class scores, the worst mistakes, filters, configuration and machine. It needs no network
access.

\b
    lenet report runs/mnist
    lenet report runs/mnist --curves curves.png
    lenet report runs/plain runs/distorted --out compared.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet.cli.options import DATA, DATA_DIR, refuse_inputs, warn

if TYPE_CHECKING:
    from lenet.report.run_summary import RunSummary

FILES = ("best.npz", "last.npz", "log.jsonl", "log.csv", "config.yaml")  # of a run


@click.command(help=__doc__)
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN…")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="HTML file to write.  [default: report.html]",
)
@click.option(
    "--curves",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write the learning curves, as a PNG or SVG file. Needs the extra viz.",
)
@DATA
@DATA_DIR
def command(
    runs: tuple[Path, ...],
    out: Path | None,
    curves: Path | None,
    data: str | None,
    data_dir: Path | None,
) -> None:
    from lenet.report.report import to_html
    from lenet.report.run_summary import read_run
    from lenet.system.files import default_output, replacing

    page = out or default_output("report.html")
    files = {f"{run / name}": run / name for run in runs for name in FILES}
    refuse_inputs({"--out": page, "--curves": curves}, {**files, "--data": data})
    read = [read_run(run, str(data_dir) if data_dir else None, data) for run in runs]
    for run in read:
        if run.problem:
            warn(f"{run.name}: {run.problem}")
    if curves:
        _write_curves(curves, read)
    with replacing(page) as file:
        file.write(to_html(read).encode())
    click.echo(page)


def _write_curves(path: Path, runs: Sequence[RunSummary]) -> None:
    from lenet.inspect.canvas import write_figure
    from lenet.inspect.plots import curves
    from lenet.report.charts import charts

    title = "Training on " + ", ".join(dict.fromkeys(run.data for run in runs))
    write_figure(path, lambda: curves(charts(runs), title))
    click.echo(path)

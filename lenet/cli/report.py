"""``lenet report``: an HTML page about one or several runs."""

from __future__ import annotations

from pathlib import Path

import click

from lenet.cli.options import DATA, DATA_DIR


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN…")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    metavar="FILE",
    help="HTML file to write.",
)
@DATA
@DATA_DIR
def report(runs: tuple[Path, ...], out: Path, data: str | None, data_dir: Path | None) -> None:
    """Write a self-contained HTML page about one RUN, or several side by side.

    RUN is an output directory of lenet train. The page shows results, learning curves, confusion
    matrix, per-class scores, the worst mistakes, filters, configuration and machine.

    \b
        lenet report runs/mnist
        lenet report runs/plain runs/distorted --out compared.html
    """  # noqa: D301 - click's mark for lines to leave as they are
    from lenet.report.report import read_run, to_html
    from lenet.system.files import replacing

    read = [read_run(run, str(data_dir) if data_dir else None, data) for run in runs]
    for run in read:
        if run.problem:
            click.echo(f"lenet: warning: {run.name}: {run.problem}", err=True)
    with replacing(out) as file:
        file.write(to_html(read).encode())
    click.echo(out)

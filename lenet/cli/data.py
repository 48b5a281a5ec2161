"""``lenet data``: list, download and show the data sets."""

from __future__ import annotations

import json
from pathlib import Path

import click

from lenet.cli.options import DATA_DIR


@click.group()
def data() -> None:
    """List, download and show data sets.

    \b
        lenet data list
        lenet data fetch mnist
    """  # noqa: D301 - click's mark for lines to leave as they are


@data.command("list")
@DATA_DIR
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
def list_(data_dir: Path | None, as_json: bool) -> None:
    """List the data sets and the locations of their files."""
    from lenet.data.catalogue import CATALOGUE
    from lenet.data.published import locate

    found = {name: locate(name, data_dir) for name in CATALOGUE}
    if as_json:
        entries = [
            {
                "name": name,
                "description": CATALOGUE[name].description,
                "files": {role: path and str(path) for role, path in files.items()},
                "bytes": _size(files),
            }
            for name, files in found.items()
        ]
        click.echo(json.dumps({"schema_version": 1, "datasets": entries}, indent=2))
        return
    rows = [("NAME", "FILES", "SIZE", "WHERE", "DESCRIPTION")]
    for name, files in found.items():
        here = sorted({str(path.parent) for path in files.values() if path})
        count = sum(path is not None for path in files.values())
        rows.append(
            (
                name,
                f"{count} of {len(files)}" if files else "-",
                f"{_size(files) / 1e6:.1f} MB" if here else "-",
                ", ".join(here) or ("not present" if files else "-"),
                CATALOGUE[name].description,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _size(files: dict[str, Path | None]) -> int:
    return sum(path.stat().st_size for path in files.values() if path)


@data.command()
@click.argument("name")
@DATA_DIR
def fetch(name: str, data_dir: Path | None) -> None:
    """Download the files of data set NAME to the cache, or to --data-dir."""
    from lenet.data import published

    for path, fetched in published.fetch(name, data_dir).items():
        click.echo(f"{path}  {'fetched' if fetched else 'already present'}")


@data.command()
@click.argument("name")
@click.option(
    "--split",
    type=click.Choice(["train", "test"]),
    default="train",
    show_default=True,
    help="Which split of the data set to show.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="PNG or SVG file to write.  [default: NAME.png]",
)
@DATA_DIR
def show(name: str, split: str, out: Path | None, data_dir: Path | None) -> None:
    """Plot the first images of data set NAME, one row per class.

    Needs the extra viz.

    \b
        lenet data show strokes
        lenet data show mnist --split test --out mnist.png
    """  # noqa: D301 - click's mark for lines to leave as they are
    from lenet.data import datasets
    from lenet.inspect import figures, plots

    found = datasets.load_dataset(name, split, directory=data_dir)
    path = out or Path(f"{name}.png")
    title = f"{name}, {split}: the first images of each class of {len(found.images):,}"
    figures.write_figure(
        path, lambda: plots.samples(found.images, found.labels, found.class_names, title)
    )
    click.echo(path)

"""List, download, show and check data sets.

\b
    lenet data list
    lenet data fetch mnist
    lenet data check pictures/
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lenet.cli.options import DATA_DIR, data_overrides, warn

if TYPE_CHECKING:
    from lenet.data.datasets import Split


DATA_SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a key of the data, e.g. data.transpose=true. Repeatable.",
)


@click.group(help=__doc__)
def command() -> None: ...


@command.command("list")
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


@command.command()
@click.argument("name")
@DATA_DIR
def fetch(name: str, data_dir: Path | None) -> None:
    """Download the files of data set NAME to the cache, or to --data-dir."""
    from lenet.data import published

    for path, fetched in published.fetch(name, data_dir).items():
        click.echo(f"{path}  {'fetched' if fetched else 'already present'}")


@command.command()
@click.argument("name_or_path")
@click.option(
    "--split",
    type=click.Choice(["train", "test"]),
    default="train",
    show_default=True,
    help="Which split of the data set to show.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the random sample.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="PNG or SVG file to write.  [default: NAME.png]",
)
@DATA_DIR
@DATA_SET
def show(
    name_or_path: str,
    split: str,
    seed: int,
    out: Path | None,
    data_dir: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Plot a random sample of a data set, one row per class.

    NAME_OR_PATH is a named data set, a directory with IDX files, a directory with one directory of
    images per class, or a .npz or .csv file. Needs the extra viz.

    \b
        lenet data show strokes
        lenet data show mnist --split test --out mnist.png
        lenet data show pictures/ --set data.size=[32,32]
    """
    from lenet.data import check
    from lenet.inspect import figures, image_plots

    found = _load(name_or_path, split, data_dir, overrides)
    chosen = check.random_sample(found, image_plots.SAMPLES, seed)
    name = Path(name_or_path).resolve().stem
    path = out or Path(f"{name}.png")
    title = f"{name}, {split}: a random sample of each class of {len(found.images):,}"
    shown = found.images[chosen], found.labels[chosen]
    figures.write_figure(path, lambda: image_plots.samples(*shown, found.class_names, title))
    click.echo(path)


@command.command("check")
@click.argument("name_or_path")
@click.option(
    "--checkpoint",
    metavar="FILE",
    help="Also list the images whose label this network contradicts (a checkpoint or pretrained).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@DATA_DIR
@DATA_SET
def check_(
    name_or_path: str,
    checkpoint: str | None,
    as_json: bool,
    data_dir: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Count images and classes of a data set, find duplicates.

    Prints sizes, pixel values, the background, the number of images per class, duplicate images
    (with the same label or different ones), and test images that are also training images. Exits
    with code 0 if the data can be read, whatever is found.

    \b
        lenet data check mnist
        lenet data check pictures/ --checkpoint runs/pictures/best.npz
    """
    from lenet.data import check
    from lenet.errors import ConfigError, DataError

    splits = {"train": _load(name_or_path, "train", data_dir, overrides)}
    try:
        splits["test"] = _load(name_or_path, "test", data_dir, overrides)
    except (ConfigError, DataError) as error:
        warn(f"no test images: {error}")
    report = check.report(splits)
    if checkpoint is not None:
        report["suspect_labels"] = _suspects(checkpoint, splits, name_or_path)
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "data": name_or_path, **report}, indent=2))
    else:
        click.echo(check.as_text(report))


def _suspects(
    checkpoint: str, splits: dict[str, Split], file: str
) -> dict[str, list[dict[str, Any]]]:
    from lenet.checkpoint.restore import read_checkpoint
    from lenet.evaluation.images import for_network
    from lenet.evaluation.mistakes import suspect_labels

    network = read_checkpoint(checkpoint)
    return {
        name: [
            {
                "image": mistake.index,
                "label": network.class_names[mistake.label],
                "predicted": network.class_names[mistake.predicted],
                "probability": round(mistake.probability, 6),
            }
            for mistake in suspect_labels(network, for_network(network, split, file, warn=warn))
        ]
        for name, split in splits.items()
    }


def _load(target: str, split: str, data_dir: Path | None, overrides: tuple[str, ...]) -> Split:
    from lenet.config.reader import load_config
    from lenet.evaluation.images import load_dataset

    config = load_config(None, (*data_overrides(target, data_dir), *overrides))
    return load_dataset(config, split, data_dir, warn=warn)

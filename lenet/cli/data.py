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

from lenet.cli.options import DATA_DIR, LABELS, data_overrides, refuse_inputs, warn

if TYPE_CHECKING:
    from lenet.checkpoint.checkpoint import Checkpoint
    from lenet.config.schema import Config
    from lenet.data.dataset import Dataset, Split


DATA_SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a key of data or augment, e.g. data.transpose=true. Repeatable.",
)


@click.group(help=__doc__)
def command() -> None: ...


@command.command("list")
@DATA_DIR
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
def list_(data_dir: Path | None, as_json: bool) -> None:
    """List the data sets and the locations of their files."""
    from lenet.data.catalogue import CATALOGUE
    from lenet.data.formats.published import locate

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
    from lenet.data.formats import published

    for path, fetched in published.fetch(name, data_dir).items():
        click.echo(f"{path}  {'fetched' if fetched else 'already present'}")


@command.command()
@click.argument("name_or_path")
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
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

    NAME_OR_PATH is a named data set, or your own data: see lenet train --data. With distortions
    (--set augment.rotation=15), the images are shown as training will see them, distorted and
    padded. Needs the extra viz.

    \b
        lenet data show strokes
        lenet data show mnist --split test --out mnist.png
        lenet data show pictures/ --set data.size=[32,32]
        lenet data show pictures/ --set augment.rotation=15
    """
    from lenet.data import check
    from lenet.evaluation.images import distorted
    from lenet.inspect import canvas, plots
    from lenet.system.files import default_output

    config = _config(name_or_path, data_dir, overrides)
    data = _load(config, data_dir)
    found = data.training if split == "train" else data.split(split)
    sample = found.take(check.random_sample(found, plots.SAMPLES, seed))
    name = Path(name_or_path).resolve().stem
    path = out or default_output(f"{name}.png")
    refuse_inputs({"--out": path}, {name_or_path: name_or_path})
    title = f"{name}, {split}: a random sample of each class of {len(found.images):,}"
    images = distorted(config, sample, seed)
    canvas.write_figure(
        path, lambda: plots.samples(images, sample.labels, found.class_names, title)
    )
    click.echo(path)


@command.command("check")
@click.argument("name_or_path")
@click.option(
    "--checkpoint",
    metavar="FILE",
    help="Also list the images whose label this network contradicts (a checkpoint or pretrained).",
)
@click.option(
    "--csv",
    "findings",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write duplicates and contradicted labels to a CSV file; --labels takes a corrected one.",
)
@LABELS
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@DATA_DIR
@DATA_SET
def check_(
    name_or_path: str,
    checkpoint: str | None,
    findings: Path | None,
    labels: str | None,
    as_json: bool,
    data_dir: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Count images and classes of a data set, find duplicates.

    Prints sizes, pixel values, the background, the number of images per class, duplicate images
    (with the same label or different ones), test images that are also training images, and what was
    left out. Exits with code 0 if the data can be read, whatever is found.

    \b
        lenet data check mnist
        lenet data check pictures/ --checkpoint runs/pictures/best.npz --csv findings.csv
        lenet train --data pictures/ --labels findings.csv
    """
    from lenet.checkpoint.restore import read_checkpoint
    from lenet.data import check
    from lenet.errors import ConfigError, DataError
    from lenet.evaluation.images import picture_form

    inputs = {name_or_path: name_or_path, "--checkpoint": checkpoint, "--labels": labels}
    refuse_inputs({"--csv": findings}, inputs)
    network = None if checkpoint is None else read_checkpoint(checkpoint)
    config = _config(name_or_path, data_dir, ("data.damaged=skip", *overrides), labels=labels)
    form = {} if network is None else picture_form(network, config)
    data = _load(config, data_dir, **form)
    splits = {"train": data.training}
    try:
        if data.validation is not None:
            splits["validation"] = data.validation
        splits["test"] = data.test
    except (ConfigError, DataError) as error:
        warn(f"no usable validation or test images: {error}")
    report = check.report(splits, data.notes)
    if network is not None:
        report["suspect_labels"] = _suspects(network, splits, name_or_path)
    if findings is not None:
        check.write_findings(findings, report)
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "data": name_or_path, **report}, indent=2))
    else:
        click.echo(check.as_text(report))


def _suspects(
    network: Checkpoint, splits: dict[str, Split], file: str
) -> dict[str, list[dict[str, Any]]]:
    from lenet.data.check import place
    from lenet.evaluation.images import for_network
    from lenet.evaluation.mistakes import suspect_labels

    return {
        name: [
            {
                "image": mistake.index,
                **place(split, mistake.index),
                "label": network.class_names[mistake.label],
                "predicted": network.class_names[mistake.predicted],
                "probability": round(mistake.probability, 6),
            }
            for mistake in suspect_labels(network, for_network(network, split, file, warn=warn))
        ]
        for name, split in splits.items()
    }


def _config(
    target: str, data_dir: Path | None, overrides: tuple[str, ...], labels: str | None = None
) -> Config:
    from lenet.config.reader import load_config

    return load_config(None, data_overrides(target, data_dir, overrides, labels=labels))


def _load(config: Config, data_dir: Path | None, **form: Any) -> Dataset:  # noqa: ANN401
    from lenet.evaluation.images import load_dataset

    return load_dataset(config, data_dir, warn=warn, **form)

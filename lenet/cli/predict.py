"""Predict the class of each IMAGE with the network of CHECKPOINT.

IMAGE is a photo, scan or drawing of any size and colour, dark on light or light on dark, an array
of images (.npy, .npz), a table with the pixels of one image per row (.csv), a parquet file of
images, a directory of image files, or - for names on standard input, one per line. PNG, JPEG and
most other formats need the extra image; .npy, PGM and IDX files do not. Images in the form of the
training images are used as they are; for a network of digits, the digit is found in the image and
cut out.

\b
    lenet predict pretrained photo.jpg
    lenet predict runs/mnist/best.npz *.png --show-input seen.png
    lenet predict runs/mine/best.npz pictures/ --out predictions.csv
    lenet predict runs/digits/best.npz test.csv --out sub.csv --columns ImageId,Label

Exits with code 3 if an image cannot be read; the remaining images are still processed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import click

from lenet.errors import LenetError


@click.command(help=__doc__)
@click.argument("checkpoint", type=click.Path(path_type=Path), metavar="CHECKPOINT|pretrained")
@click.argument(
    "images", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="IMAGE..."
)
@click.option(
    "--input",
    "way",
    type=click.Choice(["auto", "as-is", "fit", "digit"]),
    default="auto",
    show_default=True,
    help="How an image becomes the input: unchanged; scaled to the size of the training images; or "
    "the digit found, cut out and centred. auto takes what the training images suggest.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per image, one per line."
)
@click.option(
    "--out",
    "table",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the predictions to FILE.csv or FILE.jsonl instead of printing them.",
)
@click.option(
    "--columns",
    metavar="ID,LABEL",
    help="Write only these two columns to FILE.csv, e.g. ImageId,Label for a submission.",
)
@click.option(
    "--show-input",
    "sheet_file",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Write a contact sheet of the images, each beside the network input made from it.",
)
def command(
    checkpoint: Path,
    images: tuple[Path, ...],
    way: str,
    as_json: bool,
    table: Path | None,
    columns: str | None,
    sheet_file: Path | None,
) -> None:
    if sheet_file is not None and sheet_file.suffix.lower() != ".png":
        raise click.UsageError(f"--show-input writes a PNG, not {sheet_file}")
    if sheet_file in images:
        raise click.UsageError(f"--show-input would overwrite the image {sheet_file}")
    if table is not None and table.suffix.lower() not in {".csv", ".jsonl"}:
        raise click.UsageError(f"--out writes .csv or .jsonl, not {table}")
    names = None if columns is None else tuple(name.strip() for name in columns.split(","))
    if names is not None and (table is None or table.suffix.lower() != ".csv" or len(names) != 2):
        raise click.UsageError("--columns takes two names, e.g. ImageId,Label, with --out FILE.csv")
    if table in images:
        raise click.UsageError(f"--out would overwrite the image {table}")

    from lenet.checkpoint.restore import read_checkpoint
    from lenet.data.formats.table import column
    from lenet.predict.output import Sheet, Table
    from lenet.predict.prediction import Predictor
    from lenet.system.text import printable

    sheet = None if sheet_file is None else Sheet(sheet_file)
    predictor = Predictor(read_checkpoint(checkpoint), way)
    errors = 0

    def failed(error: LenetError) -> None:
        nonlocal errors
        errors += 1
        click.echo(f"lenet: error: {error}", err=True)

    with ExitStack() as stack:
        ids = () if names is None else column(images[0], names[0])
        rows = None if table is None else stack.enter_context(Table(table, names, ids))
        paths = _expanded(images, failed)
        if table is not None:
            paths = _with_bar(paths, counted=Path("-") not in images)
        shown = sheet is not None
        for prediction, picture in predictor.files(paths, failed, with_thumbnails=shown):
            if rows is None:
                print(prediction.to_json() if as_json else prediction.to_text())
            else:
                rows.add(prediction)
            if prediction.warning and not as_json and rows is None:
                _warn(printable(f"{prediction.file}: {prediction.warning}"))
            if sheet is not None and picture is not None:
                sheet.add(picture, prediction)
    if rows is not None:
        click.echo(f"{table}: {rows.count:,} predictions, {rows.warnings:,} with a warning")
    if sheet is not None and (warning := sheet.write()):
        _warn(warning)
    if errors:
        raise SystemExit(3)


def _expanded(images: tuple[Path, ...], failed: Callable[[LenetError], None]) -> Iterator[Path]:
    """Yield the files, those of directories, and for ``-`` those named on standard input."""
    from lenet.errors import ImageError
    from lenet.predict.output import image_files

    for path in images:
        if str(path) == "-":
            names = (line.rstrip("\r\n") for line in sys.stdin)
            yield from (Path(name) for name in names if name)
            continue
        try:
            yield from image_files(path)
        except ImageError as error:
            failed(error)


def _with_bar(paths: Iterator[Path], *, counted: bool) -> Iterator[Path]:
    """Yield the paths with a progress bar on a terminal, of their number if they may be counted."""
    from tqdm import tqdm

    from lenet.system.text import supports_progress_bar

    if not supports_progress_bar(sys.stderr):
        yield from paths
        return
    yield from tqdm(list(paths) if counted else paths, unit=" files", leave=False)


def _warn(text: str) -> None:
    click.echo(f"lenet: warning: {text}", err=True)

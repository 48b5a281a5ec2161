"""Predict the class of each IMAGE with the network of CHECKPOINT.

IMAGE is a photo, scan or drawing of any size and colour, dark on light or light on dark, an array
of images (.npy, .npz, IDX), a .csv or .parquet file with or without labels, a directory of image
files, or - for names on standard input, one per line. PNG, JPEG and most other formats need the
extra image. Images in the form of the training images are used as they are; others are scaled to
their size. For a network of digits, the digit is found in the image and cut out.

\b
    lenet predict pretrained photo.jpg
    lenet predict runs/mnist/best.npz *.png --show-input seen.png
    lenet predict runs/mine/best.npz pictures/ --out predictions.csv
    lenet predict runs/mine/best.npz test.csv --out submission.csv --columns ImageId,Label
    find . -name "*.png" -print0 | lenet predict pretrained -0 -

Exits with code 3 if an image cannot be read; the remaining images are still processed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import click

from lenet.cli.options import refuse_inputs, warn
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
    metavar="ID,CLASS",
    help="With --out FILE.csv: write only two columns of these names, what identifies each image "
    "(the column ID of a table, else its number from 1; a picture's file name) and its class.",
)
@click.option(
    "--show-input",
    "sheet_file",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Write a contact sheet of the images, each beside the network input made from it.",
)
@click.option(
    "-0",
    "nul",
    is_flag=True,
    help="Names on standard input are separated by NUL, as find -print0 writes them.",
)
def command(
    checkpoint: Path,
    images: tuple[Path, ...],
    way: str,
    as_json: bool,
    table: Path | None,
    columns: str | None,
    sheet_file: Path | None,
    nul: bool,
) -> None:
    if sheet_file is not None and sheet_file.suffix.lower() != ".png":
        raise click.UsageError(f"--show-input writes a PNG, not {sheet_file}")
    if table is not None and table.suffix.lower() not in {".csv", ".jsonl"}:
        raise click.UsageError(f"--out writes .csv or .jsonl, not {table}")
    names = () if columns is None else tuple(name.strip() for name in columns.split(","))
    if names and (table is None or table.suffix.lower() != ".csv" or len(names) != 2):
        raise click.UsageError("--columns takes two names, e.g. ImageId,Label, with --out FILE.csv")
    outputs = {"--out": table, "--show-input": sheet_file}
    refuse_inputs(outputs, {"CHECKPOINT": checkpoint, **{str(path): path for path in images}})

    from lenet.checkpoint.restore import read_checkpoint
    from lenet.predict.output import Sheet, Table
    from lenet.predict.prediction import Predictor

    sheet = None if sheet_file is None else Sheet(sheet_file)
    predictor = Predictor(read_checkpoint(checkpoint), way)
    remarks, told = predictor.preparation.remarks, 0
    errors = 0

    def failed(error: LenetError) -> None:
        nonlocal errors
        errors += 1
        click.echo(f"lenet: error: {error}", err=True)

    with ExitStack() as stack:
        rows = None if table is None else stack.enter_context(Table(table, names))
        paths = _kept(_expanded(images, failed, nul=nul), outputs)
        if table is not None:
            paths = _with_bar(paths, counted=Path("-") not in images)
        shown = sheet is not None
        for prediction, picture in predictor.files(
            paths, failed, with_thumbnails=shown, ids=names[:1]
        ):
            if rows is None:
                print(prediction.to_json() if as_json else prediction.to_text())
            else:
                rows.add(prediction)
            if prediction.warning and not as_json and rows is None:
                warn(f"{prediction.file}: {prediction.warning}")
            if sheet is not None and picture is not None:
                sheet.add(picture, prediction)
            for remark in remarks[told:]:
                warn(remark)
            told = len(remarks)
    if rows is not None:
        click.echo(f"{table}: {rows.count:,} predictions, {rows.warnings:,} with a warning")
    if sheet is not None and (warning := sheet.write()):
        warn(warning)
    if errors:
        raise SystemExit(3)


def _expanded(
    images: tuple[Path, ...], failed: Callable[[LenetError], None], *, nul: bool
) -> Iterator[Path]:
    """Yield the files, those of directories, and for ``-`` those named on standard input."""
    from lenet.errors import ImageError
    from lenet.predict.sources import image_files, names_in

    for path in images:
        try:
            if str(path) != "-":
                yield from image_files(path)
            elif sys.stdin is None:
                raise click.UsageError("standard input is closed: it has no names of images")
            else:
                yield from names_in(sys.stdin.buffer, failed, b"\0" if nul else b"\n")
        except ImageError as error:
            failed(error)


def _kept(paths: Iterator[Path], outputs: dict[str, Path | None]) -> Iterator[Path]:
    """Yield the paths, and refuse those that an output would replace."""
    for path in paths:
        refuse_inputs(outputs, {str(path): path})
        yield path


def _with_bar(paths: Iterator[Path], *, counted: bool) -> Iterator[Path]:
    """Yield the paths with a progress bar on a terminal, of their number if they may be counted."""
    from tqdm import tqdm

    from lenet.system.text import supports_progress_bar

    if not supports_progress_bar(sys.stderr):
        yield from paths
        return
    yield from tqdm(list(paths) if counted else paths, unit=" files", leave=False)

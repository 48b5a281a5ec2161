"""``lenet predict``: which digit is in a picture, how sure that is, and what speaks against it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lenet.predict.prediction import Prediction

MAX_ROWS: Final = 100  # images that --show-input shows


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path), metavar="CHECKPOINT|pretrained")
@click.argument(
    "images", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="IMAGE..."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line for every image.")
@click.option(
    "--show-input",
    "sheet",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Write what the network saw, beside the pictures.",
)
def predict(checkpoint: Path, images: tuple[Path, ...], as_json: bool, sheet: Path | None) -> None:
    """Say which digit is in every IMAGE, by the network of CHECKPOINT.

    Photos, scans and drawings of any size and colour, dark on light or light on dark. PNG, JPEG
    and other pictures want the extra image; .npy, PGM and IDX files do not.

    \b
        lenet predict pretrained photo.jpg
        lenet predict runs/mnist/best.npz *.png --show-input seen.png

    Exits with 3 if an image could not be read; the others are predicted all the same.
    """  # noqa: D301 - click's mark for lines to leave as they are
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise click.UsageError(f"--show-input writes a PNG, not {sheet}")
    if sheet in images:
        raise click.UsageError(f"--show-input would overwrite the image {sheet}")

    from lenet.data.imagefile import read_images
    from lenet.predict.prediction import Predictor, sheet_row, write_sheet
    from lenet.system.errors import DataError, ImageError, printable
    from lenet.system.extras import require
    from lenet.training.restore import read_checkpoint

    if sheet is not None:
        require("PIL", "image")
    predictor = Predictor(read_checkpoint(checkpoint))
    rows: list[NDArray[np.uint8]] = []
    failed, left_out = False, 0
    for path in images:
        try:
            for name, pixels in read_images(path):
                prediction = predictor(name, pixels)
                _report(prediction, as_json)
                if sheet is not None and len(rows) < MAX_ROWS:
                    rows.append(sheet_row(pixels, prediction))
                elif sheet is not None:
                    left_out += 1
        except (DataError, ImageError) as error:
            failed = True
            click.echo(f"lenet: error: {error}", err=True)
    if sheet is not None and rows:
        write_sheet(sheet, rows)
    if left_out:
        told = f"{sheet} shows the first {MAX_ROWS} images, {left_out:,} are left out"
        click.echo(f"lenet: warning: {printable(told)}", err=True)
    if failed:
        raise SystemExit(3)


def _report(prediction: Prediction, as_json: bool) -> None:
    """Print a line for a prediction, and in words its warning on stderr."""
    from lenet.system.errors import printable

    if as_json:
        click.echo(json.dumps(prediction.to_dict()))
        return
    found = ", ".join(f"{label} {probability:.1%}" for label, probability in prediction.top)
    click.echo(printable(f"{prediction.file}: {found or 'no digit'}"))
    if prediction.warning:
        told = printable(f"{prediction.file}: {prediction.warning}")
        click.echo(f"lenet: warning: {told}", err=True)

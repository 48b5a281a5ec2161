"""``lenet predict``: the class of an image file, with probabilities and warnings."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path), metavar="CHECKPOINT|pretrained")
@click.argument(
    "images", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="IMAGE..."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per image, one per line."
)
@click.option(
    "--show-input",
    "sheet_file",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Write a contact sheet of the images, each beside the network input made from it.",
)
def predict(
    checkpoint: Path, images: tuple[Path, ...], as_json: bool, sheet_file: Path | None
) -> None:
    """Predict the class of each IMAGE with the network of CHECKPOINT.

    IMAGE is a photo, scan or drawing of any size and colour, dark on light or light on dark. PNG,
    JPEG and most other formats need the extra image; .npy, PGM and IDX files do not. For a network
    with one input channel, the digit is found in the image and cut out; a network with three
    channels gets the whole image.

    \b
        lenet predict pretrained photo.jpg
        lenet predict runs/mnist/best.npz *.png --show-input seen.png

    Exits with code 3 if an image cannot be read; the remaining images are still processed.
    """  # noqa: D301 - click's mark for lines to leave as they are
    if sheet_file is not None and sheet_file.suffix.lower() != ".png":
        raise click.UsageError(f"--show-input writes a PNG, not {sheet_file}")
    if sheet_file in images:
        raise click.UsageError(f"--show-input would overwrite the image {sheet_file}")

    from lenet.data.imagefile import read_images
    from lenet.predict.prediction import Predictor
    from lenet.predict.sheet import Sheet
    from lenet.system.errors import DataError, ImageError
    from lenet.system.text import printable
    from lenet.training.restore import read_checkpoint

    sheet = None if sheet_file is None else Sheet(sheet_file)
    predictor = Predictor(read_checkpoint(checkpoint))
    failed = False
    for path in images:
        try:
            for name, pixels in read_images(path):
                prediction = predictor(name, pixels)
                click.echo(prediction.to_json() if as_json else prediction.to_text())
                if prediction.warning and not as_json:
                    _warn(printable(f"{prediction.file}: {prediction.warning}"))
                if sheet is not None:
                    sheet.add(pixels, prediction)
        except (DataError, ImageError) as error:
            failed = True
            click.echo(f"lenet: error: {error}", err=True)
    if sheet is not None and (warning := sheet.write()):
        _warn(warning)
    if failed:
        raise SystemExit(3)


def _warn(text: str) -> None:
    click.echo(f"lenet: warning: {text}", err=True)

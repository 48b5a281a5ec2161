"""``lenet export``: write a network as an ONNX model or as C source."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import click


def _size(_ctx: click.Context, _param: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """Return ``N`` or ``HxW`` as height and width."""
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is not a size, such as 28 or 32x24")
    return int(found[1]), int(found[2] or found[1])


@click.command()
@click.argument(
    "checkpoint",
    type=click.Path(path_type=Path),
    metavar="CHECKPOINT|pretrained",
    required=False,
)
@click.option(
    "--onnx",
    "onnx_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write an ONNX model (needs the extra onnx).",
)
@click.option(
    "--c",
    "c_directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write lenet.c and lenet.h to this directory.",
)
@click.option(
    "--image-size",
    metavar="N|HxW",
    callback=_size,
    help="Height and width of the raw images.  [default: 28 for greyscale, else the input's]",
)
@click.option(
    "--input",
    "input_type",
    type=click.Choice(["bytes", "float"]),
    default="bytes",
    show_default=True,
    help="The ONNX model's input: levels from 0 to 255 as uint8 or as float32.",
)
@click.option(
    "--opset",
    type=int,
    metavar="N",
    help="The version of ONNX's operators, from 11 to 17.  [default: 11]",
)
@click.option(
    "--check",
    "check",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Run an exported ONNX file on the test image in it.",
)
def export(
    checkpoint: Path | None,
    onnx_file: Path | None,
    c_directory: Path | None,
    image_size: tuple[int, int] | None,
    input_type: Literal["bytes", "float"],
    opset: int | None,
    check: Path | None,
) -> None:
    """Export the network of CHECKPOINT for use without this package.

    Both formats take raw images with levels from 0 to 255, channels first; in greyscale, 0 is
    background and 255 ink. Scaling and padding are included. Levels from 0 to 1 are taken for a
    blank image, for which no class is certain. The ONNX model takes batches of any size. Before it
    is written, it is validated by ONNX's checker and its output is compared with this package's.
    The C code needs only the C library.

    \b
        lenet export runs/mnist/best.npz --onnx lenet.onnx
        lenet export pretrained --c firmware/
        lenet export --check lenet.onnx
    """  # noqa: D301 - click's mark for lines to leave as they are
    if onnx_file is None and c_directory is None and check is None:
        raise click.UsageError("give --onnx FILE or --c DIR, or --check FILE")
    if checkpoint is None and (onnx_file or c_directory):
        raise click.UsageError("Missing argument 'CHECKPOINT|pretrained'.")
    if checkpoint is not None and (onnx_file or c_directory):
        _export(checkpoint, onnx_file, c_directory, image_size, input_type, opset)
    if check is not None:
        from lenet.export.check import check_file

        found = check_file(check)
        click.echo(
            f"{check}: the answer is {found.answer}, its scores within {found.difference:.1e} of "
            f"those stored, in {found.runtime}"
        )


def _export(
    checkpoint: Path,
    onnx_file: Path | None,
    c_directory: Path | None,
    image_size: tuple[int, int] | None,
    input_type: Literal["bytes", "float"],
    opset: int | None,
) -> None:
    from lenet.export.exported import exported_network
    from lenet.system.files import replacing
    from lenet.training.restore import read_checkpoint

    exported = exported_network(read_checkpoint(checkpoint), image_size)
    if onnx_file is not None:
        from lenet.export.onnx_model import OPSET, checked_model

        chosen = OPSET if opset is None else opset
        model, difference = checked_model(exported, input_type, chosen)
        with replacing(onnx_file) as file:
            file.write(model)
        click.echo(f"{onnx_file}: its scores are within {difference:.1e} of lenet's")
    if c_directory is not None:
        from lenet.export.c_source import c_source

        for name, text in c_source(exported).items():
            with replacing(c_directory / name) as file:
                file.write(text.encode("ascii"))
        click.echo(f"{c_directory / 'lenet.c'}: compile with cc -std=c99 -O2, link with -lm")

"""``lenet export``: write a network as an ONNX model or as C source."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path), metavar="CHECKPOINT|pretrained")
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
    type=click.IntRange(min=1),
    default=28,
    show_default=True,
    metavar="N",
    help="Height and width of the raw images.",
)
def export(
    checkpoint: Path, onnx_file: Path | None, c_directory: Path | None, image_size: int
) -> None:
    """Export the network of CHECKPOINT for use without this package.

    Both formats take raw greyscale images, 0 (background) to 255 (ink); scaling and padding are
    included. The ONNX model takes batches of any size. Before it is written, it is validated by
    ONNX's checker and its output is compared with this package's. The C code needs only the C
    library.

    \b
        lenet export runs/mnist/best.npz --onnx lenet.onnx
        lenet export pretrained --c firmware/
    """  # noqa: D301 - click's mark for lines to leave as they are
    if onnx_file is None and c_directory is None:
        raise click.UsageError("give --onnx FILE or --c DIR")

    from lenet.export.subject import subject
    from lenet.system.files import replacing
    from lenet.training.restore import read_checkpoint

    exported = subject(read_checkpoint(checkpoint), image_size)
    if onnx_file is not None:
        import numpy as np

        from lenet.export.onnx_model import compare, onnx_model

        model = onnx_model(exported)
        noise = np.random.default_rng(0).integers(256, size=(16, 1, image_size, image_size))
        difference = compare(model, exported, noise.astype(np.uint8))
        with replacing(onnx_file) as file:
            file.write(model)
        click.echo(f"{onnx_file}: its scores are within {difference:.1e} of lenet's")
    if c_directory is not None:
        from lenet.export.c_source import c_source

        for name, text in c_source(exported).items():
            with replacing(c_directory / name) as file:
                file.write(text.encode("ascii"))
        click.echo(f"{c_directory / 'lenet.c'}: compile with cc -std=c99 -O2, link with -lm")

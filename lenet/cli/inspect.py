"""``lenet inspect``: plots of a network's filters and of its outputs for an image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from lenet.cli.options import DATA, DATA_DIR

# The plots, and which of IMAGE, --layer and --unit each takes.
TAKES: Final[dict[str, set[str]]] = {
    "filters": {"--layer"},
    "maps": {"IMAGE"},
    "patches": {"IMAGE", "--layer"},
    "deconv": {"IMAGE", "--layer", "--unit"},
    "field": {"IMAGE", "--layer", "--unit"},
    "edges": {"IMAGE"},
    "embedding": set(),
    "reliability": set(),
}


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path), metavar="CHECKPOINT|pretrained")
@click.argument("what", type=click.Choice(list(TAKES)), metavar="WHAT")
@click.argument("image", required=False, type=click.Path(path_type=Path))
@click.option(
    "--digit",
    type=click.IntRange(min=0),
    metavar="N",
    help="Instead of IMAGE, test image N of the checkpoint's data set.  [default: 0]",
)
@click.option("--layer", metavar="NAME", help="Name of the layer, e.g. C3 or S4.")
@click.option("--unit", type=int, metavar="N", help="Index of the unit in the layer.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="PNG or SVG file to write.  [default: WHAT.png]",
)
@DATA
@DATA_DIR
def inspect(
    checkpoint: Path,
    what: str,
    image: Path | None,
    digit: int | None,
    layer: str | None,
    unit: int | None,
    out: Path | None,
    data: str | None,
    data_dir: Path | None,
) -> None:
    """Plot what the network of CHECKPOINT has learnt. Needs the extra viz.

    WHAT is one of:

    \b
    filters          the kernels of the first two convolutions, or of --layer
    maps IMAGE       the output of each layer, with the shapes of the patch matrices
    patches IMAGE    the patch matrix of the first convolution, or of --layer
    deconv IMAGE     the input pixels behind the strongest units of the last pooling, or of
                     --layer, or one --unit
    field IMAGE      the receptive field of a unit of each convolution and pooling, or of --layer
    edges IMAGE      edge kernels, and average compared with max pooling
    embedding        the last hidden layer for 1,000 test images, in two dimensions
    reliability      how often the network is right, by the probability of its prediction

    \b
        lenet inspect runs/mnist/best.npz maps --digit 7
        lenet inspect pretrained deconv photo.jpg --layer C3 --out c3.svg
    """  # noqa: D301 - click's mark for lines to leave as they are
    given = {"IMAGE": image or digit is not None, "--layer": layer, "--unit": unit is not None}
    for name, value in given.items():
        if value and name not in TAKES[what]:
            raise click.UsageError(f"{what} takes no {name}")
    if image and digit is not None:
        raise click.UsageError("give IMAGE or --digit, not both")
    if unit is not None and layer is None:
        raise click.UsageError("--unit is a unit of a --layer: give both")

    from lenet.inspect import inspection
    from lenet.inspect.figures import write_figure
    from lenet.training.build import with_data
    from lenet.training.restore import read_checkpoint

    stored = read_checkpoint(checkpoint)
    draw = inspection.inspect(
        replace(stored, config=with_data(stored.config, data, data_dir)),
        what,
        file=image,
        number=digit or 0,
        layer=layer,
        unit=unit,
        data_dir=str(data_dir) if data_dir else None,
    )
    path = out or Path(f"{what}.png")
    write_figure(path, draw)
    click.echo(path)

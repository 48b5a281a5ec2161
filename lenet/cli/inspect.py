"""Plot what a network has learnt: filters, activations, gradients.

Needs the extra viz.

\b
    lenet inspect runs/mnist/best.npz maps --index 0
    lenet inspect pretrained gradients --index 0 --label 3
    lenet inspect pretrained rotation photo.jpg --layer C3 --out rotation.svg
"""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import Final

import click

from lenet.cli.options import DATA, DATA_DIR, refuse_inputs, warn
from lenet.inspect.choices import IMAGE, LABEL, LAYER, PLOTS, UNIT, Plot


def _lines(name: str, plot: Plot) -> str:
    """Return a plot's name, and beside it what it shows."""
    image = f"{IMAGE}: " if IMAGE in plot.takes else ""
    return "\n".join(wrap(f"{name:<12}{image}{plot.shows}", 76, subsequent_indent=12 * " "))


LINES: Final = "\n".join(_lines(name, plot) for name, plot in PLOTS.items())
HELP: Final = f"{__doc__}\nWHAT is one of:\n\n\b\n{LINES}"


@click.command(help=HELP)
@click.argument("checkpoint", type=click.Path(path_type=Path), metavar="CHECKPOINT|pretrained")
@click.argument("what", type=click.Choice(list(PLOTS)), metavar="WHAT")
@click.argument("image", required=False, type=click.Path(path_type=Path))
@click.option(
    "--index",
    type=click.IntRange(min=0),
    metavar="N",
    help="Instead of IMAGE, test image N of the checkpoint's data set, counted from 0.  "
    "[default: 0]",
)
@click.option("--digit", "old_index", type=click.IntRange(min=0), hidden=True)
@click.option("--layer", metavar="NAME", help="Name of the layer, e.g. C3 or S4.")
@click.option("--unit", type=int, metavar="N", help="Index of the unit in the layer.")
@click.option(
    "--label",
    metavar="CLASS",
    help="Class for which the gradient is computed.  [default: the most probable wrong one]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="PNG or SVG file to write.  [default: WHAT.png]",
)
@DATA
@DATA_DIR
def command(
    checkpoint: Path,
    what: str,
    image: Path | None,
    index: int | None,
    old_index: int | None,
    layer: str | None,
    unit: int | None,
    label: str | None,
    out: Path | None,
    data: str | None,
    data_dir: Path | None,
) -> None:
    if old_index is not None:
        warn("--digit is now called --index: it is the number of a test image, not a digit")
        index = old_index if index is None else index
    given = {
        IMAGE: image or index is not None,
        LAYER: layer,
        UNIT: unit is not None,
        LABEL: label is not None,
    }
    for name, value in given.items():
        if value and name not in PLOTS[what].takes:
            raise click.UsageError(f"{what} takes no {name}")
    if image and index is not None:
        raise click.UsageError("give IMAGE or --index, not both")
    if unit is not None and layer is None:
        raise click.UsageError("--unit is a unit of a --layer: give both")

    from lenet.checkpoint.restore import read_checkpoint
    from lenet.evaluation.images import with_data
    from lenet.inspect import inspection
    from lenet.inspect.canvas import write_figure
    from lenet.system.files import default_output

    path = out or default_output(f"{what}.png")
    refuse_inputs({"--out": path}, {"CHECKPOINT": checkpoint, IMAGE: image, "--data": data})
    stored = read_checkpoint(checkpoint)
    draw = inspection.inspect(
        stored,
        what,
        file=image,
        number=index or 0,
        layer=layer,
        unit=unit,
        label=label,
        data_dir=str(data_dir) if data_dir else None,
        config=with_data(stored.config, data, data_dir),
    )
    write_figure(path, draw)
    click.echo(path)

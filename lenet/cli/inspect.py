"""``lenet inspect``: pictures of what a network has learnt and does with an image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lenet.cli.options import DATA_DIR

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lenet.training.checkpoint import Checkpoint

# What there is to see, and which of IMAGE, --layer and --unit it takes.
TAKES: Final[dict[str, set[str]]] = {
    "filters": {"--layer"},
    "maps": {"IMAGE"},
    "patches": {"IMAGE", "--layer"},
    "deconv": {"IMAGE", "--layer", "--unit"},
    "field": {"IMAGE", "--layer", "--unit"},
    "edges": {"IMAGE"},
    "embedding": set(),
}
STRONGEST: Final = 7  # units of a picture, beside the input
EMBEDDED: Final = 1000  # test images


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path), metavar="CHECKPOINT|pretrained")
@click.argument("what", type=click.Choice(list(TAKES)), metavar="WHAT")
@click.argument("image", required=False, type=click.Path(path_type=Path))
@click.option(
    "--digit",
    type=click.IntRange(min=0),
    metavar="N",
    help="In the place of IMAGE, the N-th test image of the checkpoint's data set.  [default: 0]",
)
@click.option("--layer", metavar="NAME", help="Which layer, such as C3 or S4.")
@click.option("--unit", type=int, metavar="N", help="Which unit of the layer.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="PNG or SVG, by its ending.  [default: WHAT.png]",
)
@DATA_DIR
def inspect(
    checkpoint: Path,
    what: str,
    image: Path | None,
    digit: int | None,
    layer: str | None,
    unit: int | None,
    out: Path | None,
    data_dir: Path | None,
) -> None:
    """Draw WHAT there is to see in the network of CHECKPOINT; wants the extra viz.

    \b
    filters          the kernels of C1 and C3, or of --layer
    maps IMAGE       every layer's outputs, with the shapes of the patch matrices
    patches IMAGE    how im2col lays out the patches of C1, or of --layer
    deconv IMAGE     what drove the strongest units of S4, or of --layer, or one --unit
    field IMAGE      the receptive field of a unit of every layer, or of --layer
    edges IMAGE      kernels for lines, average against max pooling
    embedding        F6 of 1,000 test images in two dimensions

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

    from lenet.inspect.plots import write_picture
    from lenet.training.restore import read_checkpoint

    held = read_checkpoint(checkpoint)
    path = out or Path(f"{what}.png")
    write_picture(path, _drawing(held, what, image, digit, layer, unit, data_dir))
    click.echo(path)


def _drawing(
    held: Checkpoint,
    what: str,
    file: Path | None,
    digit: int | None,
    layer: str | None,
    unit: int | None,
    data_dir: Path | None,
) -> Callable[[], Any]:
    """Return the function that draws the picture asked for."""
    from lenet.inspect import plots, views
    from lenet.training.build import load_split
    from lenet.training.restore import plain_network, preprocessing_of

    network, preprocessing = plain_network(held), preprocessing_of(held)
    if what == "filters":
        names = [layer] if layer else views.convolutions(network)[:2]
        return lambda: plots.filters(network, names)
    if what == "embedding":
        found = load_split(held.config, "test", data_dir and str(data_dir))
        images, labels = found.images[:EMBEDDED], found.labels[:EMBEDDED]
        name = held.config.data.name
        return lambda: plots.embedding(
            network, preprocessing, images, labels, held.class_names, name
        )  # fmt: skip
    image, caption = _image(held, file, digit or 0, data_dir)
    if what == "edges":
        return lambda: plots.edges(image, caption)
    x = views.prepared(preprocessing, image[None])
    if what == "maps":
        return lambda: plots.maps(network, x, held.class_names, caption)
    if what == "patches":
        return lambda: plots.patches(network, x, layer or "C1", caption)
    if unit is not None and layer is not None:
        units = [views.chosen_unit(network, x, layer, unit)]
    elif what == "deconv":
        units = views.strongest_units(network, x, layer or "S4", STRONGEST)
    else:
        names = [layer] if layer else ["C1", "S2", "C3", "S4", "C5"]
        units = [views.strongest_units(network, x, name, 1)[0] for name in names]
    draw = plots.deconv if what == "deconv" else plots.field
    return lambda: draw(network, x, units, caption)


def _image(
    held: Checkpoint, file: Path | None, digit: int, data_dir: Path | None
) -> tuple[NDArray[np.uint8], str]:
    """Return an image (H,W) as the network was trained on, and what it is."""
    from lenet.system.errors import ConfigError, ImageError
    from lenet.training.build import load_split

    if file is None:
        found = load_split(held.config, "test", data_dir and str(data_dir))
        if digit >= len(found.images):
            raise ConfigError(
                f"is {digit}, but there are {len(found.images)} test images",
                remedy=f"give a number from 0 to {len(found.images) - 1}",
                key="--digit",
            )
        label = held.class_names[found.labels[digit]]
        return found.images[digit], f"test image {digit} of {held.config.data.name}: {label}"
    from lenet.data.imagefile import read_images
    from lenet.predict.finder import find_digit

    _, pixels = next(read_images(file))
    seen = find_digit(pixels)
    if seen is None:
        raise ImageError(
            "no digit found in it", remedy="give an image in which one stands out", file=file
        )
    return seen.image, file.name

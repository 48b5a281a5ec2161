"""``lenet import``: make a checkpoint of a network that another program has trained."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("import")
@click.argument("onnx_file", type=click.Path(path_type=Path), metavar="FILE")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The checkpoint to write.",
)
@click.option(
    "--scale",
    type=float,
    help="The file's input is scale × level + shift.  [default: 1 if it takes levels, else 1/255]",
)
@click.option("--shift", type=float, help="See --scale.  [default: 0]")
@click.option("--classes", metavar="A,B,…", help="The names of the classes.  [default: 0,1,…]")
def import_(
    onnx_file: Path, out: Path, scale: float | None, shift: float | None, classes: str | None
) -> None:
    """Import the network of an ONNX file, to evaluate, inspect and export it.

    The network must be a chain of layers, as PyTorch, Keras (by tf2onnx) and scikit-learn (by
    skl2onnx) write them; needs the extra onnx. Its scores are compared with those of ONNX's
    reference evaluator before the checkpoint is written.

    \b
        lenet import net.onnx --out net.npz
        lenet import mnist.onnx --scale 0.012728 --shift -0.42421 --out mnist.npz
    """  # noqa: D301 - click's mark for lines to leave as they are
    from lenet.importing.network import import_onnx
    from lenet.training.checkpoint import save_checkpoint

    names = tuple(classes.split(",")) if classes is not None else None
    imported = import_onnx(onnx_file, scale, shift, names)
    save_checkpoint(out, imported.checkpoint)
    types = ", ".join(entry["type"] for entry in imported.checkpoint.model.layers)
    click.echo(
        f"{out}: {types}; from {imported.origin}; scores within {imported.difference:.1e} of ONNX's"
    )

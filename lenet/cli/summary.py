"""``lenet summary``: the layers of a network with their shapes, weights and multiply-adds."""

from __future__ import annotations

import json
from pathlib import Path

import click

from lenet.cli.options import CONFIG, JSON, SET
from lenet.config.reader import load_config


@click.command()
@click.argument("checkpoint", required=False, type=click.Path(path_type=Path))
@CONFIG
@SET
@JSON
def summary(
    checkpoint: Path | None, file: Path | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Show layers, shapes, patch matrices, weights, receptive fields and multiply-adds.

    Describes the network of CHECKPOINT or, without it, of a configuration. N is the batch size;
    multiply-adds are counted for the forward pass of one image.

    \b
        lenet summary
        lenet summary runs/mnist/best.npz
        lenet summary --set model.channels=[12,32] --json
    """  # noqa: D301 - click's mark for lines to leave as they are
    if checkpoint and (file or overrides):
        raise click.UsageError(
            "CHECKPOINT contains its own configuration: leave out --config and --set"
        )
    from dataclasses import asdict

    from lenet.models.lenet5 import lenet5_layers
    from lenet.nn.summary import summarize, to_table

    if checkpoint:
        from lenet.training.restore import read_checkpoint

        model = read_checkpoint(checkpoint).config.model
    else:
        model = load_config(file, overrides).model
    layers = lenet5_layers(
        activation=model.activation,
        pooling=model.pooling,
        channels=model.channels,
        units=model.units,
        classes=model.classes,
    )
    size = model.input_size
    rows = summarize(layers, (1, size, size))
    if as_json:
        totals = {
            "weights": sum(row.weights for row in rows),
            "multiply_adds": sum(row.multiply_adds for row in rows),
        }
        result = {
            "schema_version": 1,
            "model": asdict(model),
            "layers": [asdict(row) for row in rows],
            "totals": totals,
        }
        click.echo(json.dumps(result))
    else:
        click.echo(
            f"LeNet-5 of 1×{size}×{size} images, {model.activation}, {model.pooling} pooling"
        )
        click.echo()
        click.echo(to_table(rows))

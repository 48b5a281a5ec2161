"""``lenet summary``: the layers of a network with their shapes, weights and multiply-adds."""

from __future__ import annotations

import json
from pathlib import Path

import click

from lenet.cli.options import CONFIG, JSON, SET


@click.command()
@click.argument(
    "source", required=False, type=click.Path(path_type=Path), metavar="[NAME|FILE.yaml|CHECKPOINT]"
)
@CONFIG
@SET
@JSON
def summary(
    source: Path | None, file: Path | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Show layers, shapes, patch matrices, weights, receptive fields and multiply-adds.

    Describes a packaged network, the network of a configuration, or that of a checkpoint; without
    any, the default one. N is the batch size; multiply-adds are counted for the forward pass of
    one image.

    \b
        lenet summary
        lenet summary caffe-lenet
        lenet summary runs/mnist/best.npz
        lenet summary --set model.channels=[12,32] --json
    """  # noqa: D301 - click's mark for lines to leave as they are
    if source and (file or overrides):
        raise click.UsageError(
            "NAME, FILE.yaml or CHECKPOINT contains its own network: leave out --config and --set"
        )
    from lenet.train.summary import Summary

    found = Summary.of(source, file, overrides)
    click.echo(json.dumps(found.to_dict()) if as_json else found.to_text())

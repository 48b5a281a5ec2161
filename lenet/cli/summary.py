"""Show a network's layers, shapes, weights and multiply-adds.

Describes a packaged network, the network of a configuration, or that of a checkpoint; without any,
the default one. N is the batch size; multiply-adds are counted for the forward pass of one image.

\b
    lenet summary
    lenet summary caffe-lenet
    lenet summary runs/mnist/best.npz
    lenet summary --set model.channels=[12,32] --json
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from lenet.cli.options import CONFIG, JSON, SET


@click.command(help=__doc__)
@click.argument(
    "source", required=False, type=click.Path(path_type=Path), metavar="[NAME|FILE.yaml|CHECKPOINT]"
)
@CONFIG
@SET
@JSON
def command(
    source: Path | None, file: Path | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    if source and (file or overrides):
        raise click.UsageError(
            "NAME, FILE.yaml or CHECKPOINT contains its own network: leave out --config and --set"
        )
    from lenet.train.summary import Summary

    found = Summary.of(source, file, overrides)
    click.echo(json.dumps(found.to_dict()) if as_json else found.to_text())

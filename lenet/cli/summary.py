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
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet.cli.options import CONFIG, JSON, SET

if TYPE_CHECKING:
    from lenet.config.model_section import Model
    from lenet.models.specification import Specification


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
    from lenet.models.specification import built_layers
    from lenet.nn.summary import summarize, to_table

    model, specification = _network(source, file, overrides)
    layers = built_layers(specification.layers, specification.input_shape)
    rows = summarize(layers, specification.input_shape)
    if not as_json:
        click.echo(f"{_title(model, specification, len(rows))}\n\n{to_table(rows)}")
        return
    parameters = sum(row.weights for row in rows)
    result = {
        "schema_version": 1,
        "model": asdict(model),
        "input_shape": list(specification.input_shape),
        "parameters": parameters,
        "layers": [{"name": row.layer, **asdict(row)} for row in rows],
        "totals": {
            "weights": parameters,
            "multiply_adds": sum(row.multiply_adds for row in rows),
            "connections": sum(row.connections for row in rows),
        },
    }
    click.echo(json.dumps(result))


def _network(
    source: Path | None, file: Path | None, overrides: tuple[str, ...]
) -> tuple[Model, Specification]:
    """Return the network that the command line names: its section and its specification."""
    from lenet.checkpoint.restore import read_checkpoint
    from lenet.config.reader import load_config
    from lenet.config.schema import Config
    from lenet.models.packaged import MODELS

    if source is None:
        config = load_config(file, overrides).for_named_data()
    elif str(source) in MODELS:
        config = Config().with_values({"model.name": str(source)})
    elif source.suffix in (".yaml", ".yml"):
        config = load_config(source).for_named_data()
    else:
        checkpoint = read_checkpoint(source)
        return checkpoint.config.model, checkpoint.model
    return config.model, config.model.specification()


def _title(model: Model, specification: Specification, layers: int) -> str:
    images = f"{'×'.join(map(str, specification.input_shape))} images"
    if model.layers is not None:
        return f"{layers} layers for {images}"
    if model.name == "lenet5":
        return f"LeNet-5 of {images}, {model.activation}, {model.pooling} pooling"
    return f"{model.name} of {images}"

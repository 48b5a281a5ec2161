"""Print the complete configuration, with a comment above each key.

Without options, prints the defaults. Save the output, edit it and pass it to lenet train:

\b
    lenet config --set optimizer.lr=0.1 > mine.yaml
    lenet train --config mine.yaml
    lenet config --model caffe-lenet > mine.yaml
    lenet config --list
    lenet config --config mnist > mine.yaml
"""

from __future__ import annotations

from pathlib import Path

import click

from lenet.cli.options import CONFIG, SET
from lenet.config.packaged import descriptions
from lenet.config.reader import load_config
from lenet.config.schema import to_yaml
from lenet.models.packaged import MODELS
from lenet.system.text import table


@click.command(help=__doc__)
@CONFIG
@SET
@click.option(
    "--model",
    metavar="NAME",
    help=f"Print this packaged network as a list of layers to edit: {', '.join(MODELS)}.",
)
@click.option(
    "--list", "as_list", is_flag=True, help="List the packaged configurations, with their purpose."
)
def command(
    file: Path | None, overrides: tuple[str, ...], model: str | None, as_list: bool
) -> None:
    if as_list:
        click.echo(table(descriptions().items()))
        return
    # Bytes, so that the output is UTF-8 whatever the terminal's encoding.
    found = load_config(file, overrides)
    if model is not None:
        found = found.with_values({"model.name": model}).for_named_data().with_layers()
    click.echo(to_yaml(found).encode(), nl=False)

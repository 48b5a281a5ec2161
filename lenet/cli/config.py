"""``lenet config``: print the complete, commented configuration that a run would use."""

from __future__ import annotations

from pathlib import Path

import click

from lenet.cli.options import CONFIG, SET
from lenet.config.reader import load_config
from lenet.config.writer import to_yaml


@click.command()
@CONFIG
@SET
def config(file: Path | None, overrides: tuple[str, ...]) -> None:
    """Print the complete configuration, with a comment above each key.

    Without options, prints the defaults. Save the output, edit it and pass it to lenet train:

    \b
        lenet config --set optimizer.lr=0.1 > mine.yaml
        lenet train --config mine.yaml
    """  # noqa: D301 - click's mark for lines to leave as they are
    # Bytes, so that the output is UTF-8 whatever the terminal's encoding.
    click.echo(to_yaml(load_config(file, overrides)).encode(), nl=False)
